/**
 * VMSAv8-64 translation tables (Arm DDI0487 M.a D8.3; SMMU 3.4) as formats of the page-table engine, and where walks start.
 *
 * | level here | 4 | 3 | 2 | 1 | 0 |
 * | --- | --- | --- | --- | --- | --- |
 * | the manual's | -1 | 0 | 1 | 2 | 3 |
 */
import { createFormat, defineFields, type FieldRow, type FieldTable, IllegalLeaf, type PageTableFormat } from "@iommukit/core";
import type { Capabilities } from "./identification.js";
import { addressFrom, type Fields, oneOf } from "./words.js";

/** By the encoding of TG0 and S2TG; 3 is reserved. */
export const GRANULE_SHIFTS: readonly number[] = [12, 16, 14];
/** TG of a TLBI command has another encoding: from it to that of TG0. */
export const COMMAND_GRANULES: readonly number[] = [-1, 0, 2, 1];
/** The manual's level 3 is level 0 here. */
export const LAST_LEVEL = 3;

/** Bits of the low word. */
export const Lo = { VALID: 1, TABLE: 2, AP1: 0x40, AP2: 0x80, S2R: 0x40, S2W: 0x80, AF: 0x400, NG: 0x800, NT: 0x1_0000 } as const;
/** Bits of the high word. */
export const Hi = {
  DBM: 0x8_0000, CONTIGUOUS: 0x10_0000, PXN: 0x20_0000, UXN: 0x40_0000, S2XN0: 0x20_0000, S2XN1: 0x40_0000,
  PXN_TABLE: 0x800_0000, UXN_TABLE: 0x1000_0000, AP_TABLE0: 0x2000_0000, AP_TABLE1: 0x4000_0000,
} as const;

const low: readonly FieldRow[] = [[1, "valid"], [1, "type", oneOf("block", "table or page")]];
const target: readonly FieldRow[] = [[36, "OA", addressFrom(12)]];
const accessPermission = oneOf("privileged rw", "rw", "privileged r", "r");
export const STAGE1_TABLE: FieldTable = defineFields("Stage 1 table descriptor", "DDI0487 D8.3.1", 64, [
  ...low, [8, "-"], [1, "AF"], [1, "-"], ...target, [3, "-"], [8, "-"], [1, "PXNTable"], [1, "UXNTable"],
  [2, "APTable", oneOf("no effect", "no unprivileged access", "no write", "no write, no unprivileged access")], [1, "NSTable"],
]);
export const STAGE1_LEAF: FieldTable = defineFields("Stage 1 block or page descriptor", "DDI0487 D8.3.1", 64, [
  ...low, [3, "AttrIndx"], [1, "NS"], [2, "AP", accessPermission], [2, "SH"], [1, "AF"], [1, "nG"], ...target, [2, "-"], [1, "GP"], [1, "DBM"],
  [1, "Contiguous"], [1, "PXN"], [1, "UXN"], [4, "-"], [4, "PBHA"], [1, "-"],
]);
export const STAGE2_TABLE: FieldTable = defineFields("Stage 2 table descriptor", "DDI0487 D8.3.1", 64, [
  ...low, [8, "-"], [1, "AF"], [1, "-"], ...target, [16, "-"],
]);
export const STAGE2_LEAF: FieldTable = defineFields("Stage 2 block or page descriptor", "DDI0487 D8.3.1", 64, [
  ...low, [4, "MemAttr"], [2, "S2AP", oneOf("none", "r", "w", "rw")], [2, "SH"], [1, "AF"], [1, "-"], ...target, [3, "-"], [1, "DBM"],
  [1, "Contiguous"], [2, "XN"], [4, "-"], [4, "PBHA"], [1, "-"],
]);

export interface TableGeometry {
  /** `GRANULE_SHIFTS` index. */
  readonly granule: number;
  /** Output addresses at or above 2^outputBits are Address Size faults. */
  readonly outputBits: number;
  /** CD.DS, STE.S2DS: 52-bit addresses with 4K and 16K granules (LPA2). */
  readonly ds: boolean;
  /** 52-bit output addresses are implemented, which 64K descriptors hold in other bits. */
  readonly wide: boolean;
}

