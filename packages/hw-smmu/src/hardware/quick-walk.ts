/**
 * Accesses to 4 KiB pages through plain tables in RAM's bank, in which no flag is to be set and nothing is refused: nearly all that a busy device
 * needs when it misses the TLBs. Everything about the configuration is worked out once, in small integers, because a test for a truth value or an
 * imported constant costs as much as a level of the walk (ARCHITECTURE, "Speed"). Whatever is not so plain goes to `Stage1` and `Stage2`.
 */
import { BANK_BYTES, type Iotlb, type IotlbKey, type PageTableFormat, type PhysicalMemory, PlainWalk } from "@iommukit/core";
import type { Capabilities } from "../spec/identification.js";
import { World } from "../spec/illegal.js";
import { Hi, Lo } from "../spec/tables.js";
import type { Configuration } from "./configuration.js";
import { ALL, ANY_WRITE, R, stage1Rights, stage2Rights, withoutUpdates } from "./rights.js";
import { deviceMemory, DEVICE } from "./stage2.js";
import { intermediateTags } from "./tlb-groups.js";
import type { TableCache } from "./table-cache.js";
import type { Tlbs } from "./tlbs.js";

/** Flags of a leaf that decide about rights: bits 7:2 of the low word (AP or S2AP, and MemAttr), and 22:19 of the high word (DBM, contiguous, XN). */
const LOW_FLAGS = 0xfc;
const HIGH_FLAGS = 0x78_0000;
/** The same without a gap. */
const RIGHTS = 1024;
const indexOf = (flags: number): number => ((flags >>> 2) & 0x3f) | ((flags >>> 13) & 0x3c0);
const flagsOf = (index: number): number => ((index & 0x3f) << 2) | ((index >>> 6) << 19);

/** Intermediate pages are 32-bit integers, and those of plain tables below this. */
const MOST_PAGES = 2 ** 31 - 1;
const TABLE_PAGES = 2 ** 20;
const BANK_PAGES = BANK_BYTES / 4096;

export class QuickWalk {
  // `private`, not `#`: see `Iotlb`.
  private readonly words: Int32Array;
  /** Where the pages are cached, with their key. */
  private readonly target: Iotlb;
  private readonly key: IotlbKey;
  private readonly intermediate: Iotlb;
  private readonly intermediateKey: IotlbKey;
  /** To the tables of stage 1, when nested, and to the pages; the same when there is one stage. */
  private readonly tables: PlainWalk;
  private readonly pages: PlainWalk;
  /** Input pages, and intermediate ones, end here. */
  private readonly limit: number;
  private readonly guestLimit: number;
  /** Intermediate page of the top table of a nested stage 1, and log2 of the pages that an entry below the top covers. */
  private readonly guestRoot: number;
  private readonly guestShift: number;
  /** Bits of a nested stage-1 entry, and what they must be: a table's, a page's. */
  private readonly tableMask: number;
  private readonly tableValue: number;
  private readonly pageMask: number;
  private readonly pageValue: number;
  private readonly pageHi: number;
  /** Some of these bits must be set in a leaf of stage 2 under a table: it is not Device memory. */
  private readonly normal: number;
  /** Cached rights that make a table unreadable. */
  private readonly unreadable: number;
  /** By a leaf's flags: what the stage that leads to the pages gives, and a nested stage 1. */
  readonly #pageRights = new Uint8Array(RIGHTS);
  readonly #guestRights = new Uint8Array(RIGHTS);
  /** Flags of the last page, those of a nested stage 1 in bits that the others leave, and the rights that they give. */
  private guestFlags = 0;
  private flags = -1;
  private rights = 0;
  /** 1 when caches of intermediate addresses or of tables are to be looked into. */
  private readonly cached: number;
  readonly #c: Pick<Configuration, "stage1" | "stage2" | "vmid">;
  readonly #topLevel: number;
  /** Walk caches, and whether they are on. */
  readonly #firstTables: TableCache;
  readonly #secondTables: TableCache;
  readonly #tabled: boolean;

