/** How cached translations and tables are told apart: tags that a look-up compares, groups that an invalidation selects on (see `Tlbs`). */
import { World } from "../spec/illegal.js";
import { COMMAND_GRANULES, GRANULE_SHIFTS, LAST_LEVEL } from "../spec/tables.js";

export const VMID = 0xffff;
export const WORLD_SHIFT = 16;
export const WORLD: number = 3 << WORLD_SHIFT;
export const GRANULE_SHIFT = 18;
export const GRANULE: number = 3 << GRANULE_SHIFT;
export const LEVEL_SHIFT = 20;
export const LEVEL: number = 7 << LEVEL_SHIFT;
export const ASID = 0xffff;
export const GLOBAL: number = 1 << 16;
/** Tag B of a global entry, which any ASID finds. */
export const GLOBAL_TAG = 8;
const ASET_TAG = 4;

export interface Tags {
  readonly tagA: number;
  readonly tagB: number;
  readonly groupA: number;
  readonly groupB: number;
}

export function inputTags(world: number, vmid: number, asid: number, aset: number): Tags {
  return { tagA: (vmid << 16) | asid, tagB: world | (aset === 1 ? ASET_TAG : 0), groupA: vmid | (world << WORLD_SHIFT), groupB: asid };
}
export function intermediateTags(vmid: number): Tags {
  return { tagA: vmid, tagB: World.IPA, groupA: intermediateGroup(vmid), groupB: 0 };
}
/** Group A of what is cached of intermediate addresses. */
export function intermediateGroup(vmid: number): number {
  return vmid | (World.IPA << WORLD_SHIFT);
}

/** Entries with (group & mask) === value. */
export type GroupMask = readonly [mask: number, value: number];
export const ANY: GroupMask = [0, 0];

/** An address range of a TLBI by address, and what narrows it: TG and TTL as in the command (4.4.1.1), -1 for none. */
export interface TlbRange {
  readonly first: number;
  readonly last: number;
  readonly granule: number;
  readonly level: number;
  /** Leaf: descriptors of tables stay. */
  readonly leafOnly: boolean;
}

/** TG and TTL of a range added to a mask over group A. */
export function narrowed([mask, value]: GroupMask, range: TlbRange): GroupMask {
  const granule = range.granule === -1 ? ANY : [GRANULE, range.granule << GRANULE_SHIFT];
  const level = range.level === -1 ? ANY : [LEVEL, range.level << LEVEL_SHIFT];
  return [mask | granule[0] | level[0], value | granule[1] | level[1]];
}

/** The range of a TLBI by address (4.4.1.1): one address when TG is 0 or the unit has no range invalidation. */
export function commandRange(
  page: number,
  fields: { readonly TG: number; readonly TTL: number; readonly NUM: number; readonly SCALE: number; readonly Leaf: number },
  unit: { readonly rangeInvalidation: boolean; readonly ds: boolean },
): TlbRange {
  const leafOnly = fields.Leaf === 1;
  if (!unit.rangeInvalidation || fields.TG === 0) return { first: page, last: page, granule: -1, level: -1, leafOnly };
  const granule = COMMAND_GRANULES[fields.TG];
  const scale = unit.ds ? Math.min(fields.SCALE, 39) : fields.SCALE % 32;
  const granulePages = 2 ** (GRANULE_SHIFTS[granule] - 12);
  const pages = (fields.NUM + 1) * 2 ** scale * granulePages;
  const first = Math.floor(page / granulePages) * granulePages;
  // Level 1 has no blocks with 16K granules and 48-bit addresses: the hint is then none.
  const noLevel = fields.TTL === 0 || (fields.TTL === 1 && granule === 2 && !unit.ds);
  return { first, last: first + pages - 1, granule, level: noLevel ? -1 : LAST_LEVEL - fields.TTL, leafOnly };
}
