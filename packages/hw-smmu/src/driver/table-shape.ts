/** What tables a unit's domains have: as many address bits as it can translate with a granule, and where walks start (SMMU 3.4, DDI0487 D8.2). */
import { type PageTableFormat, refuse } from "@iommukit/core";
import type { Capabilities } from "../spec/identification.js";
import { COMMAND_GRANULES, GRANULE_SHIFTS, stage1TopLevel, stage2StartBits, stage2TopLevel, vmsaFormat } from "../spec/tables.js";

export interface TableShape {
  readonly format: PageTableFormat;
  /** As TG0 and S2TG say it. */
  readonly granule: number;
  readonly inputBits: number;
  readonly outputBits: number;
  /** LPA2: 52-bit addresses in tables of 4K or 16K (DS, S2DS). */
  readonly ds: boolean;
  readonly topLevel: number;
  /** Start tables side by side, of stage 2. */
  readonly startTables: number;
}

const NARROW = 48;
const WIDE = 52;
const GRANULE_64K = 1;
/** By TG0, from the best for a host of 4 KiB pages on. */
const PREFERRED = [0, 2, GRANULE_64K] as const;
/**
 * Least output address size with which stage 2 may start at a level (D8.2.8), by granule and level: with a smaller one, or without LPA2 where that
 * has the level, tables lie side by side a level below instead.
 */
const LEAST_SIZES: readonly (readonly number[])[] = [[0, 0, 0, 44, WIDE], [0, 0, 44], [0, 0, 42, WIDE]];

/** The granule that is asked for, in bytes, or the unit's best. @throws IommuError EINVAL, ENODEV */
export function chooseGranule(caps: Capabilities, name: string, bytes: number | undefined): number {
  if (!caps.aarch64 || (!caps.stage1 && !caps.stage2)) return refuse("ENODEV", `${name} has no AArch64 tables, which this driver needs`, { rule: "IDR0.TTF" });
  const offered = PREFERRED.filter((granule) => caps.granules[granule]);
  const chosen = bytes === undefined ? offered[0] : offered.find((granule) => 2 ** GRANULE_SHIFTS[granule] === bytes);
  if (chosen !== undefined) return chosen;
  return bytes === undefined
    ? refuse("ENODEV", `${name} has no granule`, { rule: "IDR5.GRAN4K, GRAN16K, GRAN64K" })
    : refuse("EINVAL", `${name} has no granule of ${bytes / 1024}K (IDR5)`, { argument: "granule" });
}

/** 52-bit output addresses, which need LPA2 for all granules but 64K. */
function isWide(caps: Capabilities, granule: number): boolean {
  return caps.oas >= WIDE && (granule === GRANULE_64K || caps.ds);
}

export function outputBitsOf(caps: Capabilities, granule: number): number {
  return Math.min(caps.oas, isWide(caps, granule) ? WIDE : NARROW);
}

/** Of the lower half of stage 1. */
export function stage1Shape(caps: Capabilities, granule: number): TableShape {
  const ds = granule !== GRANULE_64K && isWide(caps, granule);
  const inputBits = caps.vax >= 1 && (granule === GRANULE_64K || ds) ? WIDE : NARROW;
  return { ...common(caps, granule, ds), inputBits, topLevel: stage1TopLevel(granule, inputBits), startTables: 1 };
}

export function stage2Shape(caps: Capabilities, granule: number): TableShape {
  const ds = granule !== GRANULE_64K && isWide(caps, granule);
  const inputBits = outputBitsOf(caps, granule);
  const highest = stage1TopLevel(granule, inputBits);
  const topLevel = inputBits >= LEAST_SIZES[granule][highest] ? highest : highest - 1;
  const shift = GRANULE_SHIFTS[granule];
  const above = topLevel === highest ? 0 : inputBits - (shift + (shift - 3) * highest);
  return { ...common(caps, granule, ds), inputBits, topLevel, startTables: 2 ** above };
}

function common(caps: Capabilities, granule: number, ds: boolean): Pick<TableShape, "format" | "granule" | "outputBits" | "ds"> {
  const outputBits = outputBitsOf(caps, granule);
  return { format: vmsaFormat({ granule, outputBits, ds, wide: caps.oas >= WIDE }), granule, outputBits, ds };
}

/** S2SL0 and S2SL0_2 of a stage 2 that starts so. */
export function startLevelFields(caps: Capabilities, { granule, ds, topLevel, inputBits }: TableShape): { readonly S2SL0: bigint; readonly S2SL0_2: bigint } {
  for (const S2SL0_2 of [0, 1]) {
    for (let S2SL0 = 0; S2SL0 < 4; S2SL0++) {
      const fields = { S2TG: granule, S2DS: ds ? 1 : 0, S2SL0, S2SL0_2, S2T0SZ: 64 - inputBits };
      if (stage2TopLevel(fields, caps) === topLevel && stage2StartBits(fields, caps) !== undefined) return { S2SL0: BigInt(S2SL0), S2SL0_2: BigInt(S2SL0_2) };
    }
  }
  throw new Error(`no S2SL0 says level ${topLevel}`);
}

/** TG of a command. */
export const commandGranule = (granule: number): number => COMMAND_GRANULES.indexOf(granule);
