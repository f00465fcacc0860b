/**
 * From a requester id and PASID to the tables that translate for it: root,
 * context and PASID structures (VT-d 3.4, 9.1 to 9.6), in the order of checks
 * that section 7 implies. `Context` and `Configuration` are what the context
 * cache and the PASID cache keep.
 */
import { NO_PASID, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pgtt } from "../spec/entries.js";
import { faultIndex } from "../spec/faults.js";
import { FirstStage } from "../spec/formats.js";
import type { CachedEntry } from "./entry-cache.js";
import { buildMasks, type MaskWords, type ReservedMasks } from "./masks.js";
import type { VtdPolicies } from "./policies.js";
import type { QuickWalk } from "./quick-walk.js";
import { RequestKind } from "./request.js";

const F = {
  LRT1: faultIndex("LRT.1"), LRT2: faultIndex("LRT.2"), LRT3: faultIndex("LRT.3"),
  LCT1: faultIndex("LCT.1"), LCT2: faultIndex("LCT.2"), LCT3: faultIndex("LCT.3"), LCT41: faultIndex("LCT.4.1"), LCT42: faultIndex("LCT.4.2"),
  LCT5: faultIndex("LCT.5"),
  SRT1: faultIndex("SRT.1"), SRT2: faultIndex("SRT.2"), SRT3: faultIndex("SRT.3"),
  SCT1: faultIndex("SCT.1"), SCT2: faultIndex("SCT.2"), SCT3: faultIndex("SCT.3"), SCT41: faultIndex("SCT.4.1"), SCT42: faultIndex("SCT.4.2"),
  SCT43: faultIndex("SCT.4.3"), SCT5: faultIndex("SCT.5"), SCT6: faultIndex("SCT.6"), SCT7: faultIndex("SCT.7"), SCT8: faultIndex("SCT.8"),
  SCT9: faultIndex("SCT.9"), SCT10: faultIndex("SCT.10"), SGN10: faultIndex("SGN.10"),
  SPD1: faultIndex("SPD.1"), SPD2: faultIndex("SPD.2"), SPD3: faultIndex("SPD.3"),
  SPT1: faultIndex("SPT.1"), SPT2: faultIndex("SPT.2"), SPT3: faultIndex("SPT.3"), SPT41: faultIndex("SPT.4.1"), SPT42: faultIndex("SPT.4.2"),
  SPT43: faultIndex("SPT.4.3"), SPT44: faultIndex("SPT.4.4"),
} as const;

/** Bit of `Configuration.group` that first-stage and nested entries have. */
export const FIRST_STAGE_GROUP = 0x10_0000;

/** No fault. */
export const NONE = -1;

/** How one (requester, PASID) is translated: a PASID table entry, or a legacy context entry. */
export class Configuration implements CachedEntry {
  valid = false;
  rid = 0;
  /** PASID that was looked up: RID_PASID for requests without one. Invalidations know it by this. */
  pasid = 0;
  /** What is wrong with the entry, or NONE. */
  condition: number = NONE;
  /** FPD of the entry, or of the PASID directory entry above it. */
  faultDisable = false;
  legacy = false;
  pgtt = 0;
  domain = 0;
  /** What invalidations of the IOTLB select on: the domain, and whether there is a first stage. */
  group = 0;
  /** First-stage root in bytes: a guest address when nested. */
  root = 0;
  topLevel = 0;
  /** First-stage addresses are canonical below this page, and from its negative on. */
  canonicalPages = 0;
  secondRoot = 0;
  secondTopLevel = 0;
  /** min(MGAW, AW) in pages: input addresses of the second stage end here. */
  secondPages = 0;
  supervisorEnable = false;
  writeProtect = false;
  /** What a first-stage walk sets in every entry: A, and EA with EAFE. */
  accessedFlags = 0;
  secondStageDirty = false;
  walkSnoop = false;
  /** PGSNP: the page is snooped whatever the request says. */
  pageSnoop = false;
  /** Host permission table in bytes, and log2 of what it covers. */
  hostTable = 0;
  hostBits = 0;
  /** The quick way of its reads: made for the (RID_PRIV, latched RTADDR) that `quickKey` stands for. */
  quick: QuickWalk | undefined;
  quickKey = -1;
}

/** A context entry. In legacy mode it says all there is to say: `translation`. */
export class Context implements CachedEntry {
  valid = false;
  rid = 0;
  pasid: number = NO_PASID;
  condition: number = NONE;
  faultDisable = false;
  legacy = false;
  /** Translation requests and translated requests are allowed: DTE, or TT=1. */
  deviceTlb = false;
  pasidEnable = false;
  pageRequests = false;
  hostPermission = false;
  translatedPasid = false;
  /** PASIDs that the directory has room for. */
  pasids = 0;
  ridPasid = 0;
  ridPrivileged = false;
  directory = 0;
  readonly translation: Configuration = new Configuration();
}

