/**
 * Root, context and PASID structures. Intel VT-d Rev 5.10, section 9.
 * Pointers are host-physical page numbers (bits 63:12). A field that a unit
 * lacks the capability for is reserved: `capability` says which.
 */
import { defineFields, type FieldTable } from "@iommukit/core";

const translationType = (value: bigint): string =>
  ["second stage, untranslated requests only", "second stage, device-TLB allowed", "pass-through", "reserved"][Number(value)];
const addressWidth = (value: bigint): string =>
  ["reserved", "39 bits, 3 levels", "48 bits, 4 levels", "57 bits, 5 levels"][Number(value)] ?? "reserved";
const pgtt = (value: bigint): string =>
  ["reserved", "first stage", "second stage", "nested", "pass-through"][Number(value)] ?? "reserved";
const pagingMode = (value: bigint): string => ["4-level", "5-level"][Number(value)] ?? "reserved";
const address = (value: bigint): string | undefined => (value === 0n ? undefined : `at 0x${(value << 12n).toString(16)}`);

export const LEGACY_ROOT_ENTRY: FieldTable = defineFields("Root entry", "VT-d 9.1", 128, [
  [1, "P"], [11, ""], [52, "CTP", address], [64, ""],
]);

export const SCALABLE_ROOT_ENTRY: FieldTable = defineFields("Scalable-mode root entry", "VT-d 9.2", 128, [
  [1, "LP"], [11, ""], [52, "LCTP", address],
  [1, "UP"], [11, ""], [52, "UCTP", address],
]);

export const LEGACY_CONTEXT_ENTRY: FieldTable = defineFields("Context entry", "VT-d 9.3", 128, [
  [1, "P"], [1, "FPD"], [2, "TT", translationType], [8, ""], [52, "SSPTPTR", address],
  [3, "AW", addressWidth], [4, "-"], [1, ""], [16, "DID"], [40, ""],
]);

export const SCALABLE_CONTEXT_ENTRY: FieldTable = defineFields("Scalable-mode context entry", "VT-d 9.4", 256, [
  [1, "P"], [1, "FPD"], [1, "DTE"], [1, "PASIDE"], [1, "PRE"], [1, "HPTE"], [1, "EPTR"], [2, ""],
  [3, "PDTS", (value) => `${2n ** (value + 7n)} directory entries`], [52, "PASIDDIRPTR", address],
  [20, "RID_PASID"], [1, "RID_PRIV"], [43, ""], [128, ""],
]);

export const PASID_DIRECTORY_ENTRY: FieldTable = defineFields("PASID directory entry", "VT-d 9.5", 64, [
  [1, "P"], [1, "FPD"], [10, ""], [52, "SMPTBLPTR", address],
]);

export const PASID_TABLE_ENTRY: FieldTable = defineFields("PASID table entry", "VT-d 9.6", 512, [
  [1, "P"], [1, "FPD"], [3, "AW", addressWidth], [1, ""], [3, "PGTT", pgtt], [1, "SSADE"], [2, ""], [52, "SSPTPTR", address],
  [16, "DID"], [7, ""], [1, "PWSNP"], [1, "PGSNP"], [1, "CD"], [1, "EMTE"], [5, ""], [32, "PAT"],
  [1, "SRE"], [1, ""], [2, "FSPM", pagingMode], [1, "WPE"], [2, "-"], [1, "EAFE"], [4, ""], [52, "FSPTPTR", address],
  [64, ""],
  [2, "HPTSZ"], [1, "HPTPFD"], [9, ""], [52, "HPTPTR", address],
  [16, "HPTDID"], [48, ""], [128, ""],
]);

/** PGTT values (9.6). */
export const Pgtt = { FIRST_STAGE: 1, SECOND_STAGE: 2, NESTED: 3, PASS_THROUGH: 4 } as const;

/** TTM values of RTADDR (11.4.5). */
export const TranslationTableMode = { LEGACY: 0, SCALABLE: 1, RESERVED: 2, ABORT: 3 } as const;
