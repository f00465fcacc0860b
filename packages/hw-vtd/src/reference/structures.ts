/** Root, context and PASID structures (VT-d 9.1 to 9.6): steps 3, 4, 6 and 7 of a translation. */
import { Stop } from "./conditions.js";
import type { ReferenceRequest, ReferenceState } from "./request.js";
import type { Trail } from "./trail.js";
import { bits, E, type ReferenceUnit } from "./unit.js";

/** Reads `count` words as one number. */
function fetch(state: ReferenceState, address: bigint, count: number, unreadable: string): bigint {
  let whole = 0n;
  for (let i = count - 1; i >= 0; i--) {
    const word = state.memory.read64(address + BigInt(i * 8));
    if (word === undefined) throw new Stop(unreadable);
    whole = (whole << 64n) | word;
  }
  return whole;
}

/** Mask of bits high:low. */
const ones = (high: bigint | number, low: bigint | number = high): bigint =>
  BigInt(high) < BigInt(low) ? 0n : ((1n << (BigInt(high) - BigInt(low) + 1n)) - 1n) << BigInt(low);

const pointerOf = (word: bigint): bigint => bits(word, 63, 12) << 12n;

// ---- Step 3: root entry ----------------------------------------------------

/** 9.1: the context table of a bus. */
export function legacyRoot(state: ReferenceState, rid: bigint): bigint {
  const entry = fetch(state, pointerOf(state.rtaddr) + bits(rid, 15, 8) * 16n, 2, "LRT.1");
  if (bits(entry, 0) === 0n) throw new Stop("LRT.2");
  if ((entry & (ones(11, 1) | ones(63, state.unit.haw) | ones(127, 64))) !== 0n) throw new Stop("LRT.3");
  return pointerOf(entry);
}

/** 9.2: each half stands for 128 device functions, and is judged alone. */
export function scalableRoot(state: ReferenceState, rid: bigint): bigint {
  const entry = fetch(state, pointerOf(state.rtaddr) + bits(rid, 15, 8) * 16n, 2, "SRT.1");
  const half = bits(rid, 7) === 0n ? bits(entry, 63, 0) : bits(entry, 127, 64);
  if (bits(half, 0) === 0n) throw new Stop("SRT.2");
  const reserved = ones(11, 1) | ones(63, state.unit.haw);
  if ((half & reserved) !== 0n) throw new Stop("SRT.3");
  const other = bits(rid, 7) === 0n ? bits(entry, 127, 64) : bits(entry, 63, 0);
  if (state.unit.choices.rootHalves === "both" && bits(other, 0) === 1n && (other & reserved) !== 0n) throw new Stop("SRT.3");
  return pointerOf(half);
}

// ---- Step 4: context entry -------------------------------------------------

export interface LegacyContext {
  readonly type: bigint;
  readonly table: bigint;
  readonly aw: bigint;
}

/** 9.3 */
export function legacyContext(state: ReferenceState, table: bigint, request: ReferenceRequest, trail: Trail): LegacyContext {
  const { unit } = state;
  const entry = fetch(state, table + bits(request.rid, 7, 0) * 16n, 2, "LCT.1");
  if (bits(entry, 1) === 1n) trail.silent = true;
  if (bits(entry, 0) === 0n) throw new Stop("LCT.2");
  const type = bits(entry, 3, 2);
  const pointerTop = type === 2n ? 0n : ones(63, unit.haw);
  const domain = ones(87, 72n + unit.domainBits);
  if ((entry & (ones(11, 4) | pointerTop | ones(71) | domain | ones(127, 88))) !== 0n) throw new Stop("LCT.3");
  if (type === 3n || (type === 1n && !unit.ecap(E.DT)) || (type === 2n && !unit.ecap(E.PT))) throw new Stop("LCT.4.2");
  const aw = bits(entry, 66, 64);
  if (unit.widthOf(aw) === undefined) throw new Stop("LCT.4.1");
  if (type === 2n && unit.choices.passThroughAw === "largest" && aw !== unit.largestAw) throw new Stop("LCT.4.1");
  const translatedOrAsked = request.kind === "translation" || request.kind === "translated";
  if (translatedOrAsked && type !== 1n) throw new Stop("LCT.5");
  return { type, table: pointerOf(entry), aw };
}