  /** Undefined when the configuration's tables are not of a kind to be read here. */
  static for(c: Configuration, memory: PhysicalMemory, caps: Capabilities, tlbs: Tlbs): QuickWalk | undefined {
    const [half] = c.halves;
    const isPlain = (format: PageTableFormat | undefined, top: number): boolean => format !== undefined && PlainWalk.can(format, 0, top);
    if (c.stage1 && (!half.enabled || c.bigEndian || c.updatesTables || !isPlain(half.format, half.topLevel))) return undefined;
    if (c.stage2 && (c.s2BigEndian || c.s2UpdatesTables || c.s2Pages > c.s2TableSpan || c.s2Root >= BANK_BYTES || !isPlain(c.s2Format, c.s2TopLevel))) return undefined;
    if (c.stage1 && !c.stage2 && half.root >= BANK_BYTES) return undefined;
    if (c.stage1 && c.stage2 && (half.topLevel > 3 || half.fixedRoot !== -1 || half.root % 4096 !== 0 || half.root >= 2 ** 32 || c.s2Pages < TABLE_PAGES)) return undefined;
    // A page of a run is cached as the run.
    if (tlbs.contiguous) return undefined;
    // One walk cache of two is left to others.
    if (c.stage1 && c.stage2 && tlbs.inputTables.on !== tlbs.intermediateTables.on) return undefined;
    const first = half.format ?? c.s2Format;
    return first === undefined ? undefined : new QuickWalk(c, memory, caps, tlbs, first, c.s2Format ?? first);
  }

