/**
 * Accesses to 4 KiB pages through plain tables in RAM's bank, in which no flag is to be set and nothing is refused: nearly all that a busy device
 * needs when it misses the TLBs. Everything about the configuration is worked out once, in small integers, because a test for a truth value or an
 * imported constant costs as much as a level of the walk (ARCHITECTURE, "Speed"). Whatever is not so plain goes to `Stage1` and `Stage2`.
 */
import { type Iotlb, IotlbKey, type PageTableFormat, type PhysicalMemory, walkPlain } from "@iommukit/core";
import type { Capabilities } from "../spec/identification.js";
import { World } from "../spec/illegal.js";
import { Hi, Lo } from "../spec/tables.js";
import type { Configuration } from "./configuration.js";
import { ANY_WRITE, R, stage1Rights, stage2Rights, withoutUpdates } from "./rights.js";
import { deviceMemory, DEVICE } from "./stage2.js";
import { intermediateTags } from "./tlb-groups.js";
import type { TableCache } from "./table-cache.js";
import type { Tlbs } from "./tlbs.js";

/** Index of a leaf's rights: AP or S2AP, and bits 22:19 of the high word (DBM, contiguous, XN). */
const RIGHTS = 64;
const lowOf = (index: number): number => (index & 3) << 6;
const highOf = (index: number): number => (index >>> 2) << 19;

const KIND = { STAGE1: 1, STAGE2: 2, NESTED: 3 } as const;

export class QuickWalk {
  private readonly memory: PhysicalMemory;
  private readonly words: Int32Array;
  private readonly input: Iotlb;
  private readonly intermediate: Iotlb;
  private readonly first: PageTableFormat;
  private readonly second: PageTableFormat;
  private readonly kind: number;
  private readonly key: IotlbKey = new IotlbKey();
  private readonly intermediateKey: IotlbKey = new IotlbKey();
  private readonly vmid: number;
  /** Input pages, and intermediate ones, end here. */
  private readonly limit: number;
  private readonly secondLimit: number;
  /** Roots as word indices, that of a nested first stage as a page. */
  private readonly firstRoot: number;
  private readonly firstTop: number;
  private readonly secondRoot: number;
  private readonly secondTop: number;
  /** Bits that a leaf must have: AF, and nG where an entry could be global. */
  private readonly firstNeeds: number;
  /** Some of these bits must be set in a leaf of stage 2 under a table: it is not Device memory. */
  private readonly normal: number;
  /** Cached rights that make a table unreadable. */
  private readonly unreadable: number;
  private readonly firstRights = new Int32Array(RIGHTS);
  private readonly secondRights = new Int32Array(RIGHTS);
  /** In cached rights of stage 2, by MemAttr. */
  private readonly devices = new Int32Array(16);
  private readonly cached: number;
  /** Walk caches, and whether they are on. */
  private readonly firstTables: TableCache;
  private readonly secondTables: TableCache;
  private readonly tabled: number;

  /** Undefined when the configuration's tables are not of a kind to be read here. */
  static for(c: Configuration, memory: PhysicalMemory, caps: Capabilities, tlbs: Tlbs): QuickWalk | undefined {
    const [half] = c.halves;
    const bank = memory.words.length * 4;
    const isPlain = (format: PageTableFormat | undefined, top: number): boolean => format !== undefined && ((format.plainTops >>> top) & 1) === 1;
    if (c.stage1 && (!half.enabled || c.bigEndian || c.updatesTables || !isPlain(half.format, half.topLevel))) return undefined;
    if (c.stage2 && (c.s2BigEndian || c.s2UpdatesTables || c.s2Pages > c.s2TableSpan || c.s2Root >= bank || !isPlain(c.s2Format, c.s2TopLevel))) return undefined;
    if (c.stage1 && !c.stage2 && half.root >= bank) return undefined;
    if (c.stage1 && c.stage2 && (half.topLevel > 3 || half.fixedRoot !== -1 || half.root % 4096 !== 0 || half.root >= 2 ** 32)) return undefined;
    // A page of a run is cached as the run.
    if (tlbs.contiguous) return undefined;
    // One walk cache of two is left to others.
    if (c.stage1 && c.stage2 && tlbs.inputTables.on !== tlbs.intermediateTables.on) return undefined;
    const first = half.format ?? c.s2Format;
    return first === undefined ? undefined : new QuickWalk(c, memory, caps, tlbs, first, c.s2Format ?? first);
  }

