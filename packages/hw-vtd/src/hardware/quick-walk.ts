/**
 * Walks to 4 KiB pages, which can be read, through plain tables in RAM's bank in which no flag is missing and nothing is refused: nearly all that a busy device
 * needs when it misses the IOTLB. Everything about the configuration is worked out once, in small integers, because a test for a truth value or an
 * imported constant costs as much as a level of the walk (ARCHITECTURE, "Speed"). Whatever is not so plain goes to `Stages`, which knows all rules.
 */
import { type Iotlb, IotlbKey, type PageTableFormat, type PhysicalMemory, walkPlain } from "@iommukit/core";
import { Pgtt } from "../spec/entries.js";
import { FirstStage, SecondStage } from "../spec/formats.js";
import { packRights } from "./cached-rights.js";
import type { Caches } from "./caches.js";
import type { Configuration } from "./configuration.js";

/** Index into `answers`: the first stage lets it be written, the second does, no dirty flag is missing. */
const FIRST_WRITES = 1;
const SECOND_WRITES = 2;
const CLEAN_NOT = 4;

export class QuickWalk {
  /** Of the last walk that gave something. */
  outPage = 0;
  /** Of the requester whose walks these are. */
  readonly key: IotlbKey = new IotlbKey();

  private readonly memory: PhysicalMemory;
  private readonly words: Int32Array;
  private readonly first: PageTableFormat;
  private readonly second: PageTableFormat;
  /** Paging-structure caches: with them, a walk begins at what they have of the last table, or is not for here. */
  private readonly firstTables: Iotlb;
  private readonly secondTables: Iotlb;
  private readonly cached: number;
  private kind = 0;
  /** Input pages end here. */
  private limit = 0.5;
  private secondLimit = 0.5;
  /** By what the paging-structure caches know the tables. */
  private domain = 0;
  private tag = 0;
  /** Roots as word indices, top levels. */
  private firstRoot = 0;
  private firstTop = 0;
  private secondRoot = 0;
  private secondTop = 0;
  /** Flags that every entry must have: of the first stage, of the second for a first-stage table, of the second for the page. */
  private firstNeeds = 0;
  private tableNeeds = 0;
  private pageNeeds = 0;
  /** The second stage has dirty flags: else every page counts as dirty. */
  private secondDirty = 0;
  private snoopMask = 0;
  /** What the IOTLB keeps, by what may be written. */
  private readonly answers = new Int32Array(8);

  /** @param second in the form of the permissions that the unit uses */
  constructor(memory: PhysicalMemory, first: PageTableFormat, second: PageTableFormat, caches: Caches) {
    this.memory = memory;
    this.words = memory.words;
    this.first = first;
    this.second = second;
    this.firstTables = caches.firstStageTables;
    this.secondTables = caches.secondStageTables;
    this.cached = Number(this.firstTables.capacity + this.secondTables.capacity !== 0);
  }

  /** Gets ready for a configuration's requests. False when its tables are not of a kind to be read here. */
  prepare(c: Configuration, rid: number, pasid: number, privileged: boolean, snoopControl: boolean): boolean {
    const first = c.pgtt === Pgtt.FIRST_STAGE || c.pgtt === Pgtt.NESTED;
    const second = c.pgtt === Pgtt.SECOND_STAGE || c.pgtt === Pgtt.NESTED;
    const nested = first && second;
    const bank = this.words.length * 4;
    if (!first && !second) return false;
    if (second && (c.secondRoot >= bank || ((this.second.plainTops >>> c.secondTopLevel) & 1) === 0)) return false;
    if (first && !nested && (c.root >= bank || ((this.first.plainTops >>> c.topLevel) & 1) === 0)) return false;
    if (nested && ((c.topLevel !== 3 && this.cached === 0) || c.secondPages < 0x10_0000 || c.root >= 2 ** 32)) return false;
    this.kind = c.pgtt;
    this.domain = c.domain;
    this.tag = c.pasid;
    this.key.set(rid, pasid, c.group, c.pasid);
    this.limit = first ? c.canonicalPages : c.secondPages;
    this.secondLimit = c.secondPages;
    this.firstRoot = nested ? c.root / 4096 : c.root >>> 2;
    this.firstTop = c.topLevel;
    this.secondRoot = c.secondRoot >>> 2;
    this.secondTop = c.secondTopLevel;
    this.firstNeeds = c.accessedFlags | FirstStage.P | (privileged ? 0 : FirstStage.US);
    const accessed = c.secondStageDirty ? SecondStage.A : 0;
    this.pageNeeds = SecondStage.R | accessed;
    this.tableNeeds = this.pageNeeds | (c.secondStageDirty ? SecondStage.W : 0);
    this.secondDirty = c.secondStageDirty ? 0 : SecondStage.D;
    this.snoopMask = snoopControl ? SecondStage.SNP : 0;
    for (let i = 0; i < this.answers.length; i++) {
      const through = !second || (i & SECOND_WRITES) !== 0;
      const user = through && (!first || (i & FIRST_WRITES) !== 0) ? 3 : 1;
      const supervisor = through && (!first || (i & FIRST_WRITES) !== 0 || !c.writeProtect) ? 3 : 1;
      this.answers[i] = packRights(privileged ? supervisor : user, c.supervisorEnable ? supervisor : 0, (i & CLEAN_NOT) !== 0, c.pageSnoop);
    }
    return true;
  }

