/** Access permissions (Arm DDI0487 D8.4, SMMU 13.4) as six bits: read, write, execute, unprivileged in 2:0 and privileged in 5:3. */
import { Access } from "@iommukit/core";
import { Hi, Lo } from "../spec/tables.js";
import type { Capabilities } from "../spec/identification.js";
import type { Configuration } from "./configuration.js";

export const R = 1;
export const W = 2;
export const X = 4;
export const PRIVILEGED_SHIFT = 3;
export const ALL = 0o77;
export const ANY_WRITE: number = W | (W << PRIVILEGED_SHIFT);

/** Effective PRIVCFG and INSTCFG (5.2): the rows of NEEDED. */
export const NEEDED_ROWS = { privilege: 3, instruction: 3 } as const;

/**
 * Rights that an access needs, by row * 16 + bits of `Access`. Rows are PRIVCFG * 3 + INSTCFG, each 0 as it comes, 1 for
 * unprivileged or data, 2 for privileged or instruction. INSTCFG changes reads only; a fetch needs no right to read.
 */
export const NEEDED: Uint8Array = Uint8Array.from({ length: 9 * 16 }, (_, i) => {
  const { privileged, instruction, read, write } = attributes(Math.floor(i / 16), i % 16);
  const rights = instruction ? X : (read ? R : 0) | (write ? W : 0);
  return privileged ? rights << PRIVILEGED_SHIFT : rights;
});

export interface AccessAttributes {
  readonly privileged: boolean;
  readonly instruction: boolean;
  readonly read: boolean;
  readonly write: boolean;
}

/** An access after the STE's overrides, as event records show it. */
export function attributes(row: number, access: number): AccessAttributes {
  const privilege = Math.floor(row / 3);
  const kind = row % 3;
  const write = (access & Access.WRITE) !== 0;
  const fetch = (access & Access.EXECUTE) !== 0;
  return {
    privileged: privilege === 0 ? (access & Access.PRIVILEGED) !== 0 : privilege === 2,
    instruction: !write && (kind === 0 ? fetch : kind === 2),
    read: (access & Access.READ) !== 0,
    write,
  };
}

/**
 * Stage 1 (D8.4.1). What a dirty-state update could grant counts as granted: see `withoutUpdates`.
 * @param tableHi OR of the high words of the tables above
 */
export function stage1Rights(c: Configuration, flat: boolean, lo: number, hi: number, tableHi: number, onePrivilege: boolean): number {
  const tables = flat ? 0 : tableHi;
  const noWrite = (tables & Hi.AP_TABLE1) !== 0;
  const writable = !noWrite && ((lo & Lo.AP2) === 0 || isClean(c.updatesDirty, hi));
  const xn = ((hi & Hi.UXN) | (tables & Hi.UXN_TABLE)) !== 0;
  if (onePrivilege) {
    const rights = R | (writable ? W : 0) | (!xn && !(c.writeNever && writable) ? X : 0);
    return rights | (rights << PRIVILEGED_SHIFT);
  }
  const user = (lo & Lo.AP1) !== 0 && (tables & Hi.AP_TABLE0) === 0;
  const userWrite = user && writable;
  const userExecute = !xn && !(c.writeNever && userWrite);
  const pxn = ((hi & Hi.PXN) | (tables & Hi.PXN_TABLE)) !== 0;
  const privilegedExecute = !pxn && !userWrite && !(c.writeNever && writable);
  // PAN takes data accesses to what the unprivileged can read, and with EPAN also to what they can execute.
  const never = c.privilegedNever && (user || (c.privilegedNeverExecutable && userExecute));
  const unprivileged = (user ? R : 0) | (userWrite ? W : 0) | (userExecute ? X : 0);
  const privileged = (never ? 0 : R | (writable ? W : 0)) | (privilegedExecute ? X : 0);
  return unprivileged | (privileged << PRIVILEGED_SHIFT);
}

/** Stage 2 (D8.4.2). @param executeNever two XN bits (XNX) instead of one */
export function stage2Rights(updatesDirty: boolean, executeNever: boolean, lo: number, hi: number): number {
  const writable = (lo & Lo.S2W) !== 0 || isClean(updatesDirty, hi);
  const data = ((lo & Lo.S2R) !== 0 ? R : 0) | (writable ? W : 0);
  const never = (hi & Hi.S2XN1) !== 0;
  const split = executeNever && (hi & Hi.S2XN0) !== 0;
  // XN[1:0]: 00 both may, 01 unprivileged only, 10 none, 11 privileged only.
  const user = never ? 0 : X;
  const privileged = never === split ? X : 0;
  return data | user | ((data | privileged) << PRIVILEGED_SHIFT);
}

/** Rights of a leaf as it stands, with no update to be made. */
export function withoutUpdates(rights: number, mustDirty: boolean): number {
  return mustDirty ? rights & ~ANY_WRITE : rights;
}

/** A writable leaf that was not written: dirty state is in AP[2] or S2AP[1] (D8.5.3). */
function isClean(updatesDirty: boolean, hi: number): boolean {
  return updatesDirty && (hi & Hi.DBM) !== 0;
}

/** nT (bit 16 of a block) counts with BBML=1: BBML=2 ignores it, and before there is no such bit. */
export function isTransient(level: number, lo: number, caps: Capabilities): boolean {
  return level > 0 && caps.breakBeforeMake === 1 && (lo & Lo.NT) !== 0;
}
