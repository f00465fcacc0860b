/**
 * Answers what misses the IOTLB from 4 KiB pages, which can be read, through plain tables in RAM's bank in which no flag is missing and nothing is
 * refused: nearly all that a busy device needs. Everything about the configuration is worked out once, in small integers, because a test for a truth
 * value or an imported constant costs as much as a level of the walk (ARCHITECTURE, "Speed"). Whatever is not so plain goes to `Stages`, which knows
 * all rules.
 */
import { BANK_BYTES, type Iotlb, type IotlbKey, type PageTableFormat, type PhysicalMemory, PlainWalk } from "@iommukit/core";
import { Pgtt } from "../spec/entries.js";
import { FirstStage, SecondStage } from "../spec/formats.js";
import { packRights } from "./cached-rights.js";
import type { Caches } from "./caches.js";
import type { Configuration } from "./configuration.js";

/** Pages that levels 2 to 0 cover. */
const PAGES_BELOW_TOP = 0x800_0000;
const BANK_PAGES = BANK_BYTES / 4096;

/** What the unit, not the configuration, says. */
export interface QuickWalkParts {
  readonly memory: PhysicalMemory;
  readonly first: PageTableFormat;
  /** In the form of the permissions that the unit uses. */
  readonly second: PageTableFormat;
  readonly caches: Caches;
  readonly snoopControl: boolean;
}

/** Who asks. */
export interface Requester {
  readonly rid: number;
  readonly pasid: number;
  readonly privileged: boolean;
}

export class QuickWalk {
  /** What the IOTLB keeps of the last page that `translate` gave. */
  rights = 0;
  readonly key: IotlbKey;

  // `private`, not `#`: see `Iotlb`.
  private readonly iotlb: Iotlb;
  private readonly words: Int32Array;
  /** Stages. */
  private readonly first: boolean;
  private readonly second: boolean;
  /** To the first-stage tables, when nested, and to the pages; the same when there is one stage. */
  private readonly tables: PlainWalk;
  private readonly pages: PlainWalk;
  /** Input pages end here, in `PAGES_BELOW_TOP`, and guest pages here. */
  private readonly limit: number;
  private readonly guestLimit: number;
  /** Guest page of the top first-stage table. */
  private readonly guestRoot: number;
  /** Bits of a nested first-stage entry, and what they must be: a table's, a page's. */
  private readonly tableMask: number;
  private readonly tableValue: number;
  private readonly pageMask: number;
  private readonly pageValue: number;
  private readonly pageHi: number;
  /** Flags of the page that decide about `rights`, those of a nested first stage 16 bits higher, and what they were last time. */
  private readonly flagMask: number;
  private readonly guestFlagMask: number = FirstStage.RW | FirstStage.D;
  private guestFlags = 0;
  private flags = -1;
  readonly #c: Pick<Configuration, "supervisorEnable" | "writeProtect" | "pageSnoop" | "secondStageDirty">;
  readonly #privileged: boolean;
  /** Paging-structure caches: 1 when there are some. Then a walk begins at what they have of the last table, or is not for here. */
  private readonly cached: number;
  readonly #caches: Caches;
  readonly #domain: number;
  readonly #tag: number;
  readonly #firstFlags: number;

  /** Undefined when the configuration's tables are not of a kind to be read here. */
  static create(parts: QuickWalkParts, c: Configuration, requester: Requester): QuickWalk | undefined {
    const { firstStageTables, secondStageTables } = parts.caches;
    const cached = firstStageTables.capacity + secondStageTables.capacity !== 0;
    const second = c.pgtt === Pgtt.SECOND_STAGE || c.pgtt === Pgtt.NESTED;
    if (second && !PlainWalk.can(parts.second, c.secondRoot, c.secondTopLevel)) return undefined;
    if (c.pgtt === Pgtt.FIRST_STAGE && !PlainWalk.can(parts.first, c.root, c.topLevel)) return undefined;
    if (c.pgtt === Pgtt.NESTED && ((c.topLevel !== 3 && !cached) || c.secondPages < 0x10_0000 || c.root >= 2 ** 32)) return undefined;
    const walk = new QuickWalk(parts, c, requester, cached);
    return walk.limit === 0 ? undefined : walk;
  }