  private constructor(c: Configuration, memory: PhysicalMemory, caps: Capabilities, tlbs: Tlbs, first: PageTableFormat, second: PageTableFormat) {
    const [half] = c.halves;
    const nested = c.stage1 && c.stage2;
    const onePrivilege = c.world === World.EL2;
    const { stage1, stage2, vmid } = c;
    this.#c = { stage1, stage2, vmid };
    this.words = memory.words;
    this.intermediate = tlbs.intermediate;
    const tags = intermediateTags(vmid);
    this.intermediateKey = tlbs.intermediate.key(tags.tagA, tags.tagB, tags.groupA, tags.groupB);
    this.target = stage1 ? tlbs.input : tlbs.intermediate;
    this.key = stage1 ? tlbs.input.key(c.tagA, c.tagB, c.groupA, c.groupB) : this.intermediateKey;
    this.limit = stage1 ? half.pages : c.s2Pages;
    this.guestLimit = Math.min(c.s2Pages, MOST_PAGES);
    this.guestRoot = (half.root / 4096) | 0;
    this.guestShift = 9 * half.topLevel - 9;
    this.#topLevel = half.topLevel;
    this.#firstTables = tlbs.inputTables;
    this.#secondTables = tlbs.intermediateTables;
    this.#tabled = stage1 ? tlbs.inputTables.on : tlbs.intermediateTables.on;
    this.cached = Number(this.#tabled || (nested && tlbs.intermediate.capacity !== 0));

    // What lacks nG could be a global entry.
    const firstFlags = Lo.AF | (onePrivilege ? 0 : Lo.NG);
    this.tableMask = (first.plainTableMask & (BANK_BYTES - 1)) | Lo.VALID;
    this.tableValue = first.plainTableValue | Lo.VALID;
    this.pageMask = first.plainPageMask | first.presentMask | firstFlags;
    this.pageValue = first.plainPageValue | first.presentMask | firstFlags;
    this.pageHi = first.plainPageHi;
    const toPages = { format: second, root: c.s2Root, topLevel: c.s2TopLevel, flags: Lo.VALID, pageFlags: Lo.AF };
    this.pages = new PlainWalk(memory, stage2 ? toPages : { format: first, root: half.root, topLevel: half.topLevel, flags: Lo.VALID, pageFlags: firstFlags });
    this.tables = nested ? new PlainWalk(memory, { ...toPages, pageFlags: Lo.AF | Lo.S2R, inBank: true }) : this.pages;
    // MemAttr is bits 5:2.
    this.normal = c.s2ProtectsWalks ? (c.s2ForceWriteBack ? 0x10 : 0x30) : Lo.VALID;
    this.unreadable = c.s2ProtectsWalks ? DEVICE : 0;
    for (let i = 0; i < RIGHTS; i++) {
      const flags = flagsOf(i);
      const one = stage1 ? stage1Rights(c, false, flags, flags, 0, onePrivilege) : ALL;
      const first = withoutUpdates(one, (flags & Lo.AP2) !== 0 && (one & ANY_WRITE) !== 0);
      const two = stage2 ? stage2Rights(c.s2UpdatesDirty, caps.executeNever, flags, flags) : ALL;
      const second = withoutUpdates(two, (flags & Lo.S2W) === 0 && (flags & Hi.DBM) !== 0 && c.s2UpdatesDirty);
      this.#guestRights[i] = nested ? first : 0xff;
      this.#pageRights[i] = stage2 ? second | (deviceMemory(c, flags) ? DEVICE : 0) : first;
    }
  }

  /**
   * The output page, kept in the TLBs; -1 when others have to tell. A nested walk takes the levels of stage 1, each table through stage 2, and then the
   * page. All is one loop around one walk: with more than one, V8 would not put them in place of the call.
   * What is longer than 460 bytes of bytecode V8 does not put into the caller, where it would leave no room for the walk. The bare masks are `LOW_FLAGS`
   * and `HIGH_FLAGS`.
   * @param needed rights, six bits
   */
  translate(page: number, needed: number): number {
    if (page >= this.limit) return -1;
    if (this.cached === 1) return this.#throughCaches(page, needed);
    const { words, pages } = this;
    let stage = this.tables;
    let input = page | 0;
    let above = (page / 0x800_0000) | 0;
    let index = above << 1;
    let shift = this.guestShift;
    if (stage !== pages) {
      if (shift === 9) index = input >>> 17;
      input = this.guestRoot;
      above = 0;
    }
    let lo = 0;
    for (; ; shift -= 9) {
      lo = stage.walk(input, above);
      if (lo === 0) return -1;
      if (stage === pages) break;
      if ((this.normal & lo) === 0) return -1;
      const at = ((lo & -4096) >>> 2) | (1022 & index);
      const entry = words[at];
      const entryHi = words[at | 1];
      if (shift < 0) {
        // As in `#guest`.
        input = (entryHi << 20) | (entry >>> 12);
        if ((this.pageMask & entry) !== this.pageValue || (this.pageHi & entryHi) !== 0 || input >= this.guestLimit) return -1;
        this.guestFlags = ((entry & 0xc0) << 2) | ((entryHi & 0x78_0000) << 4);
        above = input >>> 27;
        stage = pages;
      } else {
        if ((this.tableMask & entry) !== this.tableValue || entryHi !== 0) return -1;
        input = entry >>> 12;
        index = (page << 1) >> shift;
      }
    }
    const { hi } = pages;
    const flags = (0xfc & lo) | (0x78_0000 & hi) | this.guestFlags;
    if (flags !== this.flags) this.#decide(flags);
    const { rights } = this;
    if ((rights & needed) !== needed) return -1;
    const out = (hi << 20) | (lo >>> 12);
    this.target.add(this.key, page, out, rights);
    return out;
  }

  /** The intermediate page in the stage-1 page entry at a word index; -1 when the entry is not plain. */
  #guest(at: number): number {
    const lo = this.words[at];
    const hi = this.words[at | 1];
    const guest = (hi << 20) | (lo >>> 12);
    if ((this.pageMask & lo) !== this.pageValue || (this.pageHi & hi) !== 0 || guest >= this.guestLimit) return -1;
    this.guestFlags = ((lo & 0xc0) << 2) | ((hi & 0x78_0000) << 4);
    return guest;
  }

