/** Walks of stage 1 and stage 2 (Arm DDI0487 D8, SMMU 3.4, 13.4), each descriptor of stage 1 read through stage 2 when nested. */
import { Right, type StepContext } from "@iommukit/core/decode";
import { Event } from "../spec/events.js";
import { World } from "../spec/illegal.js";
import { GRANULE_SHIFTS } from "../spec/tables.js";
import { Bit, contiguousBytes, descriptorKind, descriptorTable, levelShift, outputAddress, type Rights, stage1Rights, stage2Rights } from "./descriptors.js";
import type { Half, Tables, Translation } from "./locate.js";
import { type Cause, Stopped, type Trail } from "./trail.js";
import { swapBytes } from "./unit.js";

/** What a transaction needs, after the STE's overrides. */
export interface Wanted {
  readonly read: boolean;
  readonly write: boolean;
  readonly fetch: boolean;
  readonly privileged: boolean;
}

const TABLE_READ: Wanted = { read: true, write: false, fetch: false, privileged: false };
const TABLE_UPDATE: Wanted = { ...TABLE_READ, write: true };

export interface Mapped {
  readonly address: bigint;
  /** Bytes that are mapped by the same entries. */
  readonly pageSize: number;
  /** `Right` bits that the asker has. */
  readonly rights: number;
  /** The leaf. */
  readonly word: bigint;
}

/** 52-bit addresses are implemented. */
export const isWide = ({ unit: { caps } }: Trail): boolean => caps.oas >= 52;

interface Entry {
  readonly address: bigint;
  readonly word: bigint;
}

interface Leaf extends Mapped {
  /** OR of the table descriptors on the way. */
  readonly above: bigint;
  /** Every descriptor, the leaf last. */
  readonly path: readonly Entry[];
}

export interface WalkPlace {
  readonly cause: Cause;
  readonly context: StepContext;
}

/** Physical address of a structure that the STE or stage 1 names. @throws Stopped */
export function through(trail: Trail, t: Translation, address: bigint, cause: Cause, what: string): bigint {
  if (t.second === undefined) return address;
  return translateSecond(trail, t, address, TABLE_READ, { cause, context: { depth: 1, purpose: `IPA 0x${address.toString(16)}, for ${what}` } }).address;
}

function walkTables(trail: Trail, tables: Tables, input: bigint, place: WalkPlace, reach: (address: bigint, level: number) => bigint): Leaf {
  const { stage, granule, inputBits, bigEndian } = tables;
  const wide = isWide(trail);
  const controlled = { controlledBy: stage, cause: place.cause } as const;
  const stride = GRANULE_SHIFTS[granule] - 3;
  const path: Entry[] = [];
  let above = 0n;
  let { root } = tables;
  for (let { level } = tables; ; level++) {
    const shift = levelShift(granule, level);
    const high = path.length === 0 ? inputBits : shift + stride;
    const index = BigInt.asUintN(high, input) >> BigInt(shift);
    const address = root + index * 8n;
    const pa = reach(address, level);
    const raw = trail.read(descriptorTable(stage, "table", level), pa, Event.F_WALK_EABT)[0];
    const word = bigEndian ? swapBytes(raw) : raw;
    const kind = descriptorKind(tables, wide, level, word);
    const from = `${stage === 1 ? "VA" : "IPA"} ${high - 1}:${shift}, level ${level}`;
    trail.show(descriptorTable(stage, kind, level), pa, [word], { index: { value: Number(index), from }, ...place.context });
    path.push({ address, word });
    if (kind === "invalid") throw new Stopped(Event.F_TRANSLATION, `stage ${stage}: the descriptor at level ${level} ${invalidity(word)}`, controlled);
    const output = outputAddress(tables, wide, word);
    if (output >= 1n << BigInt(tables.outputBits)) throw new Stopped(Event.F_ADDR_SIZE, `stage ${stage}: the descriptor at level ${level} names 0x${output.toString(16)}, which has more than ${tables.outputBits} bits`, controlled);
    if (kind === "table") {
      above |= word;
      root = output;
      continue;
    }
    const offset = BigInt.asUintN(shift, input);
    const hint = contiguousBytes(granule, level, word);
    if (hint !== 0 && place.cause === "IN") trail.notes.push(`stage ${stage}: one of a run of contiguous entries of ${hint / 1024} KiB`);
    return { address: (output & -(1n << BigInt(shift))) | offset, pageSize: 2 ** shift, rights: 0, word, above, path };
  }
}

function invalidity(word: bigint): string {
  if ((word & Bit.VALID) === 0n) return "is not valid: nothing is mapped there";
  return "has a type that its level does not have";
}

/** 13.4: writes are looked at first. @throws Stopped */
function permit(rights: Rights, wanted: Wanted, stage: 1 | 2, cause: Cause): number {
  const allowed = wanted.privileged ? rights.privileged : rights.user;
  const denied = (what: string): Stopped =>
    new Stopped(Event.F_PERMISSION, `stage ${stage}: ${wanted.privileged ? "privileged" : "unprivileged"} ${what} is not permitted`, { controlledBy: stage, cause });
  if (wanted.write && (allowed & Right.WRITE) === 0) throw denied("write");
  if (wanted.fetch && (allowed & Right.EXECUTE) === 0) throw denied("execution");
  if (!wanted.fetch && wanted.read && (allowed & Right.READ) === 0) throw denied("read");
  return allowed;
}

