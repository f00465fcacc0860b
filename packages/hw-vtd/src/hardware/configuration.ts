/**
 * From a requester id and PASID to the tables that translate for it: root,
 * context and PASID structures (VT-d 3.4, 9.1 to 9.6), in the order of checks
 * that section 7 implies. The result is cached as the context cache and PASID
 * cache together; `ConfigurationCache` invalidates by either key.
 */
import { NO_PASID, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pgtt } from "../spec/entries.js";
import { faultIndex } from "../spec/faults.js";
import type { MaskWords, ReservedMasks } from "./masks.js";

const F = {
  LRT1: faultIndex("LRT.1"), LRT2: faultIndex("LRT.2"), LRT3: faultIndex("LRT.3"),
  LCT1: faultIndex("LCT.1"), LCT2: faultIndex("LCT.2"), LCT3: faultIndex("LCT.3"), LCT41: faultIndex("LCT.4.1"), LCT42: faultIndex("LCT.4.2"),
  SRT1: faultIndex("SRT.1"), SRT2: faultIndex("SRT.2"), SRT3: faultIndex("SRT.3"),
  SCT1: faultIndex("SCT.1"), SCT2: faultIndex("SCT.2"), SCT3: faultIndex("SCT.3"), SCT41: faultIndex("SCT.4.1"), SCT42: faultIndex("SCT.4.2"),
  SCT43: faultIndex("SCT.4.3"), SCT6: faultIndex("SCT.6"), SCT7: faultIndex("SCT.7"), SCT9: faultIndex("SCT.9"), SGN10: faultIndex("SGN.10"),
  SPD1: faultIndex("SPD.1"), SPD2: faultIndex("SPD.2"), SPD3: faultIndex("SPD.3"),
  SPT1: faultIndex("SPT.1"), SPT2: faultIndex("SPT.2"), SPT3: faultIndex("SPT.3"), SPT41: faultIndex("SPT.4.1"), SPT42: faultIndex("SPT.4.2"),
  SPT43: faultIndex("SPT.4.3"),
} as const;

/** No fault. */
export const NONE = -1;

/** How one (requester, PASID) is translated. Numbers only. */
export class Configuration {
  valid = false;
  rid = 0;
  /** PASID of the request, or NO_PASID. */
  pasid: number = NO_PASID;
  legacy = false;
  /** Some FPD on the way is set: qualified faults are not recorded. */
  faultDisable = false;
  pgtt = 0;
  domain = 0;
  /** PASID that invalidations know it by: RID_PASID for requests without one. */
  tagPasid = 0;
  /** RID_PRIV. */
  privileged = false;
  /** First-stage or second-stage root, bytes. */
  root = 0;
  topLevel = 0;
  supervisorEnable = false;
  writeProtect = false;
  extendedAccessed = false;
  secondStageDirty = false;
  walkSnoop = false;
}

export class ConfigurationReader {
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #masks: ReservedMasks;
  readonly #words = new Int32Array(16);

  constructor(memory: PhysicalMemory, caps: Capabilities, masks: ReservedMasks) {
    this.#memory = memory;
    this.#caps = caps;
    this.#masks = masks;
  }