  #decide(flags: number): void {
    this.rights = this.#pageRights[indexOf(flags)] & this.#rightsOfGuest(flags);
    this.flags = flags;
  }

  /** Of `guestFlags`, among other flags or alone. */
  #rightsOfGuest(flags: number): number {
    return this.#guestRights[indexOf(((flags >>> 2) & 0xc0) | ((flags >>> 4) & HIGH_FLAGS))];
  }

  #rightsOfPage(lo: number, hi: number): number {
    return this.#pageRights[indexOf((lo & LOW_FLAGS) | (hi & HIGH_FLAGS))];
  }

  #throughCaches(page: number, needed: number): number {
    if (!this.#c.stage1) return this.#stage2(page, needed);
    const at = this.#tabled ? this.#lastEntry(page) : this.#nestedEntry(page);
    if (at === -1) return -1;
    return this.#c.stage2 ? this.#nested(page, needed, at) : this.#stage1(page, needed, at);
  }

  #stage2(page: number, needed: number): number {
    const { intermediate } = this;
    const slot = this.#fill(page);
    return slot === -1 || (intermediate.data(slot) & needed) !== needed ? -1 : intermediate.output(slot, page);
  }

  #stage1(page: number, needed: number, at: number): number {
    const lo = this.pages.entry(at);
    const { hi } = this.pages;
    const rights = this.#rightsOfPage(lo, hi);
    if (lo === 0 || (rights & needed) !== needed) return -1;
    const out = (hi << 20) | (lo >>> 12);
    this.target.add(this.key, page, out, rights);
    return out;
  }

  #nested(page: number, needed: number, at: number): number {
    const { intermediate } = this;
    const guest = this.#guest(at);
    const slot = guest === -1 ? -1 : this.#host(guest);
    if (slot === -1) return -1;
    const rights = this.#rightsOfGuest(this.guestFlags) & intermediate.data(slot);
    if ((rights & needed) !== needed) return -1;
    const out = intermediate.output(slot, guest);
    // A larger leaf of stage 2 gives no more than this page of stage 1.
    this.target.add(this.key, page, out, rights);
    return out;
  }

  /** Word index of the stage-1 entry of a page, in a table that a walk cache has; -1 when it has none, or one that takes rights away. */
  #lastEntry(page: number): number {
    const { entries } = this.#firstTables;
    const slot = entries.find(this.key.tagA, this.key.tagB, page, 21);
    if (slot === -1 || entries.data(slot) !== 0) return -1;
    const table = entries.firstOutput(slot);
    if (!this.#c.stage2) return entryOf(table, page);
    return this.#guestEntry(table, page);
  }

  /** The same with a cache of intermediate addresses: it is looked into for each table, as `Stage2` does. */
  #nestedEntry(page: number): number {
    const { words } = this;
    let guest = this.guestRoot;
    for (let level = this.#topLevel; ; level--) {
      const at = this.#guestEntry(guest, level === 3 ? (page / 0x800_0000) | 0 : (page | 0) >>> (9 * level));
      if (level === 0 || at === -1) return at;
      const entry = words[at];
      if ((this.tableMask & entry) !== this.tableValue || words[at | 1] !== 0) return -1;
      guest = entry >>> 12;
    }
  }

  /** Word index of an entry in the table at an intermediate page. */
  #guestEntry(guest: number, index: number): number {
    const { intermediate, unreadable } = this;
    const slot = guest < this.guestLimit ? this.#host(guest) : -1;
    return slot === -1 || (intermediate.data(slot) & (R | unreadable)) !== R ? -1 : entryOf(intermediate.output(slot, guest), index);
  }

  /** Slot of the stage-2 translation of a page; -1 when it is not plain, or nothing is cached. */
  #host(page: number): number {
    const { vmid } = this.#c;
    const slot = this.intermediate.lookup(vmid, World.IPA, page);
    return slot === -1 ? this.#fill(page) : slot;
  }

  /** The same when it was not cached before. */
  #fill(page: number): number {
    const { pages } = this;
    const lo = this.#tabled ? this.#knownEntry(page) : pages.walk(page | 0, (page / 0x800_0000) | 0);
    if (lo === 0) return -1;
    const { hi } = pages;
    return this.intermediate.add(this.intermediateKey, page, (hi << 20) | (lo >>> 12), this.#rightsOfPage(lo, hi));
  }

  /** The page's entry, as `PlainWalk` gives it, in a stage-2 table that a walk cache has. */
  #knownEntry(page: number): number {
    const { entries } = this.#secondTables;
    const slot = entries.find(this.#c.vmid, World.IPA, page, 21);
    if (slot === -1 || entries.data(slot) !== 0) return 0;
    const at = entryOf(entries.firstOutput(slot), page);
    return at === -1 ? 0 : this.pages.entry(at);
  }
}

/** Word index of an entry, its index modulo 512, in a table at a physical page; -1 outside the bank. */
function entryOf(table: number, index: number): number {
  return table < BANK_PAGES ? (table * 1024) | ((index << 1) & 1022) : -1;
}
