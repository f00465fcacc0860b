/** Domain-ids of one unit. */
import { refuse } from "@iommukit/core";

/** 0 means "absent" to a unit with caching mode, and 1 is what Linux keeps for itself: neither is given out. */
const FIRST = 2;

export class DomainIds {
  readonly #taken = new Set<number>();
  readonly #unit: string;
  readonly #bits: number;
  #next = FIRST;

  constructor(unit: string, bits: number) {
    this.#unit = unit;
    this.#bits = bits;
  }

  /** The lowest free id. @throws IommuError ENOSPC */
  take(): number {
    while (this.#taken.has(this.#next)) this.#next++;
    if (this.#next >= 2 ** this.#bits) refuse("ENOSPC", `${this.#unit} has no domain-id left of ${2 ** this.#bits}`, { rule: "CAP.ND" });
    this.#taken.add(this.#next);
    return this.#next++;
  }

  free(id: number): void {
    this.#taken.delete(id);
    this.#next = Math.min(this.#next, id);
  }
}
