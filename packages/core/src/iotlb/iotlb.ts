/**
 * A set-associative translation cache in typed arrays.
 *
 * A look-up compares two exact 32-bit tags and the page; what the tags mean is
 * the vendor's business (VT-d: source-id and PASID). Each entry also carries two
 * *groups* that invalidations select on (VT-d: domain-id and PASID), which is how the
 * manuals describe caches: looked up by one key, invalidated by another.
 * Entries of any page size live together; only sizes that are present are probed.
 */

export interface IotlbGeometry {
  /** A power of two; 0 makes a cache that holds nothing. */
  readonly sets: number;
  readonly ways: number;
}

export interface IotlbStatistics {
  hits: number;
  misses: number;
  inserts: number;
  evictions: number;
  removed: number;
}

export class Iotlb {
  readonly capacity: number;
  /** Output 4 KiB page that the entry's first page maps to, by slot. */
  readonly outPage: Float64Array;
  /** First input page of the entry, by slot. */
  readonly page: Float64Array;
  /** Whatever the owner keeps: permissions, flags. */
  readonly data: Int32Array;
  /** log2 of the entry's bytes; 0 = empty slot. */
  readonly pageShift: Uint8Array;
  readonly stats: IotlbStatistics = { hits: 0, misses: 0, inserts: 0, evictions: 0, removed: 0 };

  readonly #tagA: Int32Array;
  readonly #tagB: Int32Array;
  readonly #groupA: Int32Array;
  readonly #groupB: Int32Array;
  readonly #ways: number;
  readonly #setMask: number;
  /** Next way to replace, by set. */
  readonly #victim: Uint8Array;
  /** Entries per page shift, and the shifts that have any. */
  readonly #count = new Int32Array(64);
  readonly #shifts = new Uint8Array(64);
  #shiftCount = 0;

  constructor({ sets, ways }: IotlbGeometry) {
    if (sets !== 0 && (!Number.isInteger(Math.log2(sets)) || !Number.isInteger(ways) || ways < 1 || ways > 255)) {
      throw new RangeError(`an IOTLB of ${sets} sets and ${ways} ways: sets must be a power of two or 0, ways 1 to 255`);
    }
    this.capacity = sets * ways;
    this.#ways = ways;
    this.#setMask = sets - 1;
    this.outPage = new Float64Array(this.capacity);
    this.page = new Float64Array(this.capacity);
    this.data = new Int32Array(this.capacity);
    this.pageShift = new Uint8Array(this.capacity);
    this.#tagA = new Int32Array(this.capacity);
    this.#tagB = new Int32Array(this.capacity);
    this.#groupA = new Int32Array(this.capacity);
    this.#groupB = new Int32Array(this.capacity);
    this.#victim = new Uint8Array(Math.max(sets, 1));
  }

  /** Slot of the entry that covers `page` under both tags; -1 for a miss. */
  lookup(tagA: number, tagB: number, page: number): number {
    for (let i = 0; i < this.#shiftCount; i++) {
      const shift = this.#shifts[i];
      const base = shift === 12 ? page : page - (page % 2 ** (shift - 12));
      let slot = this.#set(tagA, tagB, base, shift) * this.#ways;
      const end = slot + this.#ways;
      for (; slot < end; slot++) {
        if (
          this.page[slot] === base &&
          this.#tagA[slot] === tagA &&
          this.#tagB[slot] === tagB &&
          this.pageShift[slot] === shift
        ) {
          this.stats.hits++;
          return slot;
        }
      }
    }
    this.stats.misses++;
    return -1;
  }

  /**
   * Caches a translation of 2^pageShift bytes around `page`; `outPage` is the output
   * page of `page` itself. Replaces an entry of the same key and size. Returns the slot, -1 when the capacity is 0.
   */
  insert(
    tagA: number,
    tagB: number,
    page: number,
    pageShift: number,
    outPage: number,
    data: number,
    groupA: number,
    groupB: number,
  ): number {
    if (this.capacity === 0) return -1;
    const offset = page % 2 ** (pageShift - 12);
    const base = page - offset;
    const set = this.#set(tagA, tagB, base, pageShift);
    const slot = this.#place(set, tagA, tagB, base, pageShift);
    if (this.pageShift[slot] !== 0) {
      this.#forget(slot);
      this.stats.evictions++;
    }
    if (this.#count[pageShift]++ === 0) this.#shifts[this.#shiftCount++] = pageShift;
    this.#tagA[slot] = tagA;
    this.#tagB[slot] = tagB;
    this.page[slot] = base;
    this.pageShift[slot] = pageShift;
    this.outPage[slot] = outPage - offset;
    this.data[slot] = data;
    this.#groupA[slot] = groupA;
    this.#groupB[slot] = groupB;
    this.stats.inserts++;
    return slot;
  }

  /** Empties the cache; returns how many entries it held. */
  removeAll(): number {
    return this.removeWhere(0, 0, 0, 0, 0, Infinity);
  }

  /**
   * Removes every entry with (groupA & maskA) === valueA and (groupB & maskB) === valueB
   * that shares a page with [firstPage, lastPage]. Returns how many there were.
   */
  removeWhere(maskA: number, valueA: number, maskB: number, valueB: number, firstPage: number, lastPage: number): number {
    let removed = 0;
    for (let slot = 0; slot < this.capacity; slot++) {
      const shift = this.pageShift[slot];
      if (shift === 0) continue;
      if ((this.#groupA[slot] & maskA) !== valueA || (this.#groupB[slot] & maskB) !== valueB) continue;
      const first = this.page[slot];
      if (first > lastPage || first + 2 ** (shift - 12) - 1 < firstPage) continue;
      this.#forget(slot);
      removed++;
    }
    this.stats.removed += removed;
    return removed;
  }

  /** Where an entry goes: over one of the same key, else into an empty way, else round-robin. */
  #place(set: number, tagA: number, tagB: number, base: number, pageShift: number): number {
    const first = set * this.#ways;
    let empty = -1;
    for (let slot = first; slot < first + this.#ways; slot++) {
      if (this.pageShift[slot] === 0) {
        if (empty === -1) empty = slot;
      } else if (
        this.page[slot] === base &&
        this.pageShift[slot] === pageShift &&
        this.#tagA[slot] === tagA &&
        this.#tagB[slot] === tagB
      ) {
        return slot;
      }
    }
    if (empty !== -1) return empty;
    const way = this.#victim[set];
    this.#victim[set] = (way + 1) % this.#ways;
    return first + way;
  }

  #forget(slot: number): void {
    const shift = this.pageShift[slot];
    this.pageShift[slot] = 0;
    if (--this.#count[shift] > 0) return;
    let i = 0;
    while (this.#shifts[i] !== shift) i++;
    this.#shifts[i] = this.#shifts[--this.#shiftCount];
  }

  #set(tagA: number, tagB: number, base: number, shift: number): number {
    const low = shift === 12 ? base | 0 : (base / 2 ** (shift - 12)) | 0;
    return (low ^ Math.imul(tagA, 0x9e3779b1) ^ Math.imul(tagB, 0x85ebca6b)) & this.#setMask;
  }
}
