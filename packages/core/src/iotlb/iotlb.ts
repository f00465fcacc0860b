/**
 * A set-associative translation cache in typed arrays.
 *
 * A look-up compares two exact 32-bit tags and the page; what the tags mean is
 * the vendor's business (VT-d: source-id and PASID). Each entry also carries two
 * *groups* that invalidations select on (VT-d: domain-id and PASID), which is how the
 * manuals describe caches: looked up by one key, invalidated by another.
 * Entries of any page size live together; only sizes that are present are probed.
 *
 * Before the set is searched, a *hint* is tried: the slot that last answered for this
 * hash of tags and page. It is checked in full, so a stale hint costs a search and nothing else.
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

/** An entry as `entries` shows it; pages are the first of its input and of its output. */
export interface IotlbEntry {
  readonly tagA: number;
  readonly tagB: number;
  readonly page: number;
  readonly outPage: number;
  readonly data: number;
}

/** Enough that pages of a full cache seldom share a hint. */
const HINTS_PER_SLOT = 4;

/** A slot's record of words, and its log2 size. */
const TAG_A = 0;
const TAG_B = 1;
const DATA = 2;
const SHIFT = 3;
const GROUP_A = 4;
const GROUP_B = 5;
const WORDS_SHIFT = 3;
/** A slot's record of doubles, and its log2 size. */
const PAGE = 0;
const PAGES = 1;
const OUT = 2;
const SPANS_SHIFT = 2;

export class Iotlb {
  readonly capacity: number;
  readonly stats: IotlbStatistics = { hits: 0, misses: 0, inserts: 0, evictions: 0, removed: 0 };

  // `private`, not `#`: a field that is stored once is a constant to V8, and a #field is stored twice.
  /** By slot, eight words: tags, data, log2 of the entry's bytes (0 = empty slot), groups. */
  private readonly words: Int32Array;
  /** By slot, four doubles: first input page, pages (0 = empty slot), output page of the first. */
  private readonly spans: Float64Array;
  private readonly ways: number;
  private readonly setMask: number;
  private readonly hints: Int32Array;
  private readonly hintMask: number;
  /** Next way to replace, by set. */
  private readonly victim: Uint8Array;
  /** Entries per page shift, and the shifts that have any. */
  readonly #count = new Int32Array(64);
  readonly #shifts = new Uint8Array(64);
  #shiftCount = 0;

  constructor({ sets, ways }: IotlbGeometry) {
    if (sets !== 0 && (!Number.isInteger(Math.log2(sets)) || !Number.isInteger(ways) || ways < 1 || ways > 255)) {
      throw new RangeError(`an IOTLB of ${sets} sets and ${ways} ways: sets must be a power of two or 0, ways 1 to 255`);
    }
    this.capacity = sets * ways;
    this.ways = ways;
    this.setMask = sets - 1;
    // Slot 0 exists, and stays empty, even in a cache that holds nothing: hints need a slot to name.
    const slots = Math.max(this.capacity, 1);
    const hints = 2 ** Math.ceil(Math.log2(slots * HINTS_PER_SLOT));
    this.hints = new Int32Array(hints);
    this.hintMask = hints - 1;
    this.words = new Int32Array(slots << WORDS_SHIFT);
    this.spans = new Float64Array(slots << SPANS_SHIFT);
    this.victim = new Uint8Array(Math.max(sets, 1));
  }

  /** Slot of the entry that covers `page` under both tags; -1 for a miss. */
  lookup(tagA: number, tagB: number, page: number): number {
    const slot = this.hints[hash(tagA, tagB, page) & this.hintMask];
    const word = slot << WORDS_SHIFT;
    const span = slot << SPANS_SHIFT;
    const offset = page - this.spans[span + PAGE];
    if (offset >= 0 && offset < this.spans[span + PAGES] && this.words[word + TAG_A] === tagA && this.words[word + TAG_B] === tagB) {
      this.stats.hits++;
      return slot;
    }
    return this.#search(tagA, tagB, page);
  }

  /** Output page for an input page that the slot's entry covers. */
  output(slot: number, page: number): number {
    const span = slot << SPANS_SHIFT;
    return this.spans[span + OUT] + (page - this.spans[span + PAGE]);
  }

  /** Output page for the first input page that the slot's entry covers. */
  firstOutput(slot: number): number {
    return this.spans[(slot << SPANS_SHIFT) + OUT];
  }

