/** First stage, second stage, and one through the other (VT-d 3.6 to 3.11): walks, permissions, accessed and dirty flags. */
import {
  Access, classifyEntry, EntryKind, entryAddress, entryFrame, type Iotlb, levelShift, type PageTableFormat, type PhysicalMemory, setFlags, WalkResult,
  WalkStatus, walk,
} from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pgtt } from "../spec/entries.js";
import { faultIndex } from "../spec/faults.js";
import { FirstStage, firstStageFormat, SecondStage, secondStageFormat } from "../spec/formats.js";
import type { Caches } from "./caches.js";
import { type Configuration, NONE } from "./configuration.js";
import { outputCondition } from "./interrupt-range.js";
import type { VtdPolicies } from "./policies.js";
import { QuickWalk } from "./quick-walk.js";
import { RequestKind } from "./request.js";

const F = {
  LCT43: faultIndex("LCT.4.3"), LSS1: faultIndex("LSS.1"), LSS2: faultIndex("LSS.2"), LGN11: faultIndex("LGN.1.1"), LGN2: faultIndex("LGN.2"),
  LGN3: faultIndex("LGN.3"),
  SFS1: faultIndex("SFS.1"), SFS2: faultIndex("SFS.2"), SFS3: faultIndex("SFS.3"), SFS4: faultIndex("SFS.4"), SFS5: faultIndex("SFS.5"),
  SFS6: faultIndex("SFS.6"), SFS7: faultIndex("SFS.7"), SFS8: faultIndex("SFS.8"), SFS9: faultIndex("SFS.9"), SFS10: faultIndex("SFS.10"),
  SSS1: faultIndex("SSS.1"), SSS2: faultIndex("SSS.2"), SSS3: faultIndex("SSS.3"), SSS4: faultIndex("SSS.4"), SSS5: faultIndex("SSS.5"),
  SSS6: faultIndex("SSS.6"), SGN1: faultIndex("SGN.1"), SGN2: faultIndex("SGN.2"), SGN5: faultIndex("SGN.5"), SGN6: faultIndex("SGN.6"),
  SGN7: faultIndex("SGN.7"),
} as const;

/** Levels of a table, and what turns a page number into the index at each. */
const LEVELS = 5;
const SCALE = Float64Array.from({ length: LEVELS }, (_, level) => 2 ** (-9 * level));
const PAGES = Float64Array.from({ length: LEVELS }, (_, level) => 2 ** (9 * level));

/** What a paging-structure cache keeps of an entry: its flags; and, when nested, the second stage's rights to the table below, in bits 13:12. */
const FLAGS = 0xfff;
const RIGHTS_SHIFT = 12;

export class Stages {
  /** What the last good walk gave: output page, log2 of the page's bytes, */
  outPage = 0.5;
  shift = 12;
  /** rights of user and of privileged requests (bits of `Access`), */
  userRights = 0;
  /** The second stage has nothing for the page that was looked for last, not even a right. */
  absent = false;
  privilegedRights = 0;
  /** whether a write needs no dirty update, and SNP of the second-stage leaf. */
  dirty = false;
  snoop = false;

  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #policies: VtdPolicies;
  readonly #caches: Caches;
  readonly #firstTables: Iotlb;
  readonly #secondTables: Iotlb;
  readonly #firstFormat: PageTableFormat;
  readonly #formats: readonly [plain: PageTableFormat, io: PageTableFormat];
  #secondFormat: PageTableFormat;
  /** RTADDR.SSIRWE: permissions in bits 62:61. */
  #io = false;
  readonly #walk = new WalkResult();
  /** Where the last second-stage walk began, the AND of the entries above that, and of all of them: low bits. */
  #secondTable = 0;
  #secondLevel = 0;
  #secondBase = -1;
  #secondAnd = 0;
  /** AND of the entries above where the last nested walk began. */
  #nestedBase = -1;
  /** Some entry of a second-stage walk to a first-stage table lacks a flag. */
  #tablesMissFlags = false;
  /** By level of a nested walk: the first-stage table's guest page and host address, and the second stage's rights to it. */
  readonly #guests = new Float64Array(LEVELS);
  readonly #hosts = new Float64Array(LEVELS);
  readonly #tableRights = new Int32Array(LEVELS);