/** Granules with 52-bit output addresses: the low bits that hold the top ones. */
function foldedBits({ granule, ds, wide }: TableGeometry): { readonly mask: number; readonly address: number } | undefined {
  if (granule === 1) return wide ? { mask: 0xf000, address: 48 } : undefined;
  return ds ? { mask: 0x300, address: 50 } : undefined;
}

const range = (high: number, from: number): bigint => (high < from ? 0n : ((1n << BigInt(high - from + 1)) - 1n) << BigInt(from));

/** Both stages have the same form; an output address beyond `outputBits` is a reserved bit to the walker. */
export function vmsaFormat(geometry: TableGeometry): PageTableFormat {
  const { granule, outputBits, ds } = geometry;
  const granuleShift = GRANULE_SHIFTS[granule];
  const folded = foldedBits(geometry);
  const addressWidth = granule !== 1 && ds ? 50 : 48;
  let tooWide = range(addressWidth - 1, outputBits);
  if (folded !== undefined) {
    const unit = BigInt(folded.mask & -folded.mask);
    const bits = folded.mask / Number(unit);
    for (let bit = 0; bits >> bit !== 0; bit++) if (folded.address + bit >= outputBits) tooWide |= unit << BigInt(bit);
  }
  const wideBlocks = folded !== undefined;
  const blocks = [wideBlocks ? [1, 2, 3] : [1, 2], wideBlocks ? [1, 2] : [1], wideBlocks ? [1, 2] : [1]][granule];
  return createFormat({
    name: `VMSAv8-64, ${2 ** (granuleShift - 10)}K${ds && granule !== 1 ? ", LPA2" : ""}, ${outputBits}-bit addresses`,
    granuleShift,
    maxLevel: [ds ? 4 : 3, 2, 3][granule],
    presentMask: Lo.VALID,
    leafMask: Lo.TABLE,
    leafValue: 0,
    pageMask: Lo.VALID | Lo.TABLE,
    pageValue: Lo.VALID | Lo.TABLE,
    leafLevels: blocks,
    illegalLeaf: IllegalLeaf.NOT_PRESENT,
    addressWidth,
    ...(folded ? { folded } : {}),
    reserved: () => tooWide,
    tableLo: Lo.VALID | Lo.TABLE,
    pageLo: Lo.VALID | Lo.TABLE,
    blockLo: Lo.VALID,
  });
}

/** Level that a stage-1 walk of 2^inputBits bytes starts at (D8.2.7). */
export function stage1TopLevel(granule: number, inputBits: number): number {
  const shift = GRANULE_SHIFTS[granule];
  return Math.ceil((inputBits - shift) / (shift - 3)) - 1;
}

/** S2SL0 (and S2SL0_2 with LPA2) to the level of the start table; undefined where reserved (SMMU 5.2, D8.2.8). */
export function stage2TopLevel(f: Fields, caps: Capabilities): number | undefined {
  const ds = caps.ds && f.S2DS === 1;
  if (f.S2TG === 0) {
    if (ds && f.S2SL0_2 === 1) return f.S2SL0 === 0 ? 4 : undefined;
    return [1, 2, 3, caps.smallTables ? 0 : undefined][f.S2SL0];
  }
  return [0, 1, 2, f.S2TG === 2 && ds ? 3 : undefined][f.S2SL0];
}

/** Index bits of a stage-2 start table, concatenated ones counted in; undefined when S2T0SZ and the level do not fit each other. */
export function stage2StartBits(f: Fields, caps: Capabilities): number | undefined {
  const level = stage2TopLevel(f, caps);
  if (level === undefined) return undefined;
  const shift = GRANULE_SHIFTS[f.S2TG];
  const stride = shift - 3;
  const bits = 64 - f.S2T0SZ - (shift + stride * level);
  // The level that no walk of this granule starts above is never concatenated.
  const top = [4, 2, 3][f.S2TG];
  const most = level === top ? 52 - (shift + stride * top) : stride + 4;
  return bits >= 1 && bits <= most ? bits : undefined;
}

/** log2 of the bytes that a run of contiguous entries covers (D8.7.1), by granule and level; 0 where the hint means nothing. */
export const CONTIGUOUS_SHIFTS: readonly (readonly number[])[] = [[16, 25, 34, 0, 0], [21, 34, 0, 0, 0], [21, 30, 0, 0, 0]];
