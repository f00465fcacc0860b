/**
 * Memory attributes (SMMU 13): what an access brings, what STE, GBPA, MAIR and descriptors make of it, and how two combine. Every attribute is a
 * number that grows with its strength, so that combining takes the greater (13.1.5).
 */
import type { Fields } from "./words.js";

export const Device = { NONE: 0, GRE: 1, NGRE: 2, NGNRE: 3, NGNRNE: 4 } as const;
export const Cache = { WB: 0, WT: 1, NC: 2 } as const;
export const Share = { NSH: 0, ISH: 1, OSH: 2 } as const;

/** Normal memory at one level of caches. */
export interface CacheLevel {
  readonly cache: number;
  /** Hints that take something away; without effect where nothing is cached. */
  readonly noReadAllocate: boolean;
  readonly noWriteAllocate: boolean;
  readonly transient: boolean;
}

export interface MemoryAttributes {
  readonly device: number;
  readonly outer: CacheLevel;
  readonly inner: CacheLevel;
  readonly share: number;
}

const level = (cache: number, hints: Partial<CacheLevel> = {}): CacheLevel => ({ cache, noReadAllocate: false, noWriteAllocate: false, transient: false, ...hints });
const WRITE_BACK = level(Cache.WB);
const normal = (outer: CacheLevel, inner: CacheLevel, share: number): MemoryAttributes => ({ device: Device.NONE, outer, inner, share });
const device = (kind: number): MemoryAttributes => ({ device: kind, outer: WRITE_BACK, inner: WRITE_BACK, share: Share.OSH });

/** Of an access that says nothing of itself (13.1.3). */
export const INCOMING: MemoryAttributes = normal(WRITE_BACK, WRITE_BACK, Share.NSH);

/** The two bits of a descriptor, CD.SHx and STE.S2SH0. The reserved value is taken as the strongest. */
const SHARES: readonly number[] = [Share.NSH, Share.OSH, Share.OSH, Share.ISH];
/** Bits 1:0 of a Device encoding, in MAIR and in MemAttr. */
const DEVICES: readonly number[] = [Device.NGNRNE, Device.NGNRE, Device.NGRE, Device.GRE];

/** Device memory and what no cache keeps is shared by all (13.1.7). */
function shared(a: MemoryAttributes): MemoryAttributes {
  return a.device !== Device.NONE || (a.outer.cache === Cache.NC && a.inner.cache === Cache.NC) ? { ...a, share: Share.OSH } : a;
}

/** MT, MemAttr[3:0] of STE and GBPA, and of stage 2 without S2FWB: outer, inner; other values are Device-nGnRnE. */
const CACHES: readonly (number | undefined)[] = [undefined, Cache.NC, Cache.WT, Cache.WB];
export function memAttrType(memAttr: number): MemoryAttributes {
  const [outer, inner] = [CACHES[memAttr >> 2], CACHES[memAttr & 3]];
  if (outer === undefined) return device(DEVICES[memAttr & 3]);
  return inner === undefined ? device(Device.NGNRNE) : normal(level(outer), level(inner), Share.NSH);
}

/** SHCFG of STE and GBPA; undefined: as it comes. */
const SHARE_OVERRIDES: readonly (number | undefined)[] = [Share.NSH, undefined, Share.OSH, Share.ISH];

/** STE or GBPA fields over what comes (13.1.4). A level that becomes cacheable has the hints of an access that gives none. */
export function overridden(f: Fields, incoming: MemoryAttributes, possible: boolean): MemoryAttributes {
  if (!possible) return incoming;
  const type = f.MTCFG === 1 ? memAttrType(f.MemAttr) : incoming;
  const hints = (to: CacheLevel, from: CacheLevel): CacheLevel => {
    if ((f.ALLOCCFG & 8) !== 0) return { cache: to.cache, noReadAllocate: (f.ALLOCCFG & 4) === 0, noWriteAllocate: (f.ALLOCCFG & 2) === 0, transient: (f.ALLOCCFG & 1) === 1 };
    return incoming.device !== Device.NONE || from.cache === Cache.NC ? to : { ...from, cache: to.cache };
  };
  return { device: type.device, outer: hints(type.outer, incoming.outer), inner: hints(type.inner, incoming.inner), share: SHARE_OVERRIDES[f.SHCFG] ?? incoming.share };
}

/** Half a byte of MAIR, for Normal memory: cacheability, then transience, and RA, WA. */
function mairLevel(nibble: number): CacheLevel {
  if (nibble === 4) return level(Cache.NC);
  return { cache: (nibble & 4) === 0 ? Cache.WT : Cache.WB, transient: nibble < 8, noReadAllocate: (nibble & 2) === 0, noWriteAllocate: (nibble & 1) === 0 };
}

/** A byte of MAIR (5.4), where the SMMU gives every value a meaning. */
export function mairAttributes(byte: number, sh: number): MemoryAttributes {
  const [outer, inner] = [byte >> 4, byte & 15];
  if (outer === 0) return device(DEVICES[inner >> 2]);
  const share = SHARES[sh];
  // Inner 0 is write-through transient, with both allocations.
  return shared(normal(mairLevel(outer), mairLevel(inner === 0 ? 3 : inner), share));
}

