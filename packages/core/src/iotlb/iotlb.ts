/**
 * A set-associative translation cache in typed arrays.
 *
 * A look-up compares two exact 32-bit tags and the page; what the tags mean is
 * the vendor's business (VT-d: source-id and PASID). Each entry also carries two
 * *groups* that invalidations select on (VT-d: domain-id and PASID), which is how the
 * manuals describe caches: looked up by one key, invalidated by another.
 * Entries of any page size live together; only sizes that are present are probed.
 *
 * Sets and ways say what is kept. What is found is found in a hash table of chains by page, which also tells an invalidation of a few pages
 * where to look. Where requesters use the same pages, or pages are large, a *hint* spares the way along the chain: the slot that last
 * answered for this hash of tags and page, which is checked in full, so that a wrong one costs a search and nothing else.
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
  removed: number;
}

/** An entry as one looks at it from outside. */
export interface IotlbEntry {
  readonly tagA: number;
  readonly tagB: number;
  readonly page: number;
  readonly outPage: number;
  readonly data: number;
}

/** Pages of an entry, and one over that, by log2 of its bytes: powers and remainders of doubles are slow. */
const PAGES_OF = Float64Array.from({ length: 64 }, (_, shift) => 2 ** (shift - 12));
const SCALE_OF = Float64Array.from({ length: 64 }, (_, shift) => 2 ** (12 - shift));

/** So many that a page that is not there finds its chain empty, which the processor then guesses right; hints may be shared more often. */
const CHAINS_PER_SLOT = 16;
const HINTS_PER_SLOT = 4;
/** Slots are kept as 16 bits: more of the chains stay in the processor's cache. */
const MOST = 0xffff;
/** Pages that an invalidation looks up one by one. */
const FEW = 64;

/**
 * A slot's record is one cache line of 64 bytes, three doubles and nine words, seen through two arrays: a double's index is
 * `slot << SPANS_SHIFT | name`, a word's `slot << WORDS_SHIFT | name`.
 */
const SPANS_SHIFT = 3;
const PAGE = 0;
const PAGES = 1;
const OUT = 2;
const WORDS_SHIFT = 4;
const TAG_A = 6;
const TAG_B = 7;
const GROUP_A = 8;
const GROUP_B = 9;
const KEY = 10;
const DATA = 11;
const CHAIN = 12;
const NEXT = 13;
const AFTER = 14;

const SMALL = 12;

/** Tags and groups of what is cached for one requester, kept together because they come with every page. */
export class IotlbKey {
  tagA = 0;
  tagB = 0;
  groupA = 0;
  groupB = 0;
  /** What the tags make of a page's place. */
  hash = 0;
  /** What an entry keeps to say that it has the tags and groups of this key, so that they need not be written again. -1: the key may change. */
  readonly id: number;

  constructor(id = -1) {
    this.id = id;
  }

  set(tagA: number, tagB: number, groupA: number, groupB: number): void {
    this.tagA = tagA;
    this.tagB = tagB;
    this.groupA = groupA;
    this.groupB = groupB;
    this.hash = hash(tagA, tagB, 0);
  }
}

export class Iotlb {
  readonly capacity: number;

  // `private`, not `#`: a field that is stored once is a constant to V8, and a #field is stored twice.
  /** By slot: tags, groups, the key that they are of, data, its chain, the slot after it there, the slot replaced after it. Slot 0 is nobody's. */
  private readonly words: Int32Array;
  /** By slot: first input page, pages (0 = empty slot), output page of the first. */
  private readonly spans: Float64Array;
  private readonly ways: number;
  private readonly setMask: number;
  /** First slot of each chain of pages, 0 for none. */
  private readonly chains: Uint16Array;
  private readonly hints: Uint16Array;
  private readonly chainMask: number;
  /** Next slot to replace, by set: a free one after a removal. */
  private readonly victims: Uint16Array;
  /** Sizes above 4 KiB that may be present, by log2 of their bytes: all that have been since the cache was last seen empty. */
  private readonly present: Uint8Array = new Uint8Array(64);
  /** The same as a list, and how long it is. */
  private readonly large: number[] = [];
  private sizes = 0;
  readonly #key = new IotlbKey();
  #keys = 0;
  private lookups = 0;
  private misses = 0;
  private inserts = 0;
  private removed = 0;
  /** Insertions when the cache was last seen empty. */
  #emptyAt = 0;

