/** Stage 1 (SMMU 3.4.1, 5.4; Arm DDI0487 D8): input addresses to intermediate or, without stage 2, physical ones. */
import { type PhysicalMemory, WalkResult, WalkStatus, walk } from "@iommukit/core";
import { Event, FaultClass } from "../spec/events.js";
import type { Capabilities } from "../spec/identification.js";
import { World } from "../spec/illegal.js";
import { Lo } from "../spec/tables.js";
import type { Configuration, Half } from "./configuration.js";
import { Descent, DescentStatus, type TableAddress } from "./descent.js";
import type { Fault } from "./fault.js";
import { ANY_WRITE, isTransient, R, stage1Rights, W, withoutUpdates } from "./rights.js";
import type { Stage2 } from "./stage2.js";
import type { TableCache } from "./table-cache.js";
import { canonicalPage, type Tlbs } from "./tlbs.js";

const SIGN = 2 ** 43;
/** Input pages: all of them, and those below the top byte. */
const PAGES = 2 ** 52;
const UNTAGGED_PAGES = 2 ** 44;
const UNPRIVILEGED = 7;

/** Where a page lies in its half of the input range, below 0 or beyond the half when it lies in neither. */
function insideHalf(half: Half, page: number, upper: boolean): number {
  const span = half.topByteIgnored ? UNTAGGED_PAGES : PAGES;
  return (page % span) - (upper ? span - half.pages : 0);
}

export class Stage1 {
  outPage = 0.5;
  shift = 12;
  /** Six bits, as the leaf stands after `commit`. */
  rights = 0;
  granule = 0;
  level = 0;
  global = false;
  /** A block with nT=1 on a unit that asks for it while sizes change (3.21.1.2). */
  isTransient = false;
  /** Low word of the leaf of the last walk. */
  get leaf(): number {
    return this.#walk.entryLo;
  }
  readonly #memory: PhysicalMemory;
  readonly #fault: Fault;
  readonly #tlbs: Tlbs;
  /** Tables that need not be read. */
  readonly #known: TableCache;
  readonly #tables: Stage2;
  readonly #caps: Capabilities;
  readonly #walk = new WalkResult();
  readonly #descent: Descent;
  #configuration: Configuration | undefined;
  readonly #fetchAddress: TableAddress;
  #pendingSet = 0;
  #pendingClear = 0;

  /** @param tables stage 2 for this stage's own accesses */
  constructor(memory: PhysicalMemory, caps: Capabilities, tlbs: Tlbs, tables: Stage2, fault: Fault) {
    this.#memory = memory;
    this.#fault = fault;
    this.#tlbs = tlbs;
    this.#known = tlbs.inputTables;
    this.#tables = tables;
    this.#caps = caps;
    this.#descent = new Descent(memory);
    this.#fetchAddress = (address) => (this.#configuration === undefined ? -1 : tables.fetchAddress(this.#configuration, address, FaultClass.TT));
  }