  constructor(parts: QuickWalkParts, c: Configuration, { rid, pasid, privileged }: Requester, cached: boolean) {
    const { memory, caches } = parts;
    this.first = c.pgtt === Pgtt.FIRST_STAGE || c.pgtt === Pgtt.NESTED;
    this.second = c.pgtt === Pgtt.SECOND_STAGE || c.pgtt === Pgtt.NESTED;
    const nested = this.first && this.second;
    const { supervisorEnable, writeProtect, pageSnoop, secondStageDirty } = c;
    this.#c = { supervisorEnable, writeProtect, pageSnoop, secondStageDirty };
    this.#privileged = privileged;
    this.iotlb = caches.iotlb;
    this.words = memory.words;
    this.key = caches.iotlb.key(rid, pasid, c.group, c.pasid);
    this.limit = Math.floor((this.first ? c.canonicalPages : c.secondPages) / PAGES_BELOW_TOP);
    this.guestLimit = Math.min(c.secondPages, 2 ** 31 - 1);
    this.guestRoot = (c.root / 4096) | 0;

    const firstFlags = FirstStage.P | c.accessedFlags | (privileged ? 0 : FirstStage.US);
    this.tableMask = (parts.first.plainTableMask & (BANK_BYTES - 1)) | firstFlags | FirstStage.RW;
    this.tableValue = parts.first.plainTableValue | firstFlags | FirstStage.RW;
    this.pageMask = parts.first.plainPageMask | firstFlags;
    this.pageValue = parts.first.plainPageValue | firstFlags;
    this.pageHi = parts.first.plainPageHi;
    const secondFlags = SecondStage.R | (secondStageDirty ? SecondStage.A : 0);
    const second = { format: parts.second, root: c.secondRoot, topLevel: c.secondTopLevel };
    this.pages = this.second
      ? new PlainWalk(memory, { ...second, flags: secondFlags })
      : new PlainWalk(memory, { format: parts.first, root: c.root, topLevel: c.topLevel, flags: firstFlags, tableFlags: FirstStage.RW });
    // A first-stage table is written, too, when there are flags in it.
    this.tables = nested
      ? new PlainWalk(memory, { ...second, flags: secondFlags | (secondStageDirty ? SecondStage.W : 0), inBank: true })
      : this.pages;
    this.flagMask = this.second ? SecondStage.W | SecondStage.D | (parts.snoopControl ? SecondStage.SNP : 0) : FirstStage.RW | FirstStage.D;

    this.cached = Number(cached);
    this.#caches = caches;
    this.#domain = c.domain;
    this.#tag = c.pasid;
    this.#firstFlags = firstFlags | FirstStage.RW;
  }

