/** Requests to addresses (VT-d 3, 7.1): the order of checks is that of data, then of the manual's wording. */
import { Access, levelShift, NO_PASID, type PageTableFormat, type PhysicalMemory, type Tracer, WalkResult, WalkStatus, walk, walkPath } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pgtt, TranslationTableMode } from "../spec/entries.js";
import { FAULTS, faultIndex } from "../spec/faults.js";
import { FirstStage, firstStageFormat, SecondStage, secondStageFormat } from "../spec/formats.js";
import { type Caches, FIRST_STAGE_GROUP } from "./caches.js";
import { Configuration, ConfigurationReader, NONE } from "./configuration.js";
import type { FaultRecorder } from "./fault-recorder.js";
import { buildMasks } from "./masks.js";

const F = {
  LCT43: faultIndex("LCT.4.3"), LSS1: faultIndex("LSS.1"), LSS2: faultIndex("LSS.2"), LGN11: faultIndex("LGN.1.1"), LGN13: faultIndex("LGN.1.3"),
  LGN2: faultIndex("LGN.2"), LGN3: faultIndex("LGN.3"), LGN4: faultIndex("LGN.4"),
  RTA11: faultIndex("RTA.1.1"), RTA12: faultIndex("RTA.1.2"), RTA13: faultIndex("RTA.1.3"), RTA2: faultIndex("RTA.2"), RTA4: faultIndex("RTA.4"),
  RTA5: faultIndex("RTA.5"), SPT5: faultIndex("SPT.5"), SPT6: faultIndex("SPT.6"),
  SFS1: faultIndex("SFS.1"), SFS2: faultIndex("SFS.2"), SFS3: faultIndex("SFS.3"), SFS4: faultIndex("SFS.4"), SFS9: faultIndex("SFS.9"),
  SFS10: faultIndex("SFS.10"), SSS1: faultIndex("SSS.1"), SSS2: faultIndex("SSS.2"), SSS3: faultIndex("SSS.3"), SSS4: faultIndex("SSS.4"),
  SSS5: faultIndex("SSS.5"), SSS6: faultIndex("SSS.6"), SGN1: faultIndex("SGN.1"), SGN2: faultIndex("SGN.2"), SGN42: faultIndex("SGN.4.2"),
  SGN5: faultIndex("SGN.5"), SGN6: faultIndex("SGN.6"), SGN7: faultIndex("SGN.7"), SGN8: faultIndex("SGN.8"), IRR29: faultIndex("IRR.29"),
} as const;

/** IOTLB data: rights of user requests in bits 1:0, of privileged ones in 3:2; writes need no dirty update. */
export const PRIVILEGED_SHIFT = 2;
const DIRTY = 16;

const INTERRUPT_FIRST = 0xfee00;
const INTERRUPT_LAST = 0xfeeff;

export class Translator {
  /** GSTS.TES */
  enabled = false;
  /** Latched RTADDR.TTM. */
  mode: number = TranslationTableMode.LEGACY;
  #rootTable = 0;
  readonly #name: string;
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #caches: Caches;
  readonly #faults: FaultRecorder;
  readonly #tracer: Tracer | undefined;
  readonly #reader: ConfigurationReader;
  readonly #firstStage: PageTableFormat;
  readonly #secondStage: PageTableFormat;
  readonly #walk = new WalkResult();
  /** Used when the configuration cache is off, and for lookups that fault. */
  readonly #uncached = new Configuration();
  /** Rights found by the last walk, and whether a write needs a dirty update. */
  #rights = 0;
  #outPage = 0;
  #pageShift = 12;

  constructor(
    name: string,
    memory: PhysicalMemory,
    caps: Capabilities,
    caches: Caches,
    faults: FaultRecorder,
    tracer: Tracer | undefined,
  ) {
    this.#name = name;
    this.#memory = memory;
    this.#caps = caps;
    this.#caches = caches;
    this.#faults = faults;
    this.#tracer = tracer;
    this.#reader = new ConfigurationReader(memory, caps, buildMasks(caps));
    this.#firstStage = firstStageFormat(caps);
    this.#secondStage = secondStageFormat(caps);
  }