export interface ScalableContext {
  readonly directory: bigint;
  /** The PASID to look up, and whether the request is privileged: RID_PASID and RID_PRIV without a prefix. */
  readonly pasid: bigint;
  readonly privileged: boolean;
  /** Translated requests are looked up in host permission tables. */
  readonly hostPermission: boolean;
}

/** 9.4: fields whose capability is missing are reserved. */
function scalableContextReserved(unit: ReferenceUnit): bigint {
  let mask = ones(8, 7) | ones(63, unit.haw) | ones(255, 85);
  if (!unit.ecap(E.DT)) mask |= ones(2);
  if (!unit.ecap(E.PASID)) mask |= ones(3);
  if (!unit.ecap(E.PRS)) mask |= ones(4);
  if (!unit.ecap(E.HPTS)) mask |= ones(5);
  if (!unit.ecap(E.PTRS)) mask |= ones(6);
  if (!unit.ecap(E.RPS)) mask |= ones(83, 64);
  if (!unit.ecap(E.RPRIVS)) mask |= ones(84);
  return mask;
}

export function scalableContext(state: ReferenceState, table: bigint, request: ReferenceRequest, trail: Trail): ScalableContext {
  const { unit } = state;
  const { kind, pasid } = request;
  const entry = fetch(state, table + bits(request.rid, 6, 0) * 32n, 4, "SCT.1");
  if (bits(entry, 1) === 1n) trail.silent = true;
  if (bits(entry, 0) === 0n) throw new Stop("SCT.2");
  if ((entry & scalableContextReserved(unit)) !== 0n) throw new Stop("SCT.3");
  const [dte, pasidEnable, pre, eptr] = [bits(entry, 2), bits(entry, 3), bits(entry, 4), bits(entry, 6)];
  const limit = 1n << (bits(entry, 11, 9) + 13n);
  const ridPasid = bits(entry, 83, 64);
  if (dte === 0n && pre === 1n) throw new Stop("SCT.4.1");
  if (ridPasid >= limit) throw new Stop("SCT.4.2");
  const hasPasid = pasid !== undefined;
  // Table 27: with a PASID, untranslated and translation requests meet SCT.6 instead.
  const meetsPasidEnable = hasPasid && (kind === "untranslated" || kind === "translation");
  if (eptr === 1n && pasidEnable === 0n && !meetsPasidEnable) throw new Stop("SCT.4.3");
  if (dte === 0n && (kind === "translation" || kind === "translated")) throw new Stop("SCT.5");
  if (hasPasid) {
    if (pasidEnable === 0n && kind !== "translated") throw new Stop("SCT.6");
    if (pasid >= 1n << unit.pasidBits && kind !== "page") throw new Stop("SGN.10");
    if (pasid >= limit) throw new Stop("SCT.7");
    if (pasid === ridPasid) throw new Stop("SCT.9");
    if (kind === "translated" && eptr === 0n) throw new Stop("SCT.10");
  }
  if (kind === "page" && pre === 0n) throw new Stop("SCT.8");
  const privileged = hasPasid ? request.privileged : bits(entry, 84) === 1n;
  return { directory: pointerOf(bits(entry, 63, 0)), pasid: pasid ?? ridPasid, privileged, hostPermission: bits(entry, 5) === 1n };
}

// ---- Step 6: PASID directory -----------------------------------------------

/** 9.5 */
export function pasidDirectory(state: ReferenceState, directory: bigint, pasid: bigint, trail: Trail): bigint {
  const entry = fetch(state, directory + bits(pasid, 19, 6) * 8n, 1, "SPD.1");
  if (bits(entry, 1) === 1n) trail.silent = true;
  if (bits(entry, 0) === 0n) throw new Stop("SPD.2");
  if ((entry & (ones(11, 2) | ones(63, state.unit.haw))) !== 0n) throw new Stop("SPD.3");
  return pointerOf(entry);
}

// ---- Step 7: PASID entry ---------------------------------------------------

export const PGTT = { FIRST: 1n, SECOND: 2n, NESTED: 3n, PASS: 4n } as const;

export interface PasidEntry {
  readonly pgtt: bigint;
  readonly aw: bigint;
  readonly secondTable: bigint;
  readonly firstTable: bigint;
  readonly fiveLevels: boolean;
  readonly ssade: boolean;
  readonly pwsnp: boolean;
  readonly pgsnp: boolean;
  readonly sre: boolean;
  readonly wpe: boolean;
  readonly eafe: boolean;
  readonly hostTable: bigint;
  readonly hostSize: bigint;
}