  constructor(memory: PhysicalMemory, caps: Capabilities, policies: VtdPolicies, caches: Caches) {
    this.#memory = memory;
    this.#caps = caps;
    this.#policies = policies;
    this.#caches = caches;
    this.#firstTables = caches.firstStageTables;
    this.#secondTables = caches.secondStageTables;
    this.#firstFormat = firstStageFormat(caps);
    this.#formats = [secondStageFormat(caps), secondStageFormat(caps, true)];
    this.#secondFormat = this.#formats[0];
  }

  /** RTADDR.SSIRWE */
  set secondStageIo(on: boolean) {
    this.#io = on;
    this.#secondFormat = this.#formats[Number(on)];
  }

  /** Translates under a good configuration that is not pass-through; NONE or a fault condition. */
  resolve(c: Configuration, page: number, access: number, privileged: boolean, kind: number): number {
    if (c.pgtt === Pgtt.SECOND_STAGE) return this.#second(c, page, access, kind);
    if (page >= c.canonicalPages && page < 2 ** 52 - c.canonicalPages) return F.SGN1;
    return c.pgtt === Pgtt.NESTED ? this.#nested(c, page, access, privileged, kind, true) : this.#first(c, page, access, privileged, kind);
  }

  /** The quick way for a configuration's reads; undefined when there is none. */
  quickWalk(c: Configuration, rid: number, pasid: number, privileged: boolean): QuickWalk | undefined {
    if (c.secondStageDirty && this.#policies.dirtyTables === "reads") return undefined;
    const parts = { memory: this.#memory, first: this.#firstFormat, second: this.#secondFormat, caches: this.#caches, snoopControl: this.#caps.snoopControl };
    return QuickWalk.create(parts, c, { rid, pasid, privileged });
  }

  #first(c: Configuration, page: number, access: number, privileged: boolean, kind: number): number {
    const w = this.#walk;
    const format = this.#firstFormat;
    const slot = this.#deepest(this.#firstTables, c.domain, c.pasid, page, c.topLevel);
    const table = slot === -1 ? c.root : this.#firstTables.firstOutput(slot) * 4096;
    const level = slot === -1 ? c.topLevel : this.#levelBelow(this.#firstTables, slot);
    const status = walk(this.#memory, format, table, level, page, w);
    const base = slot === -1 ? -1 : this.#firstTables.data(slot);
    const and = w.andLo & base;
    const accessed = c.accessedFlags;
    let condition = this.#firstCondition(c, status, and, access, privileged, kind);
    const wanted = condition === NONE && (access & Access.WRITE) !== 0;
    const write = wanted && this.#mayWrite(c, and, privileged);
    const flags = (and & accessed) !== accessed || (write && (w.entryLo & FirstStage.D) === 0);
    if (condition === NONE && flags && !this.#snooped(c)) condition = F.SFS9;
    if (condition === NONE) condition = outputCondition(c, kind, w.outPage, levelShift(format, w.level));
    if (condition !== NONE) {
      const last = status === WalkStatus.OK ? w.level : w.level + 1;
      if (this.#policies.accessed === "walked" && this.#snooped(c)) setFlags(this.#memory, format, table, level, page, last, accessed, 0);
      return condition;
    }
    if (flags && !setFlags(this.#memory, format, table, level, page, w.level, accessed, write ? FirstStage.D : 0)) return F.SFS10;
    if (this.#firstTables.capacity !== 0 && w.level < level) this.#keepFirst(c, page, table, level, base);
    this.#setFirstRights(c, and, 3);
    this.dirty = write || (w.entryLo & FirstStage.D) !== 0;
    this.snoop = false;
    this.outPage = w.outPage;
    this.shift = levelShift(format, w.level);
    return NONE;
  }

  /** U/S is tested level by level, after the reserved bits (3.6): an entry above the failing one comes first, unless the policy says last. */
  #firstCondition(c: Configuration, status: number, and: number, access: number, privileged: boolean, kind: number): number {
    const denied = !privileged && (and & FirstStage.US) === 0;
    if (denied && (status === WalkStatus.OK || this.#policies.userDenial === "first")) return F.SGN2;
    switch (status) {
      case WalkStatus.NOT_PRESENT:
        return F.SFS2;
      case WalkStatus.RESERVED:
        return F.SFS3;
      case WalkStatus.BUS_ERROR:
        return this.#walk.level === c.topLevel ? F.SFS4 : F.SFS1;
      default:
    }
    const refused = (access & Access.WRITE) !== 0 && kind !== RequestKind.TRANSLATION && !this.#mayWrite(c, and, privileged);
    return refused ? F.SGN6 : NONE;
  }

  #mayWrite(c: Configuration, and: number, privileged: boolean): boolean {
    return (and & FirstStage.RW) !== 0 || (privileged && !c.writeProtect);
  }

  #setFirstRights(c: Configuration, and: number, second: number): void {
    const writable = (and & FirstStage.RW) !== 0;
    this.userRights = (and & FirstStage.US) === 0 ? 0 : second & (writable ? 3 : 1);
    this.privilegedRights = second & (writable || !c.writeProtect ? 3 : 1);
  }

  #second(c: Configuration, page: number, access: number, kind: number): number {
    if (page >= c.secondPages) return c.legacy ? F.LGN11 : F.SGN5;
    const condition = this.#secondLeaf(c, page, access, kind);
    if (condition !== NONE) return condition;
    const w = this.#walk;
    const write = (access & Access.WRITE) !== 0 && (this.#secondAnd & SecondStage.W) !== 0;
    const flags = this.#secondMissFlags(c, write);
    if (flags && !this.#snooped(c)) return F.SSS5;
    const shift = levelShift(this.#secondFormat, w.level);
    const output = outputCondition(c, kind, w.outPage, shift);
    if (output !== NONE) return output;
    if (flags && !this.#setSecondFlags(page, write)) return F.SSS6;
    this.#keepSecond(c, page);
    this.userRights = this.#secondAnd & 3;
    this.privilegedRights = this.userRights;
    this.#setSecondLeaf(c, write);
    this.outPage = w.outPage;
    this.shift = shift;
    return NONE;
  }

  /** The second stage's walk and permissions for the page that the request is after. */
  #secondLeaf(c: Configuration, page: number, access: number, kind: number): number {
    const status = this.#walkSecond(c, page);
    const write = (access & Access.WRITE) !== 0;
    this.absent = status !== WalkStatus.OK || (this.#secondAnd & 3) === 0;
    if (status !== WalkStatus.OK) return this.#secondCondition(c, status, write);
    const rights = this.#secondAnd & 3;
    if (rights === 0 && !c.legacy) return F.SSS2;
    if (kind === RequestKind.TRANSLATION) return NONE;
    if (write && (rights & SecondStage.W) === 0) return c.legacy ? F.LGN2 : F.SGN6;
    const read = (access & Access.READ) !== 0 && !((access & Access.ZERO_LENGTH) !== 0 && this.#caps.zeroLengthRead && rights !== 0);
    if (read && (rights & SecondStage.R) === 0) return c.legacy ? F.LGN3 : F.SGN7;
    return NONE;
  }

  #walkSecond(c: Configuration, page: number): number {
    const w = this.#walk;
    const slot = this.#deepest(this.#secondTables, c.domain, 0, page, c.secondTopLevel);
    this.#secondTable = slot === -1 ? c.secondRoot : this.#secondTables.firstOutput(slot) * 4096;
    this.#secondLevel = slot === -1 ? c.secondTopLevel : this.#levelBelow(this.#secondTables, slot);
    const status = walk(this.#memory, this.#secondFormat, this.#secondTable, this.#secondLevel, page, w);
    const and = this.#io ? (w.andLo & ~3) | ((w.andHi >>> 29) & 3) : w.andLo;
    this.#secondBase = slot === -1 ? -1 : this.#secondTables.data(slot);
    this.#secondAnd = and & this.#secondBase;
    return status;
  }

  #secondCondition(c: Configuration, status: number, write: boolean): number {
    switch (status) {
      case WalkStatus.NOT_PRESENT:
        return c.legacy ? (write ? F.LGN2 : F.LGN3) : F.SSS2;
      case WalkStatus.RESERVED:
        return c.legacy ? F.LSS2 : F.SSS3;
      default:
        if (this.#walk.level === c.secondTopLevel) return c.legacy ? F.LCT43 : F.SSS4;
        return c.legacy ? F.LSS1 : F.SSS1;
    }
  }

  #secondMissFlags(c: Configuration, dirties: boolean): boolean {
    return c.secondStageDirty && ((this.#secondAnd & SecondStage.A) === 0 || (dirties && (this.#walk.entryLo & SecondStage.D) === 0));
  }

  #setSecondFlags(page: number, dirties: boolean): boolean {
    const dirty = dirties ? SecondStage.D : 0;
    return setFlags(this.#memory, this.#secondFormat, this.#secondTable, this.#secondLevel, page, this.#walk.level, SecondStage.A, dirty);
  }

  #setSecondLeaf(c: Configuration, write: boolean): void {
    this.dirty = write || !c.secondStageDirty || (this.#walk.entryLo & SecondStage.D) !== 0;
    this.snoop = this.#caps.snoopControl && (this.#walk.entryLo & SecondStage.SNP) !== 0;
  }

  /**
   * One stage through the other (3.8). The walk comes first, with every table read through the second stage; then permissions; then
   * flags, if any is missing, in the order of the reads.
   */
  #nested(c: Configuration, page: number, access: number, privileged: boolean, kind: number, cached: boolean): number {
    const format = this.#firstFormat;
    const { plainTableMask, plainTableValue, addressLo, addressHi } = format;
    const memory = this.#memory;
    const slot = cached ? this.#deepest(this.#firstTables, c.domain, c.pasid, page, c.topLevel) : -1;
    let level = c.topLevel;
    let and = -1;
    let guest = c.root / 4096;
    let host = -1;
    if (slot !== -1) {
      level = this.#levelBelow(this.#firstTables, slot);
      host = this.#firstTables.firstOutput(slot) * 4096;
      and = this.#firstTables.data(slot);
      this.#tableRights[level] = (and >>> RIGHTS_SHIFT) & 3;
    }
    const top = level;
    this.#nestedBase = and;
    this.#tablesMissFlags = false;
    let condition: number;
    for (;;) {
      if (host === -1) {
        condition = this.#tablePage(c, guest, level);
        if (condition !== NONE) break;
        host = this.#walk.outPage * 4096;
      }
      this.#guests[level] = guest;
      this.#hosts[level] = host;
      if (!memory.load64(host + ((page * SCALE[level]) & 511) * 8)) {
        condition = level === c.topLevel ? F.SFS4 : F.SFS1;
        break;
      }
      const { lo, hi } = memory;
      const plain = level > 0 && (lo & plainTableMask) === plainTableValue && hi === 0;
      const entry = plain ? EntryKind.TABLE : classifyEntry(format, level, lo, hi);
      if (entry === EntryKind.NOT_PRESENT || entry === EntryKind.RESERVED) {
        condition = entry === EntryKind.RESERVED ? F.SFS3 : F.SFS2;
        break;
      }
      guest = (hi & addressHi) * 0x100000 + ((lo & addressLo) >>> 12);
      if (guest >= c.secondPages) {
        condition = F.SFS5;
        break;
      }
      and &= lo;
      if (entry === EntryKind.LEAF) return this.#nestedLeaf(c, page, access, privileged, kind, top, level, and, lo, guest);
      host = -1;
      level--;
    }
    if (this.#policies.accessed === "walked") this.#touchNested(c, page, top, level + 1);
    return !privileged && (and & FirstStage.US) === 0 && this.#policies.userDenial === "first" ? F.SGN2 : condition;
  }

  /** Reads a first-stage table through the second stage: which it must let be read, and written when it keeps flags (3.8.1). */
  #tablePage(c: Configuration, guest: number, level: number): number {
    const status = this.#walkSecond(c, guest);
    if (status !== WalkStatus.OK) return this.#secondCondition(c, status, false);
    const rights = this.#secondAnd & 3;
    if (rights === 0) return F.SSS2;
    const unreadable = level === c.topLevel ? F.SFS6 : F.SFS7;
    if ((rights & SecondStage.R) === 0) return unreadable;
    if (c.secondStageDirty && (rights & SecondStage.W) === 0) return this.#policies.unwritableTable === "SFS.8" ? F.SFS8 : unreadable;
    this.#tableRights[level] = rights;
    if (this.#secondMissFlags(c, this.#policies.dirtyTables === "reads")) this.#tablesMissFlags = true;
    else this.#keepSecond(c, guest);
    return NONE;
  }

  #nestedLeaf(
    c: Configuration, page: number, access: number, privileged: boolean, kind: number, top: number, level: number, and: number, leaf: number, frame: number,
  ): number {
    if (!privileged && (and & FirstStage.US) === 0) return F.SGN2;
    const wanted = (access & Access.WRITE) !== 0;
    const mayWrite = this.#mayWrite(c, and, privileged);
    if (wanted && !mayWrite && kind !== RequestKind.TRANSLATION) return F.SGN6;
    const guest = frame - (frame % PAGES[level]) + (page % PAGES[level]);
    const condition = this.#secondLeaf(c, guest, access, kind);
    if (condition !== NONE) return condition;
    const w = this.#walk;
    const second = this.#secondAnd & 3;
    const write = wanted && mayWrite && (second & SecondStage.W) !== 0;
    const accessed = c.accessedFlags;
    const missing =
      (and & accessed) !== accessed || (write && (leaf & FirstStage.D) === 0) || this.#tablesMissFlags || this.#secondMissFlags(c, write);
    // A cached table is not known by its guest address, which its dirty flag needs: from the top again.
    if (missing && top !== c.topLevel) return this.#nested(c, page, access, privileged, kind, false);
    const outPage = w.outPage;
    const shift = Math.min(levelShift(this.#firstFormat, level), levelShift(this.#secondFormat, w.level));
    this.#setFirstRights(c, and, second);
    this.#setSecondLeaf(c, write);
    this.dirty &&= write || (leaf & FirstStage.D) !== 0;
    // Nothing is set in memory for a request whose output is refused.
    const owed = missing ? this.#nestedFlags(c, page, top, level, accessed, write, guest, false) : NONE;
    if (owed !== NONE) return owed;
    const output = outputCondition(c, kind, outPage, shift);
    if (output !== NONE) return output;
    const failed = missing ? this.#nestedFlags(c, page, top, level, accessed, write, guest, true) : NONE;
    if (failed !== NONE) return failed;
    if (!missing) this.#keepSecond(c, guest);
    this.outPage = outPage;
    this.shift = shift;
    if (this.#firstTables.capacity !== 0 && level < top) this.#keepNested(c, page, top, level);
    return NONE;
  }

  /**
   * Sets what is missing of the flags, in the order of the reads: of the way to each first-stage table, of its entry, of the way to the
   * page. With `set` false it tells what forbids that, and changes nothing.
   */
  #nestedFlags(c: Configuration, page: number, top: number, leafLevel: number, accessed: number, write: boolean, guest: number, set: boolean): number {
    for (let level = top; level >= leafLevel; level--) {
      const bits = level === leafLevel && write ? accessed | FirstStage.D : accessed;
      const at = this.#entry(page, level);
      const update = this.#memory.load64(at) && (this.#memory.lo & bits) !== bits;
      const condition = this.#secondFlags(c, this.#guests[level], update || this.#policies.dirtyTables === "reads", update, set);
      if (condition !== NONE) return condition;
      if (!update) continue;
      if ((this.#tableRights[level] & SecondStage.W) === 0) return F.SFS8;
      if (!this.#snooped(c)) return F.SFS9;
      if (set && !this.#memory.or64(at, bits, 0)) return F.SFS10;
    }
    return this.#secondFlags(c, guest, write, false, set);
  }

  /** `first`: a first-stage entry will be written, and says what is wrong with that. */
  #secondFlags(c: Configuration, page: number, dirties: boolean, first: boolean, set: boolean): number {
    if (!c.secondStageDirty) return NONE;
    this.#walkSecond(c, page);
    if (!this.#secondMissFlags(c, dirties)) return NONE;
    if (!this.#snooped(c)) return first && !this.#secondMissFlags(c, false) ? NONE : F.SSS5;
    return !set || this.#setSecondFlags(page, dirties) ? NONE : F.SSS6;
  }

  #touchNested(c: Configuration, page: number, top: number, last: number): void {
    if (!this.#snooped(c)) return;
    for (let level = top; level >= last; level--) {
      if ((this.#tableRights[level] & SecondStage.W) !== 0) this.#memory.or64(this.#entry(page, level), c.accessedFlags, 0);
    }
  }

  /** Host address of the first-stage entry of a nested walk. */
  #entry(page: number, level: number): number {
    return entryAddress(this.#firstFormat, this.#hosts[level], level, page);
  }

  #snooped(c: Configuration): boolean {
    return this.#caps.walkCoherency && c.walkSnoop;
  }

  /** Slot of the lowest entry that a paging-structure cache has for the page; -1 for none. */
  #deepest(tables: Iotlb, domain: number, pasid: number, page: number, topLevel: number): number {
    if (tables.capacity === 0) return -1;
    for (let level = 1; level <= topLevel; level++) {
      const slot = tables.find(domain, pasid, page, 12 + 9 * level);
      if (slot !== -1) return slot;
    }
    return -1;
  }

  #levelBelow(tables: Iotlb, slot: number): number {
    return (tables.shift(slot) - 21) / 9;
  }

  /** Keeps the table entries of the first-stage walk that just succeeded; their accessed flags are set. */
  #keepFirst(c: Configuration, page: number, root: number, topLevel: number, base: number): void {
    let table = root;
    let and = base;
    for (let level = topLevel; level > this.#walk.level; level--) {
      if (!this.#memory.load64(entryAddress(this.#firstFormat, table, level, page))) return;
      and &= this.#memory.lo;
      table = entryFrame(this.#firstFormat, this.#memory.lo, this.#memory.hi) * 4096;
      this.#keep(this.#firstTables, c.domain, c.pasid, page, level, table, and & FLAGS);
    }
  }

  #keepSecond(c: Configuration, page: number): void {
    if (this.#secondTables.capacity === 0) return;
    let table = this.#secondTable;
    let and = this.#secondBase;
    for (let level = this.#secondLevel; level > this.#walk.level; level--) {
      if (!this.#memory.load64(entryAddress(this.#secondFormat, table, level, page))) return;
      const { lo, hi } = this.#memory;
      and &= this.#io ? (lo & ~3) | ((hi >>> 29) & 3) : lo;
      table = entryFrame(this.#secondFormat, lo, hi) * 4096;
      this.#keep(this.#secondTables, c.domain, 0, page, level, table, and & FLAGS);
    }
  }

  #keepNested(c: Configuration, page: number, top: number, leafLevel: number): void {
    let and = this.#nestedBase;
    for (let level = top; level > leafLevel; level--) {
      if (!this.#memory.load64(this.#entry(page, level))) return;
      and &= this.#memory.lo;
      this.#keep(this.#firstTables, c.domain, c.pasid, page, level, this.#hosts[level - 1], (and & FLAGS) | (this.#tableRights[level - 1] << RIGHTS_SHIFT));
    }
  }

  #keep(tables: Iotlb, domain: number, pasid: number, page: number, level: number, table: number, data: number): void {
    tables.insert(domain, pasid, page - (page % PAGES[level]), 12 + 9 * level, table / 4096, data, domain, pasid);
  }
}