  /** @param needed rights, six bits @returns false with the fault filled */
  resolve(c: Configuration, page: number, needed: number): boolean {
    this.#pendingSet = 0;
    this.#pendingClear = 0;
    const upper = page >= SIGN && page % UNTAGGED_PAGES >= SIGN;
    const half = c.halves[upper ? 1 : 0];
    const inside = page < SIGN ? page : insideHalf(half, page, upper);
    const refused = !half.enabled || inside < 0 || inside >= half.pages || (half.privilegedOnly && (needed & UNPRIVILEGED) !== 0);
    if (refused || half.format === undefined) return this.#fault.stage1(Event.F_TRANSLATION);
    const { format } = half;
    const w = this.#walk;
    const simple = !this.#known.on && !c.stage2 && !c.bigEndian && !c.updatesTables;
    const plain = simple && walk(this.#memory, format, half.root, half.topLevel, inside, w) === WalkStatus.OK;
    if (!plain || (w.entryLo & Lo.AF) === 0) {
      if (!this.#descend(c, half, page, inside)) return false;
      const d = this.#descent;
      w.entryLo = d.lo;
      w.entryHi = d.hi;
      w.tableHi = d.tableHi;
      w.level = d.level;
      w.outPage = d.outPage;
    }
    const { entryLo: lo, entryHi: hi } = w;
    const onePrivilege = c.world === World.EL2;
    const rights = stage1Rights(c, half.flat, lo, hi, w.tableHi, onePrivilege);
    if ((rights & needed) !== needed) {
      this.#fault.stage1(Event.F_PERMISSION);
      return this.#fault.lacks(needed & ~rights, needed, this.#caps);
    }
    const clean = (lo & Lo.AP2) !== 0 && (rights & ANY_WRITE) !== 0;
    const dirties = clean && (needed & ANY_WRITE) !== 0;
    if (dirties && plain) this.#descend(c, half, page, inside);
    if (c.updatesAccess && (lo & Lo.AF) === 0) this.#pendingSet = Lo.AF;
    if (dirties) this.#pendingClear = Lo.AP2;
    this.outPage = w.outPage;
    this.level = w.level;
    this.isTransient = isTransient(w.level, lo, this.#caps);
    this.granule = half.granule;
    this.shift = this.#tlbs.leafShift(half.granule, w.level, hi, inside, w.outPage, half.pages);
    this.rights = withoutUpdates(rights, clean && !dirties);
    this.global = !onePrivilege && (lo & Lo.NG) === 0;
    if (this.#known.on) this.#keepTables(c, canonicalPage(page));
    return true;
  }

  /** Where the unit keeps access flags of tables, only tables whose ancestors all have theirs: a walk from one sets none above it. */
  #keepTables(c: Configuration, page: number): void {
    const d = this.#descent;
    for (let level = d.startLevel; level > d.level; level--) {
      if (c.updatesTables && (d.lows[level] & Lo.AF) === 0) return;
      this.#known.keep(c, page, this.granule, level, d.tables[level], d.tableHis[level]);
    }
  }

  /** @param inside where the page lies in its half */
  #descend(c: Configuration, half: Half, page: number, inside: number): boolean {
    const { format } = half;
    if (format === undefined) return false;
    const d = this.#descent;
    const known = this.#known;
    const slot = known.deepest(c.tagA, c.tagB, canonicalPage(page), format, half.topLevel);
    const root = slot === -1 ? half.root : known.table(slot);
    const top = slot === -1 ? half.topLevel : known.levelBelow(slot, format);
    const above = slot === -1 ? 0 : known.restrictions(slot);
    const fault = this.#fault;
    this.#configuration = c;
    const fixed = slot === -1 ? half.fixedRoot : -1;
    switch (d.run(format, root, top, inside, c.bigEndian, c.stage2 ? this.#fetchAddress : undefined, above, fixed)) {
      case DescentStatus.REFUSED:
        return false;
      case DescentStatus.NOT_PRESENT:
        return fault.stage1(Event.F_TRANSLATION);
      case DescentStatus.ADDRESS_SIZE:
        return fault.stage1(Event.F_ADDR_SIZE);
      case DescentStatus.NO_MEMORY:
        return this.#aborted(d.level);
      default:
    }
    if ((d.lo & Lo.AF) === 0 && !c.updatesAccess && !c.accessFlagIgnored) return fault.stage1(Event.F_ACCESS);
    return true;
  }

  #aborted(level: number): false {
    this.#fault.structure(Event.F_WALK_EABT, this.#descent.physical[level]);
    this.#fault.cause = FaultClass.TT;
    return false;
  }

  /** Makes the updates that the last `resolve` found due (3.13), tables before the leaf. False with the fault filled. */
  commit(c: Configuration): boolean {
    if (c.updatesTables) {
      for (let level = this.#descent.startLevel; level > this.level; level--) {
        if ((this.#descent.lows[level] & Lo.AF) === 0 && !this.#update(c, level, Lo.AF, 0)) return false;
      }
    }
    return (this.#pendingSet | this.#pendingClear) === 0 || this.#update(c, this.level, this.#pendingSet, this.#pendingClear);
  }

  /** An update of a descriptor is a write to stage 2. */
  #update(c: Configuration, level: number, set: number, clear: number): boolean {
    const d = this.#descent;
    if (c.stage2) {
      const page = Math.floor(d.addresses[level] / 4096);
      if (!this.#tables.resolve(c, page, R | W, FaultClass.TT) || !this.#tables.commit(c)) {
        this.#fault.tableWrite = true;
        return false;
      }
    }
    return d.update(level, set, clear, c.bigEndian) || this.#aborted(level);
  }
}