  /**
   * The output page of a read or write, which the IOTLB has then; -1 when `Stages` has to tell. A nested walk takes four levels of the first stage, each
   * table through the second, and then the page. All is one loop around one walk: with more than one, V8 would not put them in place of the call. What is
   * longer than 460 bytes of bytecode V8 does not put into the caller, where it would leave no room for the walk: so `#guest` is written out here.
   */
  translate(page: number, access: number): number {
    const high = (page / 0x800_0000) | 0;
    // 0xFEE: without a PASID, requests there are not translated.
    if (high >= this.limit || page >>> 8 === 0xfee) return -1;
    const { words, pages } = this;
    let stage = this.tables;
    let input = page | 0;
    let above = high;
    if (stage !== pages) {
      input = this.guestRoot;
      above = 0;
    }
    let index = high << 1;
    let lo = 0;
    if (this.cached === 1) lo = this.#cachedEntry(page);
    else {
      for (let shift = 18; ; shift -= 9) {
        lo = stage.walk(input, above);
        if (lo === 0 || stage === pages) break;
        const at = ((lo & -4096) >>> 2) | (1022 & index);
        const entry = words[at];
        const entryHi = words[at | 1];
        if (shift < 0) {
          input = (entryHi << 20) | (entry >>> 12);
          if ((this.pageMask & entry) !== this.pageValue || (this.pageHi & entryHi) !== 0 || input >= this.guestLimit) return -1;
          this.guestFlags = (this.guestFlagMask & entry) << 16;
          above = input >>> 27;
          stage = pages;
        } else {
          if ((this.tableMask & entry) !== this.tableValue || entryHi !== 0) return -1;
          input = entry >>> 12;
          index = (page << 1) >> shift;
        }
      }
    }
    const out = (pages.hi << 20) | (lo >>> 12);
    if (lo === 0 || out >>> 8 === 0xfee) return -1;
    const flags = (this.flagMask & lo) | this.guestFlags;
    if (flags !== this.flags) this.#decide(flags);
    const { rights } = this;
    if ((access & rights) !== access) return -1;
    this.iotlb.add(this.key, page, out, rights);
    return out;
  }

  /** The guest page in the first-stage page entry at a word index; -1 when the entry is not plain. */
  #guest(at: number): number {
    const lo = this.words[at];
    const hi = this.words[at | 1];
    const guest = (hi << 20) | (lo >>> 12);
    if ((this.pageMask & lo) !== this.pageValue || (this.pageHi & hi) !== 0 || guest >= this.guestLimit) return -1;
    this.guestFlags = (this.guestFlagMask & lo) << 16;
    return guest;
  }

  /** The page's entry, as `PlainWalk` gives it, in a table that a paging-structure cache has. */
  #cachedEntry(page: number): number {
    const { firstStageTables, secondStageTables } = this.#caches;
    let input = page;
    if (this.first) {
      const at = this.#inTable(firstStageTables, this.#tag, page, this.#firstFlags);
      if (at === -1) return 0;
      if (!this.second) return this.pages.entry(at);
      input = this.#guest(at);
      if (input === -1) return 0;
    }
    const at = this.#inTable(secondStageTables, 0, input, SecondStage.R | SecondStage.W | (this.#c.secondStageDirty ? SecondStage.A : 0));
    return at === -1 ? 0 : this.pages.entry(at);
  }

  /** Word index of the page's entry; -1 when the cache has not the table above, or something above that lacks a flag. */
  #inTable(tables: Iotlb, tag: number, page: number, flags: number): number {
    const slot = tables.find(this.#domain, tag, page, 21);
    if (slot === -1 || (tables.data(slot) & flags) !== flags) return -1;
    const table = tables.firstOutput(slot);
    return table < BANK_PAGES ? (table * 1024) | ((page << 1) & 1022) : -1;
  }

  /** What the IOTLB keeps of pages with these flags. */
  #decide(flags: number): void {
    const { supervisorEnable, writeProtect, pageSnoop, secondStageDirty } = this.#c;
    const guestFlags = this.second ? flags >>> 16 : flags;
    const firstWrites = !this.first || (guestFlags & FirstStage.RW) !== 0;
    const secondWrites = !this.second || (flags & SecondStage.W) !== 0;
    const user = secondWrites && firstWrites ? 3 : 1;
    const supervisor = secondWrites && (firstWrites || !writeProtect) ? 3 : 1;
    const dirty = (!this.first || (guestFlags & FirstStage.D) !== 0) && (!this.second || !secondStageDirty || (flags & SecondStage.D) !== 0);
    const snoop = pageSnoop || (this.second && (flags & SecondStage.SNP) !== 0);
    this.rights = packRights(this.#privileged ? supervisor : user, supervisorEnable ? supervisor : 0, dirty, snoop);
    this.flags = flags;
  }
}
