/** The interrupt entry cache (VT-d 6.2.1.3 and 6.5.2.7): direct-mapped by index, of a size of its own. It holds entries without a fault only. */

export class InterruptCache {
  readonly #indexes: Int32Array;
  readonly #words: BigUint64Array;

  /** @param entries a power of two, or 0 for a unit that caches none */
  constructor(entries: number) {
    if (entries !== 0 && (entries & (entries - 1)) !== 0) throw new RangeError(`an interrupt entry cache has a power of two of entries, not ${entries}`);
    this.#indexes = new Int32Array(entries).fill(-1);
    this.#words = new BigUint64Array(2 * entries);
  }

  /** Copies the entry's two words into `out`. False when it is not cached. */
  lookup(index: number, out: BigUint64Array): boolean {
    const slot = index & (this.#indexes.length - 1);
    if (this.#indexes.length === 0 || this.#indexes[slot] !== index) return false;
    out[0] = this.#words[2 * slot];
    out[1] = this.#words[2 * slot + 1];
    return true;
  }

  insert(index: number, words: BigUint64Array): void {
    if (this.#indexes.length === 0) return;
    const slot = index & (this.#indexes.length - 1);
    this.#indexes[slot] = index;
    this.#words.set(words, 2 * slot);
  }

  /** Removes everything, or the 2^mask indexes around `index`. Returns how many went. */
  remove(global: boolean, index: number, mask: number): number {
    let removed = 0;
    for (const [slot, held] of this.#indexes.entries()) {
      if (held === -1 || (!global && held >>> mask !== index >>> mask)) continue;
      this.#indexes[slot] = -1;
      removed++;
    }
    return removed;
  }
}
