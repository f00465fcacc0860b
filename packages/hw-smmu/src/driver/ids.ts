/** ASIDs or VMIDs of one unit. */
import { refuse } from "@iommukit/core";

/** 0 is what entries without an ASID or VMID of their own carry: it is not given out. */
const FIRST = 1;

export class Ids {
  readonly #taken = new Set<number>();
  readonly #what: string;
  readonly #bits: number;
  #next = FIRST;

  constructor(what: string, bits: number) {
    this.#what = what;
    this.#bits = bits;
  }

  /** The lowest free id. @throws IommuError ENOSPC */
  take(): number {
    while (this.#taken.has(this.#next)) this.#next++;
    if (this.#next >= 2 ** this.#bits) refuse("ENOSPC", `no ${this.#what} is left of ${2 ** this.#bits}`, { rule: this.#what });
    this.#taken.add(this.#next);
    return this.#next++;
  }

  free(id: number): void {
    this.#taken.delete(id);
    this.#next = Math.min(this.#next, id);
  }
}