  constructor({ sets, ways }: IotlbGeometry) {
    if (sets !== 0 && (!Number.isInteger(Math.log2(sets)) || !Number.isInteger(ways) || ways < 1 || ways > 255)) {
      throw new RangeError(`an IOTLB of ${sets} sets and ${ways} ways: sets must be a power of two or 0, ways 1 to 255`);
    }
    this.capacity = sets * ways;
    if (this.capacity > MOST) throw new RangeError(`an IOTLB of ${sets} sets and ${ways} ways: there are at most ${MOST} entries`);
    this.ways = ways;
    this.setMask = Math.max(sets, 1) - 1;
    const slots = this.capacity + 1;
    this.chains = new Uint16Array(powerAbove(slots * CHAINS_PER_SLOT));
    this.chainMask = this.chains.length - 1;
    this.hints = new Uint16Array(powerAbove(slots * HINTS_PER_SLOT));
    const records = new ArrayBuffer(slots * 64);
    this.words = new Int32Array(records);
    this.spans = new Float64Array(records);
    this.victims = Uint16Array.from({ length: Math.max(sets, 1) }, (_, set) => Math.min(set * ways + 1, this.capacity));
    for (let slot = 1; slot < slots; slot++) this.words[(slot << WORDS_SHIFT) | AFTER] = slot % ways === 0 ? slot - ways + 1 : slot + 1;
  }

  get stats(): IotlbStatistics {
    const { lookups, misses, inserts, removed } = this;
    return { hits: lookups - misses, misses, inserts, removed };
  }

