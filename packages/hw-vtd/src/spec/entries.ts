/**
 * Root, context and PASID structures. Intel VT-d Rev 5.10, section 9.
 * Pointers are host-physical page numbers (bits 63:12). A field that a unit
 * lacks the capability for is reserved: `conditions.ts` says which.
 */
import { defineFields, type FieldTable } from "@iommukit/core";
import { flag, oneOf, pageAddress } from "./meanings.js";

const present = flag("present", "not present");
const faultDisable = flag("faults that qualify are not recorded");
const translationType = oneOf("second stage, untranslated requests only", "second stage, device-TLB allowed", "pass-through");
const addressWidth = oneOf("", "39 bits, 3 levels", "48 bits, 4 levels", "57 bits, 5 levels");
const pgtt = oneOf("", "first stage", "second stage", "nested", "pass-through");
const pagingMode = oneOf("4-level", "5-level");
const hostPermissionSize = oneOf("4 KiB, addresses below 2^49", "8 KiB, addresses below 2^50", "16 KiB, addresses below 2^51", "32 KiB, addresses below 2^52");
const MEMORY_TYPES: Readonly<Record<number, string>> = { 0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB", 7: "UC-" };

/** PA0 first. */
function pat(value: bigint): string | undefined {
  if (value === 0n) return undefined;
  return Array.from({ length: 8 }, (_, i) => MEMORY_TYPES[Number((value >> BigInt(4 * i)) & 15n)] ?? "reserved").join(" ");
}

export const LEGACY_ROOT_ENTRY: FieldTable = defineFields("Root entry", "VT-d 9.1", 128, [
  [1, "P", present], [11, ""], [52, "CTP", pageAddress], [64, ""],
]);

export const SCALABLE_ROOT_ENTRY: FieldTable = defineFields("Scalable-mode root entry", "VT-d 9.2", 128, [
  [1, "LP", flag("devfn 00-7f present", "devfn 00-7f not present")], [11, ""], [52, "LCTP", pageAddress],
  [1, "UP", flag("devfn 80-ff present", "devfn 80-ff not present")], [11, ""], [52, "UCTP", pageAddress],
]);

export const LEGACY_CONTEXT_ENTRY: FieldTable = defineFields("Context entry", "VT-d 9.3", 128, [
  [1, "P", present], [1, "FPD", faultDisable], [2, "TT", translationType], [8, ""], [52, "SSPTPTR", pageAddress],
  [3, "AW", addressWidth], [4, "-"], [1, ""], [16, "DID"], [40, ""],
]);

export const SCALABLE_CONTEXT_ENTRY: FieldTable = defineFields("Scalable-mode context entry", "VT-d 9.4", 256, [
  [1, "P", present], [1, "FPD", faultDisable], [1, "DTE", flag("device-TLB enabled")], [1, "PASIDE", flag("requests with PASID allowed")],
  [1, "PRE", flag("page requests allowed")], [1, "HPTE", flag("host permission table checked")], [1, "EPTR", flag("translated requests may carry a PASID")], [2, ""],
  [3, "PDTS", (value) => `${2n ** (value + 7n)} directory entries, PASIDs below 0x${(2n ** (value + 13n)).toString(16)}`], [52, "PASIDDIRPTR", pageAddress],
  [20, "RID_PASID"], [1, "RID_PRIV", flag("requests without PASID are privileged")], [43, ""], [128, ""],
]);

export const PASID_DIRECTORY_ENTRY: FieldTable = defineFields("PASID directory entry", "VT-d 9.5", 64, [
  [1, "P", present], [1, "FPD", faultDisable], [10, ""], [52, "SMPTBLPTR", pageAddress],
]);

export const PASID_TABLE_ENTRY: FieldTable = defineFields("PASID table entry", "VT-d 9.6", 512, [
  [1, "P", present], [1, "FPD", faultDisable], [3, "AW", addressWidth], [1, ""], [3, "PGTT", pgtt],
  [1, "SSADE", flag("second stage keeps accessed and dirty flags")], [2, ""], [52, "SSPTPTR", pageAddress],
  [16, "DID"], [7, ""], [1, "PWSNP", flag("page walks are snooped")], [1, "PGSNP", flag("page accesses are snooped")], [1, "CD", flag("caching disabled")],
  [1, "EMTE", flag("EMT of the second stage counts")], [5, ""], [32, "PAT", pat],
  [1, "SRE", flag("privileged requests allowed")], [1, ""], [2, "FSPM", pagingMode], [1, "WPE", flag("write protection holds for privileged requests")], [2, "-"],
  [1, "EAFE", flag("extended accessed flag is kept")], [4, ""], [52, "FSPTPTR", pageAddress],
  [64, ""],
  [2, "HPTSZ", hostPermissionSize], [1, "HPTPFD", flag("no prefetch of host permissions")], [9, ""], [52, "HPTPTR", pageAddress],
  [16, "HPTDID"], [48, ""], [128, ""],
]);

/** PGTT values (9.6). */
export const Pgtt = { FIRST_STAGE: 1, SECOND_STAGE: 2, NESTED: 3, PASS_THROUGH: 4 } as const;

/** TTM values of RTADDR (11.4.5). */
export const TranslationTableMode = { LEGACY: 0, SCALABLE: 1, RESERVED: 2, ABORT: 3 } as const;