  private constructor(c: Configuration, memory: PhysicalMemory, caps: Capabilities, tlbs: Tlbs, first: PageTableFormat, second: PageTableFormat) {
    const [half] = c.halves;
    const onePrivilege = c.world === World.EL2;
    this.memory = memory;
    this.words = memory.words;
    this.input = tlbs.input;
    this.intermediate = tlbs.intermediate;
    this.first = first;
    this.second = second;
    this.kind = c.stage1 ? (c.stage2 ? KIND.NESTED : KIND.STAGE1) : KIND.STAGE2;
    this.cached = tlbs.intermediate.capacity === 0 ? 0 : 1;
    this.firstTables = tlbs.inputTables;
    this.secondTables = tlbs.intermediateTables;
    this.tabled = Number(c.stage1 ? tlbs.inputTables.on : tlbs.intermediateTables.on);
    this.key.set(c.tagA, c.tagB, c.groupA, c.groupB);
    const tags = intermediateTags(c.vmid);
    this.intermediateKey.set(tags.tagA, tags.tagB, tags.groupA, tags.groupB);
    this.vmid = c.vmid;
    this.limit = c.stage1 ? half.pages : c.s2Pages;
    this.secondLimit = c.s2Pages;
    this.firstRoot = c.stage2 ? half.root / 4096 : half.root >>> 2;
    this.firstTop = half.topLevel;
    this.secondRoot = c.s2Root >>> 2;
    this.secondTop = c.s2TopLevel;
    this.firstNeeds = Lo.AF | (onePrivilege ? 0 : Lo.NG);
    // MemAttr is bits 5:2.
    this.normal = c.s2ProtectsWalks ? (c.s2ForceWriteBack ? 0x10 : 0x30) : Lo.VALID;
    this.unreadable = c.s2ProtectsWalks ? DEVICE : 0;
    for (let i = 0; i < RIGHTS; i++) {
      const [lo, hi] = [lowOf(i), highOf(i)];
      const one = c.stage1 ? stage1Rights(c, false, lo, hi, 0, onePrivilege) : 0;
      this.firstRights[i] = withoutUpdates(one, (lo & Lo.AP2) !== 0 && (one & ANY_WRITE) !== 0);
      const two = stage2Rights(c.s2UpdatesDirty, caps.executeNever, lo, hi);
      this.secondRights[i] = withoutUpdates(two, (lo & Lo.S2W) === 0 && (hi & Hi.DBM) !== 0 && c.s2UpdatesDirty);
    }
    for (let i = 0; i < 16; i++) this.devices[i] = deviceMemory(c, i << 2) ? DEVICE : 0;
  }

  /** The output page, kept in the TLBs; -1 when others have to tell. @param needed rights, six bits */
  walk(page: number, needed: number): number {
    if (page >= this.limit) return -1;
    if (this.kind === 1) return this.#stage1(page, needed);
    if (this.kind === 2) return this.#stage2(page, needed);
    if (this.tabled === 1) return this.#tabledNested(page, needed);
    return this.cached === 1 ? this.#cachedNested(page, needed) : this.#nested(page, needed);
  }

