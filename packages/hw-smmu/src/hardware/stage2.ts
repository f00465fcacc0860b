/** Stage 2 (SMMU 3.3, 5.2; Arm DDI0487 D8): intermediate addresses to physical ones, for accesses, tables and CDs. */
import { type PhysicalMemory, WalkResult, WalkStatus, walk } from "@iommukit/core";
import { Event, FaultClass } from "../spec/events.js";
import type { Capabilities } from "../spec/identification.js";
import { World } from "../spec/illegal.js";
import { Lo } from "../spec/tables.js";
import type { Configuration } from "./configuration.js";
import { Descent, DescentStatus } from "./descent.js";
import type { Fault } from "./fault.js";
import { ALL, ANY_WRITE, isTransient, R, stage2Rights, W, withoutUpdates } from "./rights.js";
import { intermediateGroup, intermediateTags } from "./tlb-groups.js";
import type { Tlbs } from "./tlbs.js";

/** In cached rights: the page is Device memory. */
export const DEVICE = 0o100;

export class Stage2 {
  outPage = 0.5;
  /** log2 of the bytes of the leaf. */
  shift = 12;
  /** Six bits, as the leaf stands now. */
  rights = 0;
  /** A block with nT=1 on a unit that asks for it while sizes change (3.21.1.2). */
  isTransient = false;
  /** Low word of the leaf of the last walk. */
  get leaf(): number {
    return this.#walk.entryLo;
  }
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #tlbs: Tlbs;
  readonly #fault: Fault;
  readonly #walk = new WalkResult();
  readonly #descent: Descent;
  /** What `commit` has to write: bits of the leaf, and access flags of the tables above. */
  #pendingSet = 0;
  #pendingTables = false;
  #level = 0;
  /** What the last walk was for: an update that memory does not take is reported with it (7.3.12). */
  #cause: number = FaultClass.IN;
  readonly #tags = { ...intermediateTags(0) };

  constructor(memory: PhysicalMemory, caps: Capabilities, tlbs: Tlbs, fault: Fault) {
    this.#memory = memory;
    this.#caps = caps;
    this.#tlbs = tlbs;
    this.#fault = fault;
    this.#descent = new Descent(memory);
  }

  /**
   * Translates one page; descriptor updates wait for `commit`.
   * @param needed rights, six bits @param cause `FaultClass` @returns false with the fault filled
   */
  resolve(c: Configuration, page: number, needed: number, cause: number): boolean {
    this.#pendingSet = 0;
    this.#pendingTables = false;
    const { intermediate } = this.#tlbs;
    const slot = intermediate.lookup(c.vmid, World.IPA, page);
    if (slot !== -1) {
      const data = intermediate.data(slot);
      if ((data & needed) === needed && (cause === FaultClass.IN || !c.s2ProtectsWalks || (data & DEVICE) === 0)) {
        this.outPage = intermediate.output(slot, page);
        this.shift = intermediate.shift(slot);
        this.rights = data & ALL;
        this.isTransient = false;
        return true;
      }
    }
    return this.#walkTables(c, page, needed, cause);
  }

  /** Translates for the unit's own read of a descriptor or CD at `address`: the physical address, or -1. */
  fetchAddress(c: Configuration, address: number, cause: number): number {
    const page = Math.floor(address / 4096);
    if (!this.resolve(c, page, R, cause) || !this.commit(c)) return -1;
    return this.outPage * 4096 + (address - page * 4096);
  }