  /** A key for `add` that stays as it is. */
  key(tagA: number, tagB: number, groupA: number, groupB: number): IotlbKey {
    const key = new IotlbKey(this.#keys === 0x7fff_ffff ? -1 : ++this.#keys);
    key.set(tagA, tagB, groupA, groupB);
    return key;
  }

  /** Slot of the entry that covers `page` under both tags; -1 for a miss. */
  lookup(tagA: number, tagB: number, page: number): number {
    this.lookups++;
    const slot = this.chains[(page | 0) & this.chainMask];
    if (slot === 0 && this.sizes === 0) {
      this.misses++;
      return -1;
    }
    return this.#covers(slot, tagA, tagB, page) ? slot : this.#search(slot, tagA, tagB, page);
  }

  /** Output page for an input page that the slot's entry covers. */
  output(slot: number, page: number): number {
    const span = slot << SPANS_SHIFT;
    return this.spans[span | OUT] + (page - this.spans[span | PAGE]);
  }

  /** Output page for the first input page that the slot's entry covers. */
  firstOutput(slot: number): number {
    return this.spans[(slot << SPANS_SHIFT) | OUT];
  }

  /** What the owner gave with the slot's entry: permissions, flags. */
  data(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) | DATA];
  }

  tagA(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) | TAG_A];
  }

  tagB(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) | TAG_B];
  }

  /** log2 of the bytes that the slot's entry covers. */
  shift(slot: number): number {
    return SMALL + Math.log2(this.spans[(slot << SPANS_SHIFT) | PAGES]);
  }

  /** Slot of the entry of exactly 2^pageShift bytes around `page`; -1 for a miss. Not counted, leaves no hint. */
  find(tagA: number, tagB: number, page: number, pageShift: number): number {
    if (pageShift !== SMALL && this.present[pageShift] === 0) return -1;
    return this.#along(this.chains[place(page * SCALE_OF[pageShift], pageShift) & this.chainMask], tagA, tagB, page, pageShift);
  }

  #search(first: number, tagA: number, tagB: number, page: number): number {
    const hint = hash(tagA, tagB, page) & (this.hints.length - 1);
    const hinted = this.hints[hint];
    if (this.#covers(hinted, tagA, tagB, page)) return hinted;
    let slot = first === 0 ? -1 : this.#along(first, tagA, tagB, page, SMALL);
    for (let i = 0; slot === -1 && i < this.large.length; i++) slot = this.find(tagA, tagB, page, this.large[i]);
    if (slot === -1) this.misses++;
    else this.hints[hint] = slot;
    return slot;
  }

  /** The first entry of that size, from `slot` on along its chain, that covers the page. */
  #along(from: number, tagA: number, tagB: number, page: number, pageShift: number): number {
    for (let slot = from; slot !== 0; slot = this.words[(slot << WORDS_SHIFT) | NEXT]) {
      if (this.spans[(slot << SPANS_SHIFT) | PAGES] === PAGES_OF[pageShift] && this.#covers(slot, tagA, tagB, page)) return slot;
    }
    return -1;
  }

  #covers(slot: number, tagA: number, tagB: number, page: number): boolean {
    const word = slot << WORDS_SHIFT;
    const span = slot << SPANS_SHIFT;
    const offset = page - this.spans[span | PAGE];
    return offset >= 0 && offset < this.spans[span | PAGES] && this.words[word | TAG_A] === tagA && this.words[word | TAG_B] === tagB;
  }

  /**
   * Caches a translation of 2^pageShift bytes around `page`; `outPage` is the output
   * page of `page` itself. Replaces an entry of the same key and size. Returns the slot, -1 when the capacity is 0.
   */
  insert(tagA: number, tagB: number, page: number, pageShift: number, outPage: number, data: number, groupA: number, groupB: number): number {
    if (this.capacity === 0) return -1;
    const same = this.find(tagA, tagB, page, pageShift);
    if (same !== -1) this.#forget(same);
    const key = this.#key;
    key.set(tagA, tagB, groupA, groupB);
    if (pageShift === SMALL) return this.add(key, page, outPage, data);
    if (this.present[pageShift] === 0) {
      this.present[pageShift] = 1;
      this.sizes = this.large.push(pageShift);
    }
    const pages = PAGES_OF[pageShift];
    const number = Math.floor(page * SCALE_OF[pageShift]);
    const slot = this.add(key, place(number, pageShift), 0, data);
    const span = slot << SPANS_SHIFT;
    this.spans[span | PAGE] = number * pages;
    this.spans[span | PAGES] = pages;
    this.spans[span | OUT] = outPage - (page - number * pages);
    return slot;
  }

  /**
   * Caches a page of 4 KiB that a look-up has just missed, so that nothing is there to replace. With no capacity it goes to slot 0, where nobody
   * looks. The record's words are counted here, not named: a module's constant is as long as a call in what V8 counts when it decides what to inline.
   */
  add(key: IotlbKey, page: number, outPage: number, data: number): number {
    const { words, spans, chains, victims } = this;
    // Round-robin, but first where something was removed.
    const set = ((page | 0) ^ key.hash) & this.setMask;
    const slot = victims[set];
    const word = slot << 4;
    const span = slot << 3;
    victims[set] = words[word | 14];
    if (spans[span | 1] !== 0) {
      // Most chains are of one.
      const old = words[word | 12];
      if (chains[old] === slot) chains[old] = words[word | 13];
      else this.#unlink(slot);
    }
    if (words[word | 10] !== key.id) this.#own(word, key);
    words[word | 11] = data;
    const chain = page & this.chainMask;
    words[word | 12] = chain;
    words[word | 13] = chains[chain];
    chains[chain] = slot;
    spans[span] = page;
    spans[span | 1] = 1;
    spans[span | 2] = outPage;
    this.inserts++;
    return slot;
  }

  #own(word: number, key: IotlbKey): void {
    const { words } = this;
    words[word | TAG_A] = key.tagA;
    words[word | TAG_B] = key.tagB;
    words[word | GROUP_A] = key.groupA;
    words[word | GROUP_B] = key.groupB;
    words[word | KEY] = Math.max(key.id, 0);
  }

  /** Every entry, for those who look from outside. */
  *entries(): Generator<IotlbEntry> {
    for (let slot = 1; slot <= this.capacity; slot++) {
      if (this.#isEmpty(slot)) continue;
      const word = slot << WORDS_SHIFT;
      const span = slot << SPANS_SHIFT;
      yield { tagA: this.words[word | TAG_A], tagB: this.words[word | TAG_B], page: this.spans[span | PAGE], outPage: this.spans[span | OUT], data: this.words[word | DATA] };
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
    if (this.#emptyAt === this.inserts) return 0;
    const few = lastPage - firstPage < FEW;
    const removed = few ? this.#removePages(maskA, valueA, maskB, valueB, firstPage, lastPage) : this.#removeBySlot(maskA, valueA, maskB, valueB, firstPage, lastPage);
    this.removed += removed;
    return removed;
  }

  #removePages(maskA: number, valueA: number, maskB: number, valueB: number, firstPage: number, lastPage: number): number {
    let removed = 0;
    for (let page = firstPage; page <= lastPage; page++) removed += this.#removeChain((page | 0) & this.chainMask, maskA, valueA, maskB, valueB, firstPage, lastPage);
    for (const shift of this.large) {
      const last = Math.floor(lastPage * SCALE_OF[shift]);
      for (let number = Math.floor(firstPage * SCALE_OF[shift]); number <= last; number++) {
        removed += this.#removeChain(place(number, shift) & this.chainMask, maskA, valueA, maskB, valueB, firstPage, lastPage);
      }
    }
    return removed;
  }

  #removeChain(chain: number, maskA: number, valueA: number, maskB: number, valueB: number, firstPage: number, lastPage: number): number {
    let removed = 0;
    for (let slot = this.chains[chain]; slot !== 0; ) {
      const next = this.words[(slot << WORDS_SHIFT) | NEXT];
      if (this.#isSelected(slot, maskA, valueA, maskB, valueB, firstPage, lastPage)) {
        this.#forget(slot);
        removed++;
      }
      slot = next;
    }
    return removed;
  }

  #removeBySlot(maskA: number, valueA: number, maskB: number, valueB: number, firstPage: number, lastPage: number): number {
    let removed = 0;
    let kept = 0;
    for (let slot = 1; slot <= this.capacity; slot++) {
      if (this.#isEmpty(slot)) continue;
      kept++;
      if (!this.#isSelected(slot, maskA, valueA, maskB, valueB, firstPage, lastPage)) continue;
      this.#forget(slot);
      removed++;
    }
    if (kept === removed) this.#empty();
    return removed;
  }

  #isSelected(slot: number, maskA: number, valueA: number, maskB: number, valueB: number, firstPage: number, lastPage: number): boolean {
    const word = slot << WORDS_SHIFT;
    if ((this.words[word | GROUP_A] & maskA) !== valueA || (this.words[word | GROUP_B] & maskB) !== valueB) return false;
    const span = slot << SPANS_SHIFT;
    const first = this.spans[span | PAGE];
    return first <= lastPage && first + this.spans[span | PAGES] > firstPage;
  }

  #isEmpty(slot: number): boolean {
    return this.spans[(slot << SPANS_SHIFT) | PAGES] === 0;
  }

  #forget(slot: number): void {
    this.#unlink(slot);
    this.spans[(slot << SPANS_SHIFT) | PAGES] = 0;
    this.victims[Math.floor((slot - 1) / this.ways)] = slot;
  }

  /** Takes a slot out of its chain. */
  #unlink(slot: number): void {
    const { words, chains } = this;
    const chain = words[(slot << WORDS_SHIFT) | CHAIN];
    const next = words[(slot << WORDS_SHIFT) | NEXT];
    let before = chains[chain];
    if (before === slot) {
      chains[chain] = next;
      return;
    }
    while (words[(before << WORDS_SHIFT) | NEXT] !== slot) before = words[(before << WORDS_SHIFT) | NEXT];
    words[(before << WORDS_SHIFT) | NEXT] = next;
  }

  #empty(): void {
    this.#emptyAt = this.inserts;
    this.present.fill(0);
    this.large.length = 0;
    this.sizes = 0;
  }
}

/** What stands for the page in the set and the chain of an entry of 2^pageShift bytes: its number, apart from those of other sizes. */
function place(number: number, pageShift: number): number {
  return (number | 0) ^ Math.imul(pageShift - SMALL, 0x9e3779b1);
}

/** Neighbouring pages fall into neighbouring places. `| 0` tells V8 that the tags are small integers, which `imul` does not. */
function hash(tagA: number, tagB: number, page: number): number {
  return (page | 0) ^ Math.imul(tagA | 0, 0x9e3779b1) ^ Math.imul(tagB | 0, 0x85ebca6b);
}

/** The least power of two that is not below `count`. */
function powerAbove(count: number): number {
  return 2 ** Math.ceil(Math.log2(count));
}