  /** SRTP: RTADDR takes effect now (6.6). */
  latchRootTable(value: bigint): void {
    this.#rootTable = Number(value >> 12n) * 4096;
    this.mode = Number((value >> 10n) & 3n);
  }

  translate(rid: number, pasid: number, page: number, access: number): number {
    const needed = (access & 3) << ((access & Access.PRIVILEGED) !== 0 && pasid !== NO_PASID ? PRIVILEGED_SHIFT : 0);
    if (this.enabled && (access & Access.EXECUTE) === 0 && (page < INTERRUPT_FIRST || page > INTERRUPT_LAST)) {
      const { iotlb } = this.#caches;
      const slot = iotlb.lookup(rid, pasid, page);
      if (slot !== -1) {
        const data = iotlb.data(slot);
        // A write that would dirty a clean entry, and a denied request, go to the tables.
        if ((data & needed) === needed && ((access & Access.WRITE) === 0 || (data & DIRTY) !== 0)) {
          const out = iotlb.output(slot, page);
          if (this.#tracer?.listener) this.#trace(rid, pasid, page, access, "iotlb", out);
          return out;
        }
      }
    }
    return this.#miss(rid, pasid, page, access);
  }

  #miss(rid: number, pasid: number, page: number, access: number): number {
    if (pasid === NO_PASID && page >= INTERRUPT_FIRST && page <= INTERRUPT_LAST) {
      // Writes here are interrupts and are never DMA-translated (3.14); other requests are not interrupts.
      if ((access & Access.READ) === 0) return page;
      if (this.enabled) return this.#block(F.IRR29, false, rid, pasid, page, access);
    }
    if (!this.enabled) {
      if (this.#tracer?.listener) this.#trace(rid, pasid, page, access, "bypass", page);
      return page;
    }
    let configuration = this.#caches.configurations.lookup(rid, pasid);
    if (configuration === undefined) {
      const condition = this.#configure(rid, pasid, access);
      configuration = this.#uncached;
      if (condition !== NONE) return this.#block(condition, configuration.faultDisable, rid, pasid, page, access);
    }
    const condition = this.#resolve(configuration, pasid, page, access);
    if (condition !== NONE) return this.#block(condition, configuration.faultDisable, rid, pasid, page, access);
    this.#fill(configuration, rid, pasid, page);
    if (this.#tracer?.listener) this.#trace(rid, pasid, page, access, "walk", this.#outPage);
    return this.#outPage;
  }

  /** Reads the configuration into `#uncached`, and keeps it when it is good. */
  #configure(rid: number, pasid: number, access: number): number {
    const out = this.#uncached;
    out.faultDisable = false;
    const mode = this.#modeFault(pasid, access);
    if (mode !== NONE) return mode;
    const condition =
      this.mode === TranslationTableMode.LEGACY
        ? this.#reader.readLegacy(this.#rootTable, rid, out)
        : this.#reader.readScalable(this.#rootTable, rid, pasid, out);
    if (condition !== NONE) return condition;
    const slot = this.#caches.configurations.slot(rid, pasid);
    if (slot !== undefined) {
      Object.assign(slot, out);
      slot.rid = rid;
      slot.pasid = pasid;
      slot.valid = true;
    }
    return NONE;
  }

  #modeFault(pasid: number, access: number): number {
    switch (this.mode) {
      case TranslationTableMode.ABORT:
        return this.#caps.abortMode ? F.RTA4 : F.RTA11;
      case TranslationTableMode.RESERVED:
        return F.RTA12;
      case TranslationTableMode.SCALABLE:
        if (!this.#caps.scalableMode) return F.RTA13;
        break;
      default:
        if (pasid !== NO_PASID) return F.RTA2;
    }
    return pasid !== NO_PASID && (access & Access.EXECUTE) !== 0 && this.#caps.majorVersion >= 8 ? F.RTA5 : NONE;
  }

  /** Translates under a good configuration; leaves `#outPage`, `#pageShift` and `#rights`. */
  #resolve(c: Configuration, pasid: number, page: number, access: number): number {
    if (pasid !== NO_PASID && (access & Access.EXECUTE) !== 0) return F.SPT5;
    const privileged = pasid === NO_PASID ? c.privileged : (access & Access.PRIVILEGED) !== 0;
    if (!c.legacy && privileged && !c.supervisorEnable) return F.SPT6;
    if (c.pgtt === Pgtt.PASS_THROUGH) {
      if (page >= 2 ** (this.#caps.haw - 12)) return c.legacy ? F.LGN13 : F.SGN42;
      this.#outPage = page;
      this.#pageShift = 12;
      this.#rights = 15 | DIRTY;
      return this.#interruptRange(page) ? (c.legacy ? F.LGN4 : F.SGN8) : NONE;
    }
    return c.pgtt === Pgtt.FIRST_STAGE ? this.#first(c, page, access, privileged) : this.#second(c, page, access);
  }

  #first(c: Configuration, page: number, access: number, privileged: boolean): number {
    const half = 2 ** (c.topLevel * 9 + 8);
    if (page >= half && page < 2 ** 52 - half) return F.SGN1;
    const w = this.#walk;
    const status = walk(this.#memory, this.#firstStage, c.root, c.topLevel, page, w);
    // U/S is tested level by level, after the reserved bits (3.6): an entry above the failing one comes first.
    const user = (w.andLo & FirstStage.US) !== 0;
    if (status !== WalkStatus.OK) {
      if (!user && !privileged) return F.SGN2;
      if (status === WalkStatus.NOT_PRESENT) return F.SFS2;
      if (status === WalkStatus.RESERVED) return F.SFS3;
      return w.level === c.topLevel ? F.SFS4 : F.SFS1;
    }
    const writable = (w.andLo & FirstStage.RW) !== 0;
    if (!user && !privileged) return F.SGN2;
    const write = (access & Access.WRITE) !== 0;
    if (write && !writable && (!privileged || c.writeProtect)) return F.SGN6;
    const accessed = FirstStage.A | (c.extendedAccessed ? FirstStage.EA : 0);
    const flags = this.#flags(accessed, FirstStage.D, write);
    if (flags && !(this.#caps.walkCoherency && c.walkSnoop)) return F.SFS9;
    if (this.#interruptRange(w.outPage)) return F.SGN8;
    if (flags && !this.#setFlags(this.#firstStage, c, page, accessed, write ? FirstStage.D : 0)) return F.SFS10;
    const userRights = user ? (writable ? 3 : 1) : 0;
    const privilegedRights = writable || !c.writeProtect ? 3 : 1;
    const own = c.supervisorEnable ? privilegedRights << PRIVILEGED_SHIFT : 0;
    this.#rights = (c.privileged ? privilegedRights | own : userRights | own) | (this.#isDirty(FirstStage.D, write) ? DIRTY : 0);
    this.#outPage = w.outPage;
    this.#pageShift = levelShift(this.#firstStage, w.level);
    return NONE;
  }

  #second(c: Configuration, page: number, access: number): number {
    const bits = Math.min(this.#caps.mgaw, 12 + 9 * (c.topLevel + 1));
    if (page >= 2 ** (bits - 12)) return c.legacy ? F.LGN11 : F.SGN5;
    const w = this.#walk;
    const status = walk(this.#memory, this.#secondStage, c.root, c.topLevel, page, w);
    const write = (access & Access.WRITE) !== 0;
    const read = (access & Access.READ) !== 0;
    switch (status) {
      case WalkStatus.NOT_PRESENT:
        return c.legacy ? (write ? F.LGN2 : F.LGN3) : F.SSS2;
      case WalkStatus.RESERVED:
        return c.legacy ? F.LSS2 : F.SSS3;
      case WalkStatus.BUS_ERROR:
        if (w.level === c.topLevel) return c.legacy ? F.LCT43 : F.SSS4;
        return c.legacy ? F.LSS1 : F.SSS1;
      default:
    }
    const rights = w.andLo & 3;
    if (rights === 0 && !c.legacy) return F.SSS2;
    if (write && (rights & SecondStage.W) === 0) return c.legacy ? F.LGN2 : F.SGN6;
    if (read && (rights & SecondStage.R) === 0) return c.legacy ? F.LGN3 : F.SGN7;
    const flags = c.secondStageDirty && this.#flags(SecondStage.A, SecondStage.D, write);
    if (flags && !(this.#caps.walkCoherency && c.walkSnoop)) return F.SSS5;
    if (this.#interruptRange(w.outPage)) return c.legacy ? F.LGN4 : F.SGN8;
    if (flags && !this.#setFlags(this.#secondStage, c, page, SecondStage.A, write ? SecondStage.D : 0)) return F.SSS6;
    const clean = c.secondStageDirty && !this.#isDirty(SecondStage.D, write);
    this.#rights = rights | (rights << PRIVILEGED_SHIFT) | (clean ? 0 : DIRTY);
    this.#outPage = w.outPage;
    this.#pageShift = levelShift(this.#secondStage, w.level);
    return NONE;
  }

  #interruptRange(page: number): boolean {
    return page >= INTERRUPT_FIRST && page <= INTERRUPT_LAST;
  }

  /** True when some entry of the walk lacks `accessed`, or the leaf lacks `dirty` and a write comes. */
  #flags(accessed: number, dirty: number, write: boolean): boolean {
    const w = this.#walk;
    return (w.andLo & accessed) !== accessed || (write && (w.entryLo & dirty) === 0);
  }

  #isDirty(dirty: number, write: boolean): boolean {
    return write || (this.#walk.entryLo & dirty) !== 0;
  }

  /** ORs the flags into every entry of the walk, `dirty` into the leaf only. */
  #setFlags(format: PageTableFormat, c: Configuration, page: number, accessed: number, dirty: number): boolean {
    const path = walkPath(this.#memory, format, c.root, c.topLevel, page, this.#walk.level);
    return path.every((entry, i) => this.#memory.or64(entry, i === path.length - 1 ? accessed | dirty : accessed, 0));
  }

  #fill(c: Configuration, rid: number, pasid: number, page: number): void {
    let shift = this.#pageShift;
    // A large page that holds interrupt addresses is cached in 4 KiB pieces, so that each output is checked.
    if (shift > 12 && this.#overlapsInterrupts(this.#outPage, shift)) shift = 12;
    const group = c.domain | (c.pgtt === Pgtt.FIRST_STAGE ? FIRST_STAGE_GROUP : 0);
    this.#caches.iotlb.insert(rid, pasid, page, shift, this.#outPage, this.#rights, group, c.tagPasid);
  }

  #overlapsInterrupts(outPage: number, shift: number): boolean {
    const pages = 2 ** (shift - 12);
    const first = outPage - (outPage % pages);
    return first <= INTERRUPT_LAST && first + pages > INTERRUPT_FIRST;
  }

  #block(condition: number, faultDisable: boolean, rid: number, pasid: number, page: number, access: number): number {
    const fault = FAULTS[condition];
    if (this.#tracer?.listener) this.#trace(rid, pasid, page, access, "walk", -1);
    if (!(fault.qualified && faultDisable)) this.#faults.record(fault, rid, pasid, page, access);
    return -1;
  }

  #trace(rid: number, pasid: number, page: number, access: number, source: "iotlb" | "walk" | "bypass", out: number): void {
    this.#tracer?.listener?.({
      kind: "translation",
      unit: this.#name,
      rid,
      iova: BigInt(page) << 12n,
      access: (access & Access.WRITE) !== 0 ? ((access & Access.READ) !== 0 ? "atomic" : "write") : "read",
      source,
      ...(pasid === NO_PASID ? {} : { pasid }),
      ...(out === -1 ? {} : { pa: out * 4096 }),
    });
  }
}