export class ConfigurationReader {
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #masks: ReservedMasks;
  readonly #bothHalves: boolean;
  readonly #words = new Int32Array(16);

  constructor(memory: PhysicalMemory, caps: Capabilities, policies: VtdPolicies) {
    this.#memory = memory;
    this.#caps = caps;
    this.#masks = buildMasks(caps, policies);
    this.#bothHalves = policies.rootHalves === "both";
  }

  /** Legacy mode (3.4.2). Returns NONE or a fault condition; `out.faultDisable` is right in both cases. */
  readLegacy(rootTable: number, rid: number, out: Context): number {
    const w = this.#words;
    out.rid = rid;
    out.legacy = true;
    out.faultDisable = false;
    if (!this.#load(rootTable + (rid >> 8) * 16, 4)) return F.LRT1;
    if ((w[0] & 1) === 0) return F.LRT2;
    if (this.#reserved(this.#masks.legacyRoot, 0, 4)) return F.LRT3;
    if (!this.#load(pointer(w[0], w[1]) + (rid & 0xff) * 16, 4)) return F.LCT1;
    out.faultDisable = (w[0] & 2) !== 0;
    out.translation.domain = (w[2] >>> 8) & 0xffff;
    out.condition = this.#legacyContext(out);
    return out.condition;
  }

  #legacyContext(out: Context): number {
    const w = this.#words;
    if ((w[0] & 1) === 0) return F.LCT2;
    const type = (w[0] >>> 2) & 3;
    if (this.#reserved(this.#masks.legacyContext, 0, 4)) return F.LCT3;
    if (type !== 2 && Math.floor((w[1] >>> 0) / 2 ** (this.#caps.haw - 32)) !== 0) return F.LCT3;
    if (type === 3 || (type === 1 && !this.#caps.deviceTlb) || (type === 2 && !this.#caps.passThrough)) return F.LCT42;
    const width = w[2] & 7;
    if (!this.#widthSupported(width) || (type === 2 && width !== this.#largestWidth())) return F.LCT41;
    out.deviceTlb = type === 1;
    const { translation } = out;
    translation.legacy = true;
    translation.quickKey = -1;
    translation.group = translation.domain;
    translation.pgtt = type === 2 ? Pgtt.PASS_THROUGH : Pgtt.SECOND_STAGE;
    this.#setSecondStage(translation, width);
    return NONE;
  }

  /** The context entry in scalable mode (3.4.3). */
  readScalable(rootTable: number, rid: number, out: Context): number {
    const w = this.#words;
    out.rid = rid;
    out.legacy = false;
    out.faultDisable = false;
    const half = (rid & 0x80) === 0 ? 0 : 2; // devfn 80h and up use the upper half
    if (!this.#load(rootTable + (rid >> 8) * 16, 4)) return F.SRT1;
    if ((w[half] & 1) === 0) return F.SRT2;
    if (this.#reserved(this.#masks.scalableRoot, half, half + 2)) return F.SRT3;
    const other = 2 - half;
    if (this.#bothHalves && (w[other] & 1) !== 0 && this.#reserved(this.#masks.scalableRoot, other, other + 2)) return F.SRT3;
    if (!this.#load(pointer(w[half], w[half + 1]) + (rid & 0x7f) * 32, 8)) return F.SCT1;
    out.faultDisable = (w[0] & 2) !== 0;
    out.condition = this.#scalableContext(out);
    return out.condition;
  }

  #scalableContext(out: Context): number {
    const w = this.#words;
    if ((w[0] & 1) === 0) return F.SCT2;
    if (this.#reserved(this.#masks.scalableContext, 0, 8)) return F.SCT3;
    out.deviceTlb = (w[0] & 4) !== 0;
    out.pasidEnable = (w[0] & 8) !== 0;
    out.pageRequests = (w[0] & 0x10) !== 0;
    out.hostPermission = (w[0] & 0x20) !== 0;
    out.translatedPasid = (w[0] & 0x40) !== 0;
    out.pasids = 2 ** (((w[0] >>> 9) & 7) + 13);
    out.ridPasid = this.#caps.ridPasid ? w[2] & 0xfffff : 0;
    out.ridPrivileged = this.#caps.ridPrivileged && (w[2] & 0x100000) !== 0;
    out.directory = pointer(w[0], w[1]);
    if (!out.deviceTlb && out.pageRequests) return F.SCT41;
    if (out.ridPasid >= out.pasids) return F.SCT42;
    return NONE;
  }

  /** What a good context entry has against a request of `kind` (`RequestKind`). */
  refuses(context: Context, kind: number, pasid: number): number {
    const ats = kind === RequestKind.TRANSLATION || kind === RequestKind.TRANSLATED;
    // An untranslated or translation request with PASID meets SCT.6 instead (table 27).
    const meetsPasidEnable = pasid !== NO_PASID && (kind === RequestKind.UNTRANSLATED || kind === RequestKind.TRANSLATION);
    if (!context.legacy && context.translatedPasid && !context.pasidEnable && !meetsPasidEnable) return F.SCT43;
    if (ats && !context.deviceTlb) return context.legacy ? F.LCT5 : F.SCT5;
    if (pasid !== NO_PASID) {
      if (!context.pasidEnable && kind !== RequestKind.TRANSLATED) return F.SCT6;
      if (pasid >= 2 ** this.#caps.pasidBits && kind !== RequestKind.PAGE) return F.SGN10;
      if (pasid >= context.pasids) return F.SCT7;
      if (pasid === context.ridPasid) return F.SCT9;
      if (kind === RequestKind.TRANSLATED && !context.translatedPasid) return F.SCT10;
    }
    return kind === RequestKind.PAGE && !context.pageRequests ? F.SCT8 : NONE;
  }

  /** The PASID directory entry and PASID table entry (3.4.4). */
  readPasid(context: Context, pasid: number, out: Configuration): number {
    const w = this.#words;
    out.rid = context.rid;
    out.pasid = pasid;
    out.legacy = false;
    out.faultDisable = false;
    out.domain = 0;
    if (!this.#load(context.directory + (pasid >>> 6) * 8, 2)) return F.SPD1;
    out.faultDisable = (w[0] & 2) !== 0;
    if ((w[0] & 1) === 0) return (out.condition = F.SPD2);
    if (this.#reserved(this.#masks.directory, 0, 2)) return (out.condition = F.SPD3);
    if (!this.#load(pointer(w[0], w[1]) + (pasid & 63) * 64, 16)) return F.SPT1;
    out.faultDisable ||= (w[0] & 2) !== 0;
    out.domain = w[2] & 0xffff;
    out.condition = this.#pasidEntry(out);
    return out.condition;
  }

  #pasidEntry(out: Configuration): number {
    const w = this.#words;
    const caps = this.#caps;
    if ((w[0] & 1) === 0) return F.SPT2;
    const pgtt = (w[0] >>> 6) & 7;
    if (this.#reserved(this.#masks.pasid, 0, 16)) return F.SPT3;
    const nested = pgtt === Pgtt.NESTED;
    const first = pgtt === Pgtt.FIRST_STAGE || nested;
    const second = pgtt === Pgtt.SECOND_STAGE || nested;
    const supported = (first || second) ? (!first || caps.firstStage) && (!second || caps.secondStage) && (!nested || caps.nesting) : pgtt === Pgtt.PASS_THROUGH && caps.passThrough;
    if (!supported) return F.SPT42;
    const width = (w[0] >>> 2) & 7;
    if (second && !this.#widthSupported(width)) return F.SPT41;
    const mode = (w[4] >>> 2) & 3;
    if (first && (mode > 1 || (mode === 1 && !caps.firstStage5Level))) return F.SPT43;
    out.quickKey = -1;
    out.pgtt = pgtt;
    out.group = first ? out.domain | FIRST_STAGE_GROUP : out.domain;
    out.root = pointer(w[4], w[5]);
    out.topLevel = mode + 3;
    out.canonicalPages = 2 ** (out.topLevel * 9 + 8);
    if (second) this.#setSecondStage(out, width);
    if (nested && out.root >= out.secondPages * 4096) return F.SPT44;
    out.supervisorEnable = (w[4] & 1) !== 0;
    out.writeProtect = (w[4] & 0x10) !== 0;
    out.accessedFlags = FirstStage.A | ((w[4] & 0x80) === 0 ? 0 : FirstStage.EA);
    out.secondStageDirty = (w[0] & 0x200) !== 0;
    out.walkSnoop = (w[2] & 0x80_0000) !== 0;
    out.pageSnoop = (w[2] & 0x100_0000) !== 0;
    out.hostTable = pointer(w[8], w[9]);
    out.hostBits = 49 + (w[8] & 3);
    return NONE;
  }

  #setSecondStage(out: Configuration, width: number): void {
    out.secondRoot = pointer(this.#words[0], this.#words[1]);
    out.secondTopLevel = width + 1;
    out.secondPages = 2 ** (Math.min(this.#caps.mgaw, 30 + 9 * width) - 12);
    out.secondStageDirty = false;
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
