/**
 * First-stage and second-stage paging entries, one table for each level and
 * kind (VT-d 9.7, 9.8). What depends on the unit (addresses above HAW, sizes of
 * large pages, SNP, IR and IW) is in `conditions.ts`.
 */
import { defineFields, type FieldRow, type FieldTable } from "@iommukit/core";
import { flag, pageAddress } from "./meanings.js";

const FIRST = "VT-d 9.7";
const SECOND = "VT-d 9.8";

const present = flag("present", "not present");
const frame = (shift: number) => (value: bigint): string | undefined => (value === 0n ? undefined : `at 0x${(value << BigInt(shift)).toString(16)}`);
const table = flag("a large page", "a table");

/** Bits 6:0 of a first-stage entry that points to a table. */
const FS_TABLE_LOW: readonly FieldRow[] = [
  [1, "P", present], [1, "R/W", flag("writable", "read-only")], [1, "U/S", flag("user", "privileged only")], [2, "-"], [1, "A", flag("accessed")], [1, "-"],
];
/** Bits 6:0 of a first-stage leaf. */
const FS_LEAF_LOW: readonly FieldRow[] = [
  [1, "P", present], [1, "R/W", flag("writable", "read-only")], [1, "U/S", flag("user", "privileged only")], [1, "PWT"], [1, "PCD"],
  [1, "A", flag("accessed")], [1, "D", flag("dirty")],
];
/** Bits 11:8; G is treated as 0. */
const FS_ATTRIBUTES: readonly FieldRow[] = [[2, "-"], [1, "EA", flag("extended accessed")], [1, "-"]];
const FS_TOP: readonly FieldRow[] = [...FS_TABLE_LOW, [1, ""], ...FS_ATTRIBUTES, [40, "ADDR", pageAddress], [12, "-"]];
const FS_MIDDLE: readonly FieldRow[] = [...FS_TABLE_LOW, [1, "PS", table], ...FS_ATTRIBUTES, [40, "ADDR", pageAddress], [12, "-"]];

export const FS_PML5E: FieldTable = defineFields("FS-PML5E", FIRST, 64, FS_TOP);
export const FS_PML4E: FieldTable = defineFields("FS-PML4E", FIRST, 64, FS_TOP);
export const FS_PDPE: FieldTable = defineFields("FS-PDPE", FIRST, 64, FS_MIDDLE);
export const FS_PDE: FieldTable = defineFields("FS-PDE", FIRST, 64, FS_MIDDLE);
export const FS_PDPE_1G: FieldTable = defineFields("FS-PDPE (1 GiB page)", FIRST, 64, [
  ...FS_LEAF_LOW, [1, "PS", table], ...FS_ATTRIBUTES, [1, "PAT"], [17, ""], [22, "ADDR", frame(30)], [12, "-"],
]);
export const FS_PDE_2M: FieldTable = defineFields("FS-PDE (2 MiB page)", FIRST, 64, [
  ...FS_LEAF_LOW, [1, "PS", table], ...FS_ATTRIBUTES, [1, "PAT"], [8, ""], [31, "ADDR", frame(21)], [12, "-"],
]);
export const FS_PTE: FieldTable = defineFields("FS-PTE", FIRST, 64, [...FS_LEAF_LOW, [1, "PAT"], ...FS_ATTRIBUTES, [40, "ADDR", pageAddress], [12, "-"]]);

const SS_RIGHTS: readonly FieldRow[] = [[1, "R", flag("readable")], [1, "W", flag("writable")]];
/** Bits 63:52; with RTADDR.SSIRWE the rights are IR and IW. */
const SS_HIGH: readonly FieldRow[] = [[9, "-"], [1, "IR", flag("readable, when RTADDR.SSIRWE is set")], [1, "IW", flag("writable, when RTADDR.SSIRWE is set")], [1, "-"]];
const SS_LEAF_LOW: readonly FieldRow[] = [...SS_RIGHTS, [1, "-"], [3, "EMT"], [1, "IPAT"]];
const SS_LEAF_FLAGS: readonly FieldRow[] = [[1, "A", flag("accessed")], [1, "D", flag("dirty")], [1, "-"], [1, "SNP", flag("snooped")]];
const SS_TOP: readonly FieldRow[] = [...SS_RIGHTS, [5, "-"], [1, ""], [1, "A", flag("accessed")], [2, "-"], [1, ""], [40, "ADDR", pageAddress], ...SS_HIGH];
const SS_MIDDLE: readonly FieldRow[] = [...SS_RIGHTS, [5, "-"], [1, "PS", table], [1, "A", flag("accessed")], [2, "-"], [1, ""], [40, "ADDR", pageAddress], ...SS_HIGH];