  #stage1(page: number, needed: number): number {
    const { first, firstNeeds, memory } = this;
    const lo =
      this.tabled === 1
        ? this.#leaf(this.firstTables, this.key.tagA, this.key.tagB, first, page)
        : walkPlain(memory, first, this.firstRoot, this.firstTop, page, 0);
    const { hi } = memory;
    if ((lo & firstNeeds) !== firstNeeds) return -1;
    const rights = this.firstRights[((lo >>> 6) & 3) | ((hi >>> 17) & 0x3c)];
    if ((rights & needed) !== needed) return -1;
    const out = ((hi & first.addressHi) << 20) | (lo >>> 12);
    this.input.add(this.key, page, out, rights);
    return out;
  }

  #stage2(page: number, needed: number): number {
    const slot = this.#fill(page);
    return slot === -1 || (this.intermediate.data(slot) & needed) !== needed ? -1 : this.intermediate.output(slot, page);
  }

  /** Slot of a stage-2 translation that was not cached before; -1 when it is not plain, or nothing is cached. */
  #fill(page: number): number {
    const { second, memory } = this;
    const lo =
      this.tabled === 1
        ? this.#leaf(this.secondTables, this.vmid, World.IPA, second, page)
        : walkPlain(memory, second, this.secondRoot, this.secondTop, page, 0);
    const { hi } = memory;
    // AF is bit 10.
    if ((lo & 0x400) === 0) return -1;
    const rights = this.secondRights[((lo >>> 6) & 3) | ((hi >>> 17) & 0x3c)] | this.devices[(lo >>> 2) & 15];
    return this.intermediate.add(this.intermediateKey, page, ((hi & second.addressHi) << 20) | (lo >>> 12), rights);
  }

  /** What `walkPlain` gives, from a table that a walk cache has; 0 when it has none, or one that takes rights away. */
  #leaf(tables: TableCache, tagA: number, tagB: number, format: PageTableFormat, page: number): number {
    const { words, memory } = this;
    const slot = tables.entries.find(tagA, tagB, page, 21);
    if (slot === -1 || tables.entries.data(slot) !== 0) return 0;
    const at = tables.entries.firstOutput(slot) * 1024 + ((page & 511) << 1);
    if (at >= words.length) return 0;
    const lo = words[at];
    const hi = words[at + 1];
    memory.hi = hi;
    return (lo & format.presentMask) === 0 || (lo & format.plainPageMask) !== format.plainPageValue || (hi & format.plainPageHi) !== 0 ? 0 : lo;
  }

  /** Nested, with walk caches: the last table of stage 1, through stage 2, and the page. */
  #tabledNested(page: number, needed: number): number {
    const { firstTables, intermediate, words, unreadable } = this;
    const table = firstTables.entries.find(this.key.tagA, this.key.tagB, page, 21);
    if (table === -1 || firstTables.entries.data(table) !== 0) return -1;
    const guest = firstTables.entries.firstOutput(table);
    const slot = guest < this.secondLimit ? this.#host(guest) : -1;
    if (slot === -1 || (intermediate.data(slot) & (R | unreadable)) !== R) return -1;
    const at = intermediate.output(slot, guest) * 1024 + ((page & 511) << 1);
    if (at >= words.length) return -1;
    return this.#finish(page, needed, words[at], words[at + 1]);
  }

  /** Slot of the stage-2 translation of a page. */
  #host(page: number): number {
    const slot = this.intermediate.lookup(this.vmid, World.IPA, page);
    return slot === -1 ? this.#fill(page) : slot;
  }

  /** Nested, with a cache of intermediate addresses: it is looked into for each table and for the page, as `Stage2` does. */
  #cachedNested(page: number, needed: number): number {
    const { first, intermediate, words, unreadable } = this;
    const low = page | 0;
    let guest = this.firstRoot;
    for (let level = this.firstTop; ; level--) {
      const slot = guest < this.secondLimit ? this.#host(guest) : -1;
      if (slot === -1) return -1;
      if ((intermediate.data(slot) & (R | unreadable)) !== R) return -1;
      const index = level === 3 ? (page / 0x800_0000) | 0 : low >>> (9 * level);
      const at = intermediate.output(slot, guest) * 1024 + ((index & 511) << 1);
      if (at >= words.length) return -1;
      const lo = words[at];
      const hi = words[at + 1];
      if (level === 0) return this.#finish(page, needed, lo, hi);
      if ((lo & first.plainTableMask) !== first.plainTableValue || hi !== 0) return -1;
      guest = lo >>> 12;
    }
  }

  #finish(page: number, needed: number, lo: number, hi: number): number {
    const { first, firstNeeds, intermediate } = this;
    if ((lo & first.presentMask) === 0 || (lo & first.plainPageMask) !== first.plainPageValue || (hi & first.plainPageHi) !== 0 || (lo & firstNeeds) !== firstNeeds) return -1;
    const guest = ((hi & first.addressHi) << 20) | (lo >>> 12);
    const slot = guest < this.secondLimit ? this.#host(guest) : -1;
    if (slot === -1) return -1;
    const rights = this.firstRights[((lo >>> 6) & 3) | ((hi >>> 17) & 0x3c)] & intermediate.data(slot);
    if ((rights & needed) !== needed) return -1;
    const out = intermediate.output(slot, guest);
    // A larger leaf of stage 2 gives no more than this page of stage 1.
    this.input.add(this.key, page, out, rights);
    return out;
  }

  /**
   * Each table of stage 1 through stage 2, and then the page. In one loop, because five walks are too much to be inlined, and
   * a call costs as much as half a walk.
   */
  #nested(page: number, needed: number): number {
    const { first, second, secondRoot, secondTop, memory, words, normal, secondLimit } = this;
    const low = page | 0;
    let guest = this.firstRoot;
    let rights = -1;
    for (let level = this.firstTop; ; level--) {
      const host = guest < secondLimit ? walkPlain(memory, second, secondRoot, secondTop, guest, 0) : 0;
      const { hi: hostHi } = memory;
      // AF is bit 10, S2AP[0] bit 6.
      if ((host & 0x400) === 0) return -1;
      if (level === -1) {
        rights &= this.secondRights[((host >>> 6) & 3) | ((hostHi >>> 17) & 0x3c)];
        if ((rights & needed) !== needed) return -1;
        const out = ((hostHi & second.addressHi) << 20) | (host >>> 12);
        this.input.add(this.key, page, out, rights);
        return out;
      }
      if ((host & 0x40) === 0 || (host & normal) === 0 || host >>> 28 !== 0 || (hostHi & second.addressHi) !== 0) return -1;
      const index = level === 3 ? (page / 0x800_0000) | 0 : low >>> (9 * level);
      const at = ((host & second.addressLo) >>> 2) + ((index & 511) << 1);
      const lo = words[at];
      const hi = words[at + 1];
      guest = lo >>> 12;
      if (level !== 0) {
        if ((lo & first.plainTableMask) !== first.plainTableValue || hi !== 0) return -1;
        continue;
      }
      if ((lo & first.presentMask) === 0 || (lo & first.plainPageMask) !== first.plainPageValue || (hi & first.plainPageHi) !== 0) return -1;
      if ((lo & this.firstNeeds) !== this.firstNeeds) return -1;
      guest |= (hi & first.addressHi) << 20;
      rights = this.firstRights[((lo >>> 6) & 3) | ((hi >>> 17) & 0x3c)];
    }
  }
}