  /** What the owner gave with the slot's entry: permissions, flags. */
  data(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + DATA];
  }

  /** log2 of the bytes that the slot's entry covers. */
  shift(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + SHIFT];
  }

  /** Slot of the entry of exactly 2^pageShift bytes around `page`; -1 for a miss. Not counted, leaves no hint. */
  find(tagA: number, tagB: number, page: number, pageShift: number): number {
    if (this.#count[pageShift] === 0) return -1;
    const base = page - (page % 2 ** (pageShift - 12));
    let slot = this.#set(tagA, tagB, base, pageShift) * this.ways;
    for (const end = slot + this.ways; slot < end; slot++) if (this.#holds(slot, tagA, tagB, base, pageShift)) return slot;
    return -1;
  }

  #search(tagA: number, tagB: number, page: number): number {
    for (let i = 0; i < this.#shiftCount; i++) {
      const shift = this.#shifts[i];
      const base = page - (page % 2 ** (shift - 12));
      let slot = this.#set(tagA, tagB, base, shift) * this.ways;
      const end = slot + this.ways;
      for (; slot < end; slot++) {
        if (this.#holds(slot, tagA, tagB, base, shift)) {
          this.hints[hash(tagA, tagB, page) & this.hintMask] = slot;
          this.stats.hits++;
          return slot;
        }
      }
    }
    this.stats.misses++;
    return -1;
  }

  #holds(slot: number, tagA: number, tagB: number, base: number, pageShift: number): boolean {
    const word = slot << WORDS_SHIFT;
    return (
      this.spans[(slot << SPANS_SHIFT) + PAGE] === base &&
      this.words[word + SHIFT] === pageShift &&
      this.words[word + TAG_A] === tagA &&
      this.words[word + TAG_B] === tagB
    );
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
    const pages = 2 ** (pageShift - 12);
    const offset = page % pages;
    const base = page - offset;
    const set = this.#set(tagA, tagB, base, pageShift);
    const slot = this.#place(set, tagA, tagB, base, pageShift);
    if (!this.#isEmpty(slot)) {
      this.#forget(slot);
      this.stats.evictions++;
    }
    if (this.#count[pageShift]++ === 0) this.#shifts[this.#shiftCount++] = pageShift;
    const word = slot << WORDS_SHIFT;
    this.words[word + TAG_A] = tagA;
    this.words[word + TAG_B] = tagB;
    this.words[word + DATA] = data;
    this.words[word + SHIFT] = pageShift;
    this.words[word + GROUP_A] = groupA;
    this.words[word + GROUP_B] = groupB;
    const span = slot << SPANS_SHIFT;
    this.spans[span + PAGE] = base;
    this.spans[span + PAGES] = pages;
    this.spans[span + OUT] = outPage - offset;
    this.hints[hash(tagA, tagB, page) & this.hintMask] = slot;
    this.stats.inserts++;
    return slot;
  }

  /** Every entry, for those who look from outside. */
  *entries(): Generator<IotlbEntry> {
    for (let slot = 0; slot < this.capacity; slot++) {
      if (this.#isEmpty(slot)) continue;
      const word = slot << WORDS_SHIFT;
      const span = slot << SPANS_SHIFT;
      yield { tagA: this.words[word + TAG_A], tagB: this.words[word + TAG_B], page: this.spans[span + PAGE], outPage: this.spans[span + OUT], data: this.words[word + DATA] };
    }
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
      if (this.#isEmpty(slot)) continue;
      const word = slot << WORDS_SHIFT;
      if ((this.words[word + GROUP_A] & maskA) !== valueA || (this.words[word + GROUP_B] & maskB) !== valueB) continue;
      const span = slot << SPANS_SHIFT;
      const first = this.spans[span + PAGE];
      if (first > lastPage || first + this.spans[span + PAGES] - 1 < firstPage) continue;
      this.#forget(slot);
      removed++;
    }
    this.stats.removed += removed;
    return removed;
  }

  /** Where an entry goes: over one of the same key, else into an empty way, else round-robin. */
  #place(set: number, tagA: number, tagB: number, base: number, pageShift: number): number {
    const first = set * this.ways;
    let empty = -1;
    for (let slot = first; slot < first + this.ways; slot++) {
      if (this.#isEmpty(slot)) {
        if (empty === -1) empty = slot;
      } else if (this.#holds(slot, tagA, tagB, base, pageShift)) {
        return slot;
      }
    }
    if (empty !== -1) return empty;
    const way = this.victim[set];
    this.victim[set] = (way + 1) % this.ways;
    return first + way;
  }

  #isEmpty(slot: number): boolean {
    return this.spans[(slot << SPANS_SHIFT) + PAGES] === 0;
  }

  #forget(slot: number): void {
    const shift = this.words[(slot << WORDS_SHIFT) + SHIFT];
    this.words[(slot << WORDS_SHIFT) + SHIFT] = 0;
    this.spans[(slot << SPANS_SHIFT) + PAGES] = 0;
    if (--this.#count[shift] > 0) return;
    let i = 0;
    while (this.#shifts[i] !== shift) i++;
    this.#shifts[i] = this.#shifts[--this.#shiftCount];
  }

  #set(tagA: number, tagB: number, base: number, shift: number): number {
    return hash(tagA, tagB, base / 2 ** (shift - 12)) & this.setMask;
  }
}

/** Neighbouring pages fall into neighbouring places. */
function hash(tagA: number, tagB: number, page: number): number {
  return (page | 0) ^ Math.imul(tagA, 0x9e3779b1) ^ Math.imul(tagB, 0x85ebca6b);
}