const stronger = (a: CacheLevel, b: CacheLevel): CacheLevel => {
  const [x, y] = [hintsOf(a), hintsOf(b)];
  return {
    cache: Math.max(a.cache, b.cache),
    noReadAllocate: x.noReadAllocate || y.noReadAllocate, noWriteAllocate: x.noWriteAllocate || y.noWriteAllocate, transient: x.transient || y.transient,
  };
};

/** What is not cached gives no hints (13.1.7). */
function hintsOf(a: CacheLevel): CacheLevel {
  return a.cache === Cache.NC ? level(Cache.NC) : a;
}

/** Type and shareability are stage 1's own; the hints of an access that is cached are combined with its (13.4.2). */
export function throughStage1(incoming: MemoryAttributes, stage1: MemoryAttributes): MemoryAttributes {
  if (incoming.device !== Device.NONE) return stage1;
  const hints = (own: CacheLevel, from: CacheLevel): CacheLevel => ({ ...stronger(own, { ...hintsOf(from), cache: Cache.WB }), cache: own.cache });
  return { ...stage1, outer: hints(stage1.outer, incoming.outer), inner: hints(stage1.inner, incoming.inner) };
}

export interface Stage2Attributes {
  readonly memAttr: number;
  readonly sh: number;
  /** STE.S2FWB */
  readonly forced: boolean;
  /** IDR3.MTEPERM: MemAttr 0100 is write-back memory, without access to tags. */
  readonly tags: boolean;
}

/** Stage 2 over what stage 1, or the access, has (13.4.3, DDI0487 D8.6). It gives no hints of its own. */
export function throughStage2(before: MemoryAttributes, stage2: Stage2Attributes): MemoryAttributes {
  const a = shared(before);
  const type = stage2Type(a, stage2);
  const share = Math.max(a.share, SHARES[stage2.sh]);
  if (type === undefined) return shared({ ...a, share });
  const hints = (of: CacheLevel): CacheLevel => (a.device === Device.NONE ? hintsOf(of) : WRITE_BACK);
  return shared({ device: type.device, outer: { ...hints(a.outer), cache: type.outer.cache }, inner: { ...hints(a.inner), cache: type.inner.cache }, share });
}

/** Undefined: as before. */
function stage2Type(a: MemoryAttributes, { memAttr, forced, tags }: Stage2Attributes): MemoryAttributes | undefined {
  if (!forced) return combinedType(a, tags && memAttr === 4 ? INCOMING : memAttrType(memAttr));
  if ((memAttr & 4) === 0) return combinedType(a, device(DEVICES[memAttr & 3]));
  switch (memAttr & 3) {
    case 1:
      return a.device === Device.NONE ? normal(level(Cache.NC), level(Cache.NC), Share.OSH) : undefined;
    case 2:
      return INCOMING;
    case 3:
      return undefined;
    default:
      return device(Device.NGNRNE);
  }
}

function combinedType(a: MemoryAttributes, b: MemoryAttributes): MemoryAttributes {
  return { device: Math.max(a.device, b.device), outer: level(Math.max(a.outer.cache, b.outer.cache)), inner: level(Math.max(a.inner.cache, b.inner.cache)), share: Share.NSH };
}

/** Without contradictions, as the memory system gets them (13.1.7). */
export function consistent(a: MemoryAttributes): MemoryAttributes {
  if (a.device !== Device.NONE) return device(a.device);
  const own = (of: CacheLevel): CacheLevel => {
    const hints = hintsOf(of);
    return hints.noReadAllocate && hints.noWriteAllocate ? { ...hints, transient: false } : hints;
  };
  return shared(normal(own(a.outer), own(a.inner), a.share));
}

const DEVICE_NAMES = ["", "GRE", "nGRE", "nGnRE", "nGnRnE"];
const CACHE_NAMES = ["WB", "WT", "NC"];
const SHARE_NAMES = ["NSH", "ISH", "OSH"];

/** In the manual's notation (13.1.1): "Normal-iWB/RAWAnTR-oWB/RAWAnTR-ISH", "Device-nGnRE". */
export function formatAttributes(a: MemoryAttributes): string {
  if (a.device !== Device.NONE) return `Device-${DEVICE_NAMES[a.device]}`;
  const one = ({ cache, noReadAllocate, noWriteAllocate, transient }: CacheLevel): string =>
    cache === Cache.NC ? "NC" : `${CACHE_NAMES[cache]}/${noReadAllocate ? "n" : ""}RA${noWriteAllocate ? "n" : ""}WA${transient ? "" : "n"}TR`;
  const uncached = a.inner.cache === Cache.NC && a.outer.cache === Cache.NC;
  return `Normal-i${one(a.inner)}-o${one(a.outer)}${uncached ? "" : `-${SHARE_NAMES[a.share]}`}`;
}
