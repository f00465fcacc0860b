/** A cache of configuration structures (SMMU 3.3.2, 4.3): words as they were fetched, by StreamID and an index. */
export class StructureCache {
  readonly #words: Uint32Array;
  readonly #streams: Float64Array;
  readonly #indices: Float64Array;
  readonly #size: number;
  readonly #slots: number;

  /** @param slots a power of two, or 0 for a cache that holds nothing @param size 32-bit words of one structure */
  constructor(slots: number, size: number) {
    if (slots !== 0 && !Number.isInteger(Math.log2(slots))) throw new RangeError(`a configuration cache of ${slots} entries: not a power of two`);
    this.#slots = slots;
    this.#size = size;
    this.#words = new Uint32Array(slots * size);
    this.#streams = new Float64Array(slots).fill(-1);
    this.#indices = new Float64Array(slots).fill(-1);
  }

  /** Copies a cached structure; false when it is not there. */
  load(stream: number, index: number, target: Uint32Array): boolean {
    const slot = this.#slot(stream, index);
    if (slot === -1 || this.#streams[slot] !== stream || this.#indices[slot] !== index) return false;
    target.set(this.#words.subarray(slot * this.#size, (slot + 1) * this.#size));
    return true;
  }

  store(stream: number, index: number, source: Uint32Array): void {
    const slot = this.#slot(stream, index);
    if (slot === -1) return;
    this.#streams[slot] = stream;
    this.#indices[slot] = index;
    this.#words.set(source.subarray(0, this.#size), slot * this.#size);
  }

  /** True when some cached structure `matches`. */
  some(matches: (stream: number, words: Uint32Array) => boolean): boolean {
    return this.#streams.some((stream, slot) => stream !== -1 && matches(stream, this.#words.subarray(slot * this.#size, (slot + 1) * this.#size)));
  }

  /** Forgets every structure that `matches`; returns how many. */
  remove(matches: (stream: number, index: number) => boolean): number {
    let removed = 0;
    for (let slot = 0; slot < this.#slots; slot++) {
      if (this.#streams[slot] === -1 || !matches(this.#streams[slot], this.#indices[slot])) continue;
      this.#streams[slot] = -1;
      removed++;
    }
    return removed;
  }

  #slot(stream: number, index: number): number {
    return this.#slots === 0 ? -1 : ((stream | 0) ^ Math.imul(index | 0, 0x9e3779b1)) & (this.#slots - 1);
  }
}
