/**
 * Walks from one root to 4 KiB pages through plain entries (see `PageTableFormat`) in RAM's bank, without a result object: for those who translate
 * most requests this way, and ask `walk` for the rest.
 *
 * Every entry is read at every walk. Those of the upper levels are nearly always what they were before: so the test for a plain one is that it is
 * the one that was found plain last time, and the walk goes on with what is remembered. The processor, which guesses that a comparison comes out as it
 * did before, then reads the next entry while this one is still on its way; through two stages that makes a chain of 24 reads one of 14.
 */
import { BANK_BYTES, type PhysicalMemory } from "../memory/physical-memory.js";
import type { PageTableFormat } from "./format.js";

export interface PlainWalkOptions {
  readonly format: PageTableFormat;
  /** Physical address of the top table. */
  readonly root: number;
  /** One of the format's `plainTops`. */
  readonly topLevel: number;
  /** Bits that every entry must have set, tables' and the page's. Some of them say that an entry is present. */
  readonly flags: number;
  /** Bits that only tables' entries must have set as well, and bits that only the page's must. */
  readonly tableFlags?: number;
  readonly pageFlags?: number;
  /** The page must be in the bank, as one that holds a table of another stage is. */
  readonly inBank?: boolean;
}

export class PlainWalk {
  /** High word of the last page's entry. */
  hi = 0;

  private readonly words: Int32Array;
  /** Word index of the top table. */
  private readonly root: number;
  private readonly topLevel: number;
  /** Bits of a table's entry and of a page's, and what they must be. */
  private readonly tableMask: number;
  private readonly tableValue: number;
  private readonly pageMask: number;
  private readonly pageValue: number;
  private readonly pageHi: number;
  /** Entries at levels 3 and 2 of the last walk: plain ones. */
  private third: number;
  private second: number;

  /** False when the tables do not begin in the bank, or the format has nothing plain. */
  static can(format: PageTableFormat, root: number, topLevel: number): boolean {
    return root < BANK_BYTES && ((format.plainTops >>> topLevel) & 1) !== 0;
  }

  constructor(memory: PhysicalMemory, { format, root, topLevel, flags, tableFlags = 0, pageFlags = 0, inBank = false }: PlainWalkOptions) {
    this.words = memory.words;
    this.root = (root / 4) | 0;
    this.topLevel = topLevel;
    this.tableMask = format.plainTableMask | flags | tableFlags;
    this.tableValue = format.plainTableValue | flags | tableFlags;
    this.pageMask = format.plainPageMask | flags | pageFlags | (inBank ? -BANK_BYTES : 0);
    this.pageValue = format.plainPageValue | flags | pageFlags;
    this.pageHi = format.plainPageHi | (inBank ? format.addressHi : 0);
    // As if the last walk had met plain entries that point to a table at address 0.
    this.third = this.tableValue;
    this.second = this.tableValue;
  }

  /**
   * Low word of the page's entry, whose high word is left in `hi`; 0 when it is not plain, or some entry above it.
   * 1022 masks an entry's index, in words; -4096 the address in an entry.
   * @param page bits 26:0 of the page's number @param high what is above these
   */
  walk(page: number, high: number): number {
    const { words, tableMask, tableValue } = this;
    let at = this.root;
    let hi = 0;
    if (this.topLevel !== 2) {
      if (this.topLevel === 4) {
        at = this.#fifth(high);
        if (at === -1) return 0;
      }
      at |= 1022 & (high << 1);
      const third = words[at];
      hi = words[at | 1];
      if (third !== this.third) {
        if ((tableMask & third) !== tableValue) return 0;
        this.third = third;
      }
      at = (this.third & -4096) >>> 2;
    }
    at |= 1022 & (page >>> 17);
    const second = words[at];
    hi |= words[at | 1];
    if (second !== this.second) {
      if ((tableMask & second) !== tableValue) return 0;
      this.second = second;
    }
    at = ((this.second & -4096) >>> 2) | (1022 & (page >>> 8));
    const first = words[at];
    if ((tableMask & first) !== tableValue || (hi | words[at | 1]) !== 0) return 0;
    return this.entry(((first & -4096) >>> 2) | (1022 & (page << 1)));
  }

  /** The page's entry alone, at a word index: for those who know the last table. */
  entry(at: number): number {
    const lo = this.words[at];
    const hi = this.words[at | 1];
    this.hi = hi;
    return (this.pageMask & lo) === this.pageValue && (this.pageHi & hi) === 0 ? lo : 0;
  }

  /** The table below the entry at level 4; -1 when it is not plain. */
  #fifth(high: number): number {
    const at = this.root | (1022 & (high >>> 8));
    const entry = this.words[at];
    return (this.tableMask & entry) === this.tableValue && this.words[at | 1] === 0 ? (entry & -4096) >>> 2 : -1;
  }
}