  /** What the IOTLB keeps of the page; 0 when `Stages` has to tell. */
  walk(page: number): number {
    // 0xFEE: without a PASID, requests there are not translated.
    if (page >= this.limit || page >>> 8 === 0xfee) return 0;
    if (this.kind === 1) return this.#firstStage(page);
    if (this.kind === 2) return this.#secondStage(page);
    return this.cached === 1 ? this.#cachedNested(page) : this.#nested(page);
  }

  #firstStage(page: number): number {
    const { first, firstNeeds } = this;
    const lo =
      this.cached === 1
        ? this.#leaf(this.firstTables, this.tag, first, page, firstNeeds | 2)
        : walkPlain(this.memory, first, this.firstRoot, this.firstTop, page, firstNeeds | 2);
    const out = ((this.memory.hi & first.addressHi) << 20) | (lo >>> 12);
    if ((lo & firstNeeds) !== firstNeeds || out >>> 8 === 0xfee) return 0;
    this.outPage = out;
    // R/W is bit 1, D bit 6.
    return this.answers[((lo >>> 1) & FIRST_WRITES) | SECOND_WRITES | ((lo >>> 4) & CLEAN_NOT)];
  }

  #secondStage(page: number): number {
    const { second, pageNeeds, memory } = this;
    const lo =
      this.cached === 1
        ? this.#leaf(this.secondTables, 0, second, page, pageNeeds | 2)
        : walkPlain(memory, second, this.secondRoot, this.secondTop, page, pageNeeds | 2);
    return (lo & pageNeeds) === pageNeeds ? this.#answer(lo, memory.hi, FIRST_WRITES, CLEAN_NOT) : 0;
  }

  /** What `walkPlain` gives, from a table that a paging-structure cache has; 0 when it has none. */
  #leaf(tables: Iotlb, tag: number, format: PageTableFormat, page: number, flags: number): number {
    const slot = tables.find(this.domain, tag, page, 21);
    if (slot === -1) return 0;
    const at = tables.firstOutput(slot) * 1024 + ((page & 511) << 1);
    if (at >= this.words.length) return 0;
    const lo = this.words[at];
    const hi = this.words[at + 1];
    this.memory.hi = hi;
    if ((lo & format.presentMask) === 0 || (lo & format.plainPageMask) !== format.plainPageValue || (hi & format.plainPageHi) !== 0) return 0;
    return lo & (tables.data(slot) | ~flags);
  }

  #cachedNested(page: number): number {
    const { first, firstNeeds, secondTables, memory } = this;
    const lo = this.#leaf(this.firstTables, this.tag, first, page, firstNeeds | 2);
    const guest = ((memory.hi & first.addressHi) << 20) | (lo >>> 12);
    if ((lo & firstNeeds) !== firstNeeds || guest >= this.secondLimit) return 0;
    const host = this.#leaf(secondTables, 0, this.second, guest, this.pageNeeds | 2);
    return (host & this.pageNeeds) === this.pageNeeds ? this.#answer(host, memory.hi, (lo >>> 1) & FIRST_WRITES, (lo >>> 4) & CLEAN_NOT) : 0;
  }

  /**
   * Four levels of the first stage, each table through the second, and then the page. In one loop, because five walks are too much to be
   * inlined, and a call costs as much as half a walk.
   */
  #nested(page: number): number {
    const { first, second, secondRoot, secondTop, tableNeeds, pageNeeds, memory, words } = this;
    const low = page | 0;
    let guest = this.firstRoot;
    let and = -1;
    for (let level = 3; ; level--) {
      const host = walkPlain(memory, second, secondRoot, secondTop, guest, tableNeeds | 2);
      if (level === -1) {
        // R/W of the first stage is bit 1; the leaf's D was put into bit 31, out of the AND's way.
        return (host & pageNeeds) === pageNeeds ? this.#answer(host, memory.hi, (and >>> 1) & FIRST_WRITES, (and >>> 29) & CLEAN_NOT) : 0;
      }
      if ((host & tableNeeds) !== tableNeeds || host >>> 28 !== 0 || memory.hi !== 0) return 0;
      const index = level === 3 ? (page / 0x800_0000) | 0 : low >>> (9 * level);
      const at = ((host & first.addressLo) >>> 2) + ((index & 511) << 1);
      const lo = words[at];
      const hi = words[at + 1];
      guest = lo >>> 12;
      if (level !== 0) {
        if ((lo & first.plainTableMask) !== first.plainTableValue || hi !== 0) return 0;
        and &= lo;
        continue;
      }
      if ((lo & first.plainPageMask) !== first.plainPageValue || (hi & first.plainPageHi) !== 0) return 0;
      and = (and & lo & 0x7fff_ffff) | ((lo & 0x40) << 25);
      guest |= (hi & first.addressHi) << 20;
      if ((and & this.firstNeeds) !== this.firstNeeds || guest >= this.secondLimit) return 0;
    }
  }

  /** From the second stage's leaf, and what the first stage says, as bits of an index into `answers`. */
  #answer(lo: number, hi: number, writable: number, dirty: number): number {
    const out = ((hi & this.second.addressHi) << 20) | (lo >>> 12);
    if (out >>> 8 === 0xfee) return 0;
    this.outPage = out;
    // W is bit 1, D bit 9, SNP bit 11.
    return this.answers[writable | (lo & SECOND_WRITES) | (dirty & ((lo | this.secondDirty) >>> 7))] | ((lo & this.snoopMask) >>> 6);
  }
}