export const SS_PML5E: FieldTable = defineFields("SS-PML5E", SECOND, 64, SS_TOP);
export const SS_PML4E: FieldTable = defineFields("SS-PML4E", SECOND, 64, SS_TOP);
export const SS_PDPE: FieldTable = defineFields("SS-PDPE", SECOND, 64, SS_MIDDLE);
export const SS_PDE: FieldTable = defineFields("SS-PDE", SECOND, 64, SS_MIDDLE);
export const SS_PDPE_1G: FieldTable = defineFields("SS-PDPE (1 GiB page)", SECOND, 64, [
  ...SS_LEAF_LOW, [1, "PS", table], ...SS_LEAF_FLAGS, [18, ""], [22, "ADDR", frame(30)], ...SS_HIGH,
]);
export const SS_PDE_2M: FieldTable = defineFields("SS-PDE (2 MiB page)", SECOND, 64, [
  ...SS_LEAF_LOW, [1, "PS", table], ...SS_LEAF_FLAGS, [9, ""], [31, "ADDR", frame(21)], ...SS_HIGH,
]);
export const SS_PTE: FieldTable = defineFields("SS-PTE", SECOND, 64, [...SS_LEAF_LOW, [1, "-"], ...SS_LEAF_FLAGS, [40, "ADDR", pageAddress], ...SS_HIGH]);

/** By level: level 0 is the PTE. `large` only where PS makes a leaf. */
export interface PagingLevel {
  readonly table: FieldTable;
  readonly large?: FieldTable;
}

export const FIRST_STAGE_LEVELS: readonly PagingLevel[] = [
  { table: FS_PTE }, { table: FS_PDE, large: FS_PDE_2M }, { table: FS_PDPE, large: FS_PDPE_1G }, { table: FS_PML4E }, { table: FS_PML5E },
];
export const SECOND_STAGE_LEVELS: readonly PagingLevel[] = [
  { table: SS_PTE }, { table: SS_PDE, large: SS_PDE_2M }, { table: SS_PDPE, large: SS_PDPE_1G }, { table: SS_PML4E }, { table: SS_PML5E },
];

const permissions = (value: bigint): string | undefined => {
  const granted = Array.from({ length: 8 }, (_, i) => ["--", "r-", "-w", "rw"][Number((value >> BigInt(4 * i)) & 3n)]);
  return value === 0n ? undefined : granted.join(" ");
};
/** Page permissions of a host permission entry: 4 bits each, R, W and two that are reserved; lowest page first. */
const HPT_SECTION = "VT-d 9 (host permission table)";
const HPT_NEXT: readonly FieldRow[] = [[1, "AV", flag("the address of the next table is valid")], [11, ""], [52, "ADDR", pageAddress]];

export const HPT_L4E: FieldTable = defineFields("HPT level 4 entry", HPT_SECTION, 128, [[64, ""], ...HPT_NEXT]);
export const HPT_L3E: FieldTable = defineFields("HPT level 3 entry", HPT_SECTION, 128, [[32, "PP", permissions], [32, ""], ...HPT_NEXT]);
export const HPT_L2E: FieldTable = defineFields("HPT level 2 entry", HPT_SECTION, 128, [[32, "PP0_7", permissions], [32, "PP8_15", permissions], ...HPT_NEXT]);
export const HPT_L1E: FieldTable = defineFields("HPT level 1 entry", HPT_SECTION, 128, [
  [32, "PP0_7", permissions], [32, "PP8_15", permissions], [32, "PP16_23", permissions], [32, "PP24_31", permissions],
]);