/** 9.6: a field is reserved without its capability, else ignored for some PGTT; `ignored` is given back to mask it out. */
function pasidEntryReserved(unit: ReferenceUnit, pgtt: bigint): bigint {
  let mask = ones(5) | ones(11, 10) | ones(86, 80) | ones(95, 91) | ones(129) | ones(139, 136) | ones(255, 192);
  mask |= ones(267, 259) | ones(511, 336);
  mask |= ones(79, 64n + unit.domainBits);
  const secondUnused = pgtt === PGTT.FIRST || pgtt === PGTT.PASS;
  const firstUnused = pgtt === PGTT.SECOND || pgtt === PGTT.PASS;
  const tops = unit.choices.unusedPointerTops === "reserved";
  if (!unit.ecap(E.SSTS)) mask |= ones(63, 12) | (unit.choices.firstStageWidth === "reserved" ? ones(4, 2) : 0n);
  else if (!secondUnused || tops) mask |= ones(63, unit.haw);
  if (!unit.ecap(E.SSTS) || !unit.ecap(E.SSADS)) mask |= ones(9);
  if (!unit.ecap(E.SMPWC)) mask |= ones(87);
  if (!unit.ecap(E.SC)) mask |= ones(88);
  if (!unit.ecap(E.MTS)) mask |= ones(90, 89) | ones(127, 96);
  if (!unit.ecap(E.SRS)) mask |= ones(128);
  if (!unit.ecap(E.FSTS)) mask |= ones(131, 130) | ones(132) | ones(191, 140);
  else if (!firstUnused || tops) mask |= ones(191, 128n + unit.haw);
  if (!unit.ecap(E.EAFS)) mask |= ones(135);
  if (!unit.ecap(E.HPTS)) mask |= ones(258, 256) | ones(319, 268) | ones(335, 320);
  mask |= ones(319, 256n + unit.haw) | ones(335, 320n + unit.domainBits);
  return mask;
}

function pgttSupported(unit: ReferenceUnit, pgtt: bigint): boolean {
  if (pgtt === PGTT.FIRST) return unit.ecap(E.FSTS);
  if (pgtt === PGTT.SECOND) return unit.ecap(E.SSTS);
  if (pgtt === PGTT.NESTED) return unit.ecap(E.NEST);
  return pgtt === PGTT.PASS && unit.ecap(E.PT);
}

export function pasidEntry(state: ReferenceState, table: bigint, pasid: bigint, trail: Trail): PasidEntry {
  const { unit } = state;
  const entry = fetch(state, table + bits(pasid, 5, 0) * 64n, 8, "SPT.1");
  if (bits(entry, 1) === 1n) trail.silent = true;
  if (bits(entry, 0) === 0n) throw new Stop("SPT.2");
  const pgtt = bits(entry, 8, 6);
  if ((entry & pasidEntryReserved(unit, pgtt)) !== 0n) throw new Stop("SPT.3");
  if (!pgttSupported(unit, pgtt)) throw new Stop("SPT.4.2");
  const usesSecond = pgtt === PGTT.SECOND || pgtt === PGTT.NESTED;
  const usesFirst = pgtt === PGTT.FIRST || pgtt === PGTT.NESTED;
  const aw = bits(entry, 4, 2);
  if (usesSecond && unit.widthOf(aw) === undefined) throw new Stop("SPT.4.1");
  const fspm = bits(entry, 131, 130);
  if (usesFirst && (fspm > 1n || (fspm === 1n && unit.cap(60) === 0n))) throw new Stop("SPT.4.3");
  const firstTable = bits(entry, 191, 140) << 12n;
  if (pgtt === PGTT.NESTED && firstTable >= 1n << unit.inputBits(aw)) throw new Stop("SPT.4.4");
  const flag = (bit: number): boolean => bits(entry, bit) === 1n;
  return {
    pgtt, aw, firstTable,
    secondTable: bits(entry, 63, 12) << 12n,
    fiveLevels: fspm === 1n,
    ssade: flag(9), pwsnp: flag(87), pgsnp: flag(88), sre: flag(128), wpe: flag(132), eafe: flag(135),
    hostTable: bits(entry, 319, 268) << 12n, hostSize: bits(entry, 257, 256),
  };
}