  /** Legacy mode (3.4.2). Returns NONE or a fault condition; `out.faultDisable` is right in both cases. */
  readLegacy(rootTable: number, rid: number, out: Configuration): number {
    const w = this.#words;
    out.legacy = true;
    out.faultDisable = false;
    out.tagPasid = 0;
    out.privileged = false;
    if (!this.#load(rootTable + (rid >> 8) * 16, 4)) return F.LRT1;
    if ((w[0] & 1) === 0) return F.LRT2;
    if (this.#reserved(this.#masks.legacyRoot, 0, 4)) return F.LRT3;
    if (!this.#load(pointer(w[0], w[1]) + (rid & 0xff) * 16, 4)) return F.LCT1;
    out.faultDisable = (w[0] & 2) !== 0;
    if ((w[0] & 1) === 0) return F.LCT2;
    const type = (w[0] >>> 2) & 3;
    if (this.#reserved(this.#masks.legacyContext, 0, 4)) return F.LCT3;
    if (type !== 2 && Math.floor((w[1] >>> 0) / 2 ** (this.#caps.haw - 32)) !== 0) return F.LCT3;
    if (type === 3 || (type === 1 && !this.#caps.deviceTlb) || (type === 2 && !this.#caps.passThrough)) return F.LCT42;
    const width = w[2] & 7;
    if (!this.#widthSupported(width) || (type === 2 && width !== this.#largestWidth())) return F.LCT41;
    out.pgtt = type === 2 ? Pgtt.PASS_THROUGH : Pgtt.SECOND_STAGE;
    out.domain = (w[2] >>> 8) & 0xffff;
    out.root = pointer(w[0], w[1]);
    out.topLevel = width + 1;
    out.secondStageDirty = false;
    return NONE;
  }

  /** Scalable mode (3.4.3, 6.1 of the architecture's request flow). */
  readScalable(rootTable: number, rid: number, pasid: number, out: Configuration): number {
    const w = this.#words;
    out.legacy = false;
    out.faultDisable = false;
    const half = (rid >> 5) & 4; // devfn 80h and up use the upper half
    if (!this.#load(rootTable + (rid >> 8) * 16, 4)) return F.SRT1;
    const half32 = half === 0 ? 0 : 2;
    if ((w[half32] & 1) === 0) return F.SRT2;
    if (this.#reserved(this.#masks.scalableRoot, half32, half32 + 2)) return F.SRT3;
    if (!this.#load(pointer(w[half32], w[half32 + 1]) + (rid & 0x7f) * 32, 8)) return F.SCT1;
    out.faultDisable = (w[0] & 2) !== 0;
    if ((w[0] & 1) === 0) return F.SCT2;
    if (this.#reserved(this.#masks.scalableContext, 0, 8)) return F.SCT3;
    const deviceTlb = (w[0] & 4) !== 0;
    const pasidEnable = (w[0] & 8) !== 0;
    const pasids = 2 ** (((w[0] >>> 9) & 7) + 13);
    const ridPasid = this.#caps.ridPasid ? w[2] & 0xfffff : 0;
    if (!deviceTlb && (w[0] & 0x10) !== 0) return F.SCT41;
    if (ridPasid >= pasids) return F.SCT42;
    if (!pasidEnable && (w[0] & 0x40) !== 0) return F.SCT43;
    if (pasid !== NO_PASID) {
      if (!pasidEnable) return F.SCT6;
      if (pasid >= 2 ** this.#caps.pasidBits) return F.SGN10;
      if (pasid >= pasids) return F.SCT7;
      if (pasid === ridPasid) return F.SCT9;
    }
    out.tagPasid = pasid === NO_PASID ? ridPasid : pasid;
    out.privileged = this.#caps.ridPrivileged && (w[2] & 0x100000) !== 0;
    return this.#readPasid(pointer(w[0], w[1]), out);
  }

  #readPasid(directory: number, out: Configuration): number {
    const w = this.#words;
    if (!this.#load(directory + (out.tagPasid >>> 6) * 8, 2)) return F.SPD1;
    out.faultDisable ||= (w[0] & 2) !== 0;
    if ((w[0] & 1) === 0) return F.SPD2;
    if (this.#reserved(this.#masks.directory, 0, 2)) return F.SPD3;
    if (!this.#load(pointer(w[0], w[1]) + (out.tagPasid & 63) * 64, 16)) return F.SPT1;
    out.faultDisable ||= (w[0] & 2) !== 0;
    if ((w[0] & 1) === 0) return F.SPT2;
    if (this.#reserved(this.#masks.pasid, 0, 16)) return F.SPT3;
    const caps = this.#caps;
    const pgtt = (w[0] >>> 6) & 7;
    const first = pgtt === Pgtt.FIRST_STAGE;
    const second = pgtt === Pgtt.SECOND_STAGE;
    // Nested translation is not modelled; ECAP.NEST is 0 in every unit.
    if (!(first && caps.firstStage) && !(second && caps.secondStage) && !(pgtt === Pgtt.PASS_THROUGH && caps.passThrough)) {
      return F.SPT42;
    }
    const width = (w[0] >>> 2) & 7;
    if (second && !this.#widthSupported(width)) return F.SPT41;
    const mode = (w[4] >>> 2) & 3;
    if (first && (mode > 1 || (mode === 1 && !caps.firstStage5Level))) return F.SPT43;
    out.pgtt = pgtt;
    out.domain = w[2] & 0xffff;
    out.supervisorEnable = (w[4] & 1) !== 0;
    out.writeProtect = (w[4] & 0x10) !== 0;
    out.extendedAccessed = (w[4] & 0x80) !== 0;
    out.secondStageDirty = (w[0] & 0x200) !== 0;
    out.walkSnoop = (w[2] & 0x800000) !== 0;
    out.root = first ? pointer(w[4], w[5]) : pointer(w[0], w[1]);
    out.topLevel = first ? mode + 3 : width + 1;
    return NONE;
  }

  #load(pa: number, words: number): boolean {
    for (let i = 0; i < words; i += 2) {
      if (!this.#memory.load64(pa + i * 4)) return false;
      this.#words[i] = this.#memory.lo;
      this.#words[i + 1] = this.#memory.hi;
    }
    return true;
  }

  #reserved(mask: MaskWords, from: number, to: number): boolean {
    for (let i = from; i < to; i++) if ((this.#words[i] & mask[i]) !== 0) return true;
    return false;
  }

  /** AW or its PASID-entry twin: 1, 2, 3 for 39, 48, 57 bits; the bit of that number in SAGAW. */
  #widthSupported(width: number): boolean {
    return width >= 1 && width <= 3 && ((this.#caps.sagaw >> width) & 1) === 1;
  }

  #largestWidth(): number {
    return 31 - Math.clz32(this.#caps.sagaw & 14);
  }
}

/** Address in bits 63:12 of an entry. */
function pointer(lo: number, hi: number): number {
  return (hi >>> 0) * 0x1_0000_0000 + (lo & ~0xfff) + (lo < 0 ? 0x1_0000_0000 : 0);
}

/** A direct-mapped cache of configurations; preallocated, so that a look-up allocates nothing. */
export class ConfigurationCache {
  readonly #entries: Configuration[];

  /** @param size a power of two; 0 caches nothing */
  constructor(size: number) {
    this.#entries = Array.from({ length: size }, () => new Configuration());
  }

  lookup(rid: number, pasid: number): Configuration | undefined {
    if (this.#entries.length === 0) return undefined;
    const entry = this.#entries[this.#index(rid, pasid)];
    return entry.valid && entry.rid === rid && entry.pasid === pasid ? entry : undefined;
  }

  /** The place for (rid, pasid): fill it, then set `valid`. */
  slot(rid: number, pasid: number): Configuration | undefined {
    if (this.#entries.length === 0) return undefined;
    const entry = this.#entries[this.#index(rid, pasid)];
    entry.valid = false;
    entry.rid = rid;
    entry.pasid = pasid;
    return entry;
  }

  /** Forgets every entry that `selects`; returns how many. */
  remove(selects: (entry: Configuration) => boolean): number {
    let removed = 0;
    for (const entry of this.#entries) {
      if (!entry.valid || !selects(entry)) continue;
      entry.valid = false;
      removed++;
    }
    return removed;
  }

  #index(rid: number, pasid: number): number {
    return (rid ^ Math.imul(pasid + 1, 0x9e37)) & (this.#entries.length - 1);
  }
}