  #walkTables(c: Configuration, page: number, needed: number, cause: number): boolean {
    this.#cause = cause;
    if (page >= c.s2Pages) return this.#fault.atStage2(Event.F_TRANSLATION, cause, page);
    const format = c.s2Format;
    if (format === undefined) throw new Error("stage 2 without tables");
    const root = page < c.s2TableSpan ? c.s2Root : c.s2Root + Math.floor(page / c.s2TableSpan) * c.s2TableBytes;
    const w = this.#walk;
    const plain = !this.#tlbs.intermediateTables.on && !c.s2BigEndian && !c.s2UpdatesTables && walk(this.#memory, format, root, c.s2TopLevel, page, w) === WalkStatus.OK;
    if (!plain || (w.entryLo & Lo.AF) === 0) {
      if (!this.#descend(c, root, page, cause)) return false;
      w.entryLo = this.#descent.lo;
      w.entryHi = this.#descent.hi;
      w.level = this.#descent.level;
      w.outPage = this.#descent.outPage;
    }
    const { entryLo: lo, entryHi: hi, level } = w;
    this.#level = level;
    const rights = stage2Rights(c.s2UpdatesDirty, this.#caps.executeNever, lo, hi);
    const device = deviceMemory(c, lo);
    if ((rights & needed) !== needed || (cause !== FaultClass.IN && c.s2ProtectsWalks && device)) {
      this.#fault.atStage2(Event.F_PERMISSION, cause, page);
      if (cause === FaultClass.IN) this.#fault.lacks(needed & ~rights, needed, this.#caps);
      return false;
    }
    const clean = (lo & Lo.S2W) === 0 && (rights & W) !== 0;
    const dirties = clean && (needed & ANY_WRITE) !== 0;
    if (dirties && plain) this.#descend(c, root, page, cause);
    if (c.s2UpdatesAccess && (lo & Lo.AF) === 0) this.#pendingSet |= Lo.AF;
    if (dirties) this.#pendingSet |= Lo.S2W;
    this.#pendingTables = c.s2UpdatesTables && this.#tablesLackFlag(level);
    this.outPage = w.outPage;
    this.shift = this.#tlbs.leafShift(c.s2Granule, level, hi, page, w.outPage, c.s2Pages);
    this.rights = withoutUpdates(rights, clean && !dirties);
    if (this.#tlbs.intermediateTables.on) this.#keepTables(c, page);
    // What waits for an update is cached once it is made: the request may still fail, and make none.
    this.isTransient = isTransient(level, lo, this.#caps);
    const kept = this.#pendingSet === 0 && !this.#pendingTables && !(this.isTransient && this.#tlbs.conflicts);
    if (kept && this.#tlbs.overlapsIntermediate(c.vmid, page, this.shift)) {
      this.#fault.atStage2(Event.F_TLB_CONFLICT, cause, page);
      this.#fault.controlled = false;
      return false;
    }
    if (kept) {
      this.#tlbs.insertIntermediate(c.vmid, page, this.shift, this.outPage, this.rights | (device ? DEVICE : 0), c.s2Granule, level);
    }
    return true;
  }

  /** True when a table that the last descent passed has no access flag. */
  #tablesLackFlag(leaf: number): boolean {
    for (let level = this.#descent.startLevel; level > leaf; level--) if ((this.#descent.lows[level] & Lo.AF) === 0) return true;
    return false;
  }

  /** As in stage 1. */
  #keepTables(c: Configuration, page: number): void {
    const d = this.#descent;
    const tags = this.#tags;
    tags.tagA = c.vmid;
    tags.groupA = intermediateGroup(c.vmid);
    for (let level = d.startLevel; level > d.level; level--) {
      if (c.s2UpdatesTables && (d.lows[level] & Lo.AF) === 0) return;
      this.#tlbs.intermediateTables.keep(tags, page, c.s2Granule, level, d.tables[level], 0);
    }
  }

  #descend(c: Configuration, root: number, page: number, cause: number): boolean {
    const d = this.#descent;
    if (c.s2Format === undefined) return false;
    const fault = this.#fault;
    const known = this.#tlbs.intermediateTables;
    const slot = known.deepest(c.vmid, World.IPA, page, c.s2Format, c.s2TopLevel);
    const from = slot === -1 ? root : known.table(slot);
    const top = slot === -1 ? c.s2TopLevel : known.levelBelow(slot, c.s2Format);
    switch (d.run(c.s2Format, from, top, page, c.s2BigEndian, undefined, 0, -1)) {
      case DescentStatus.NOT_PRESENT:
        return fault.atStage2(Event.F_TRANSLATION, cause, page);
      case DescentStatus.ADDRESS_SIZE:
        return fault.atStage2(Event.F_ADDR_SIZE, cause, page);
      case DescentStatus.NO_MEMORY:
        fault.atStage2(Event.F_WALK_EABT, cause, page);
        fault.controlled = false;
        fault.fetch = d.addresses[d.level];
        return false;
      default:
    }
    if ((d.lo & Lo.AF) === 0 && !c.s2UpdatesAccess && !c.s2AccessFlagIgnored) return fault.atStage2(Event.F_ACCESS, cause, page);
    return true;
  }

  /** Makes the updates that the last `resolve` found due (3.13): tables before the leaf. False when memory does not take them. */
  commit(c: Configuration): boolean {
    const d = this.#descent;
    if (this.#pendingTables) {
      for (let level = d.startLevel; level > this.#level; level--) if (!d.update(level, Lo.AF, 0, c.s2BigEndian)) return this.#aborted(level);
    }
    if (this.#pendingSet !== 0 && !d.update(this.#level, this.#pendingSet, 0, c.s2BigEndian)) return this.#aborted(this.#level);
    return true;
  }

  #aborted(level: number): false {
    this.#fault.atStage2(Event.F_WALK_EABT, this.#cause, 0);
    this.#fault.controlled = false;
    this.#fault.fetch = this.#descent.addresses[level];
    return false;
  }
}

/** Device memory by the leaf's MemAttr (5.2 S2FWB, D8.6): a table there is a permission fault with S2PTW. */
export function deviceMemory(c: Configuration, lo: number): boolean {
  const attributes = (lo >>> 2) & 15;
  return c.s2ForceWriteBack ? (attributes & 4) === 0 : (attributes & 12) === 0;
}
