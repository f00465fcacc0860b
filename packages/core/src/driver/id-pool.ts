/** Numbers that a driver gives out and takes back: domain-ids, ASIDs, VMIDs. */
import { refuse } from "../errors.js";

export class IdPool {
  readonly #taken = new Set<number>();
  readonly #what: string;
  readonly #rule: string;
  readonly #bits: number;
  #next: number;

  /**
   * @param what of a refusal: "domain-id of vtd0"
   * @param rule where the unit says how many there are
   * @param first lowest number that is given out
   */
  constructor(what: string, rule: string, bits: number, first: number) {
    this.#what = what;
    this.#rule = rule;
    this.#bits = bits;
    this.#next = first;
  }

  /** The lowest free number. @throws IommuError ENOSPC */
  take(): number {
    while (this.#taken.has(this.#next)) this.#next++;
    if (this.#next >= 2 ** this.#bits) refuse("ENOSPC", `no ${this.#what} is left of ${2 ** this.#bits}`, { rule: this.#rule });
    this.#taken.add(this.#next);
    return this.#next++;
  }

  free(id: number): void {
    this.#taken.delete(id);
    this.#next = Math.min(this.#next, id);
  }
}