// Stage 2

/** @throws Stopped */
export function translateSecond(trail: Trail, t: Translation, ipa: bigint, wanted: Wanted, place: WalkPlace): Mapped {
  const { caps } = trail.unit;
  const { ste, second } = t;
  if (second === undefined) throw new Error("no second stage");
  const { cause } = place;
  const controlled = { controlledBy: 2, cause } as const;
  if (ipa >= 1n << BigInt(second.inputBits)) throw new Stopped(Event.F_TRANSLATION, `stage 2: IPA 0x${ipa.toString(16)} has more than ${second.inputBits} bits (S2T0SZ)`, controlled);
  const leaf = walkTables(trail, second, ipa, place, (address) => address);
  if ((leaf.word & Bit.AF) === 0n && ste.S2HA === 0 && ste.S2AFFD === 0) throw new Stopped(Event.F_ACCESS, "stage 2: the access flag is 0", controlled);
  const rights = permit(stage2Rights(leaf.word, ste.S2HA === 1 && ste.S2HD === 1, caps.executeNever), wanted, 2, cause);
  if (cause !== "IN" && ste.S2PTW === 1 && isDevice(leaf.word, caps.forceWriteBack && ste.S2FWB === 1)) {
    throw new Stopped(Event.F_PERMISSION, "stage 2: a table lies in Device memory (S2PTW)", controlled);
  }
  return { ...leaf, rights };
}

/** MemAttr (D8.6.4): with S2FWB, bit 2 alone tells Device. */
function isDevice(word: bigint, forced: boolean): boolean {
  const memAttr = Number((word >> 2n) & 15n);
  return forced ? (memAttr & 4) === 0 : memAttr < 4;
}

// Stage 1

/** What has to be written back once the whole translation stands. @throws Stopped */
export type Update = () => void;

export interface FirstStage extends Mapped {
  readonly update: Update;
}

export function halfOf(t: Translation, va: bigint): Half {
  const half = t.halves?.[Number((va >> 55n) & 1n)];
  if (half === undefined) throw new Error("no first stage");
  return half;
}

export function controlsOf(trail: Trail, t: Translation): Parameters<typeof stage1Rights>[2] {
  const { caps } = trail.unit;
  const cd = t.cd ?? {};
  return {
    updatesDirty: cd.HA === 1 && cd.HD === 1, onePrivilege: t.world === World.EL2, writeNever: cd.WXN === 1, privilegedNever: cd.PAN === 1,
    privilegedNeverExecutable: caps.enhancedPan && cd.EPAN === 1,
  };
}

/** @throws Stopped */
export function translateFirst(trail: Trail, t: Translation, va: bigint, wanted: Wanted): FirstStage {
  const { cd = {} } = t;
  const controlled = { controlledBy: 1, cause: "IN" } as const;
  const half = halfOf(t, va);
  const upper = half === t.halves?.[1];
  const translation = (reason: string): Stopped => new Stopped(Event.F_TRANSLATION, `stage 1: ${reason}`, controlled);
  if (!half.enabled) throw translation(upper ? "the upper half of the input range is off (EPD1)" : "the lower half of the input range is off (EPD0)");
  const top = half.topByteIgnored ? 56 : 64;
  const sign = BigInt.asUintN(top, va) >> BigInt(half.tables.inputBits);
  if (sign !== (upper ? (1n << BigInt(top - half.tables.inputBits)) - 1n : 0n)) throw translation(`the address is not in the input range of ${half.tables.inputBits} bits (T${upper ? 1 : 0}SZ)`);
  if (half.e0pd && !wanted.privileged) throw translation(`unprivileged accesses to this half fault (E0PD${upper ? 1 : 0})`);
  const leaf = walkTables(trail, half.tables, va, { cause: "IN", context: {} }, (address, level) => through(trail, t, address, "TT", `stage 1, level ${level}`));
  if ((leaf.word & Bit.AF) === 0n && cd.HA === 0 && cd.AFFD === 0) throw new Stopped(Event.F_ACCESS, "stage 1: the access flag is 0", controlled);
  const rights = stage1Rights(leaf.word, half.flat ? 0n : leaf.above, controlsOf(trail, t));
  const allowed = permit(rights, wanted, 1, "IN");
  return { ...leaf, rights: allowed, update: () => updateTables(trail, t, leaf.path, rights.clean && wanted.write) };
}

/** Descriptors that the unit would write: stage 2 has to permit it. @throws Stopped */
function updateTables(trail: Trail, t: Translation, path: readonly Entry[], dirties: boolean): void {
  const { cd = {} } = t;
  for (const [i, { address, word }] of path.entries()) {
    const leaf = i === path.length - 1;
    const flags = cd.HA === 1 && (word & Bit.AF) === 0n && (leaf || (trail.unit.caps.httu === 3 && cd.HAFT === 1));
    if (!flags && !(leaf && dirties)) continue;
    const what = flags ? "access flag" : "dirty state";
    if (t.second !== undefined) {
      translateSecond(trail, t, address, TABLE_UPDATE, { cause: "TT", context: { depth: 1, purpose: `IPA 0x${address.toString(16)}, to write the ${what}` } });
    }
    trail.notes.push(`stage 1: the ${what} of the descriptor at 0x${address.toString(16)} would be written`);
  }
}
