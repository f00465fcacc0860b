/** Descriptors of VMSAv8-64 tables (Arm DDI0487 D8.3, D8.4): what one says by itself. */
import type { FieldTable } from "@iommukit/core";
import { Right } from "@iommukit/core/decode";
import { CONTIGUOUS_SHIFTS, GRANULE_SHIFTS, LAST_LEVEL, STAGE1_LEAF, STAGE1_TABLE, STAGE2_LEAF, STAGE2_TABLE } from "../spec/tables.js";
import type { Tables } from "./locate.js";

/** Bits of a descriptor. */
type BitName = "VALID" | "TABLE" | "AP1" | "AP2" | "S2R" | "S2W" | "AF" | "DBM" | "CONTIGUOUS" | "PXN" | "UXN" | "PXN_TABLE" | "UXN_TABLE" | "AP_TABLE0" | "AP_TABLE1";
export const Bit: Readonly<Record<BitName, bigint>> = {
  VALID: 1n, TABLE: 2n, AP1: 1n << 6n, AP2: 1n << 7n, S2R: 1n << 6n, S2W: 1n << 7n, AF: 1n << 10n, DBM: 1n << 51n, CONTIGUOUS: 1n << 52n,
  PXN: 1n << 53n, UXN: 1n << 54n, PXN_TABLE: 1n << 59n, UXN_TABLE: 1n << 60n, AP_TABLE0: 1n << 61n, AP_TABLE1: 1n << 62n,
};

export type DescriptorKind = "invalid" | "table" | "leaf";

/** log2 of the bytes that an entry of a level covers. */
export function levelShift(granule: number, level: number): number {
  const shift = GRANULE_SHIFTS[granule];
  return shift + (shift - 3) * (LAST_LEVEL - level);
}

/** @param wide 52-bit addresses are implemented */
export function descriptorKind({ granule, ds }: Tables, wide: boolean, level: number, word: bigint): DescriptorKind {
  if ((word & Bit.VALID) === 0n) return "invalid";
  const type = (word & Bit.TABLE) !== 0n;
  if (level === LAST_LEVEL) return type ? "leaf" : "invalid";
  if (type) return "table";
  return blockLevels(granule, ds, wide).includes(level) ? "leaf" : "invalid";
}

function blockLevels(granule: number, ds: boolean, wide: boolean): readonly number[] {
  if (granule === 0) return ds ? [0, 1, 2] : [1, 2];
  const both = granule === 1 ? wide : ds;
  return both ? [1, 2] : [2];
}

/** Address of the next table, or of the page or block. */
export function outputAddress({ granule, ds }: Tables, wide: boolean, word: bigint): bigint {
  const low = word & 0xffff_ffff_ffffn & -(1n << BigInt(GRANULE_SHIFTS[granule]));
  if (granule === 1) return wide ? low | (((word >> 12n) & 15n) << 48n) : low;
  return ds ? low | (((word >> 48n) & 3n) << 48n) | (((word >> 8n) & 3n) << 50n) : low;
}

export function descriptorTable(stage: 1 | 2, kind: DescriptorKind, level: number): FieldTable {
  const leaf = kind === "leaf" || (kind === "invalid" && level === LAST_LEVEL);
  if (stage === 1) return leaf ? STAGE1_LEAF : STAGE1_TABLE;
  return leaf ? STAGE2_LEAF : STAGE2_TABLE;
}

/** Bytes that software says are mapped alike around a leaf with the contiguous hint; 0 without. */
export function contiguousBytes(granule: number, level: number, word: bigint): number {
  const shift = (word & Bit.CONTIGUOUS) === 0n ? 0 : CONTIGUOUS_SHIFTS[granule][LAST_LEVEL - level] ?? 0;
  return shift === 0 ? 0 : 2 ** shift;
}

export interface Stage1Controls {
  /** Both HA and HD: a write makes a clean leaf dirty. */
  readonly updatesDirty: boolean;
  readonly onePrivilege: boolean;
  /** WXN */
  readonly writeNever: boolean;
  /** PAN */
  readonly privilegedNever: boolean;
  /** PAN counts executable pages in (EPAN). */
  readonly privilegedNeverExecutable: boolean;
}

export interface Rights {
  readonly user: number;
  readonly privileged: number;
  /** A write has to update the leaf first. */
  readonly clean: boolean;
}

/** @param above OR of the table descriptors on the way, 0 where they do not count */
export function stage1Rights(word: bigint, above: bigint, c: Stage1Controls): Rights {
  const has = (mask: bigint): boolean => (word & mask) !== 0n;
  const clean = c.updatesDirty && has(Bit.DBM) && has(Bit.AP2);
  const writable = (above & Bit.AP_TABLE1) === 0n && (!has(Bit.AP2) || clean);
  const executable = !has(Bit.UXN) && (above & Bit.UXN_TABLE) === 0n;
  if (c.onePrivilege) {
    const rights = rightsOf(true, writable, executable && !(c.writeNever && writable));
    return { user: rights, privileged: rights, clean };
  }
  const userRead = has(Bit.AP1) && (above & Bit.AP_TABLE0) === 0n;
  const userWrite = userRead && writable;
  const userExecute = executable && !(c.writeNever && userWrite);
  const denied = c.privilegedNever && (userRead || (c.privilegedNeverExecutable && userExecute));
  const privilegedExecute = !has(Bit.PXN) && (above & Bit.PXN_TABLE) === 0n && !userWrite && !(c.writeNever && writable);
  return { user: rightsOf(userRead, userWrite, userExecute), privileged: rightsOf(!denied, writable && !denied, privilegedExecute), clean };
}

/** @param updatesDirty S2HA and S2HD @param executeNever two XN bits (XNX) */
export function stage2Rights(word: bigint, updatesDirty: boolean, executeNever: boolean): Rights {
  const has = (mask: bigint): boolean => (word & mask) !== 0n;
  const clean = updatesDirty && has(Bit.DBM) && !has(Bit.S2W);
  const never = has(Bit.UXN);
  const split = executeNever && has(Bit.PXN);
  const data = (execute: boolean): number => rightsOf(has(Bit.S2R), has(Bit.S2W) || clean, execute);
  return { user: data(!never), privileged: data(never === split), clean };
}

function rightsOf(read: boolean, write: boolean, execute: boolean): number {
  return (read ? Right.READ : 0) | (write ? Right.WRITE : 0) | (execute ? Right.EXECUTE : 0);
}
