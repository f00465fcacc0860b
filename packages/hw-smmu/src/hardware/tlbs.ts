/**
 * Translation caches (SMMU 3.17, 4.4, 16): one of input addresses, of stage 1 and of both stages together, and one of intermediate
 * addresses, of stage 2 alone. What an invalidation must hit is removed, and nothing else.
 *
 * | | tag A | tag B | group A | group B |
 * | --- | --- | --- | --- | --- |
 * | input | VMID, ASID | regime, ASET, global | VMID, regime, granule and level of the stage-1 leaf | ASID, global |
 * | intermediate | VMID | – | VMID, IPA, granule and level of the leaf | – |
 */
import { Iotlb, type IotlbGeometry } from "@iommukit/core";
import { World } from "../spec/illegal.js";
import { COMMAND_GRANULES, GRANULE_SHIFTS, LAST_LEVEL } from "../spec/tables.js";

const VMID = 0xffff;
const WORLD_SHIFT = 16;
const WORLD = 3 << WORLD_SHIFT;
const GRANULE_SHIFT = 18;
const GRANULE = 3 << GRANULE_SHIFT;
const LEVEL_SHIFT = 20;
const LEVEL = 7 << LEVEL_SHIFT;
const ASID = 0xffff;
const GLOBAL = 1 << 16;
/** Tag B of a global entry, which any ASID finds. */
export const GLOBAL_TAG = 8;
const ASET_TAG = 4;

/** An address is sign-extended from bit 55: what is above may be a tag (3.4.1). Pages of 4 KiB. */
const HALF_SPAN = 2 ** 44;
const SIGN = 2 ** 43;
const SIGN_EXTENSION = 2 ** 52 - HALF_SPAN;
export function canonicalPage(page: number): number {
  // A remainder of doubles is slow, and most addresses lie low.
  if (page < SIGN) return page;
  const low = page % HALF_SPAN;
  return low >= SIGN ? low + SIGN_EXTENSION : low;
}

/** An address range of a TLBI by address, and what narrows it: TG and TTL as in the command (4.4.1.1). */
export interface TlbRange {
  readonly first: number;
  readonly last: number;
  readonly granule: number;
  readonly level: number;
}

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
  return { tagA: vmid, tagB: World.IPA, groupA: vmid | (World.IPA << WORLD_SHIFT), groupB: 0 };
}

const WIDEST_SHIFT = 52;

/** An entry of another size that shares pages with 2^shift bytes around `page`. */
function overlaps(cache: Iotlb, tagA: number, tagB: number, page: number, shift: number): boolean {
  for (let wider = shift + 1; wider <= WIDEST_SHIFT; wider++) if (cache.find(tagA, tagB, page, wider) !== -1) return true;
  if (cache.find(tagA, tagB, page, shift) !== -1) return false;
  const first = page - (page % 2 ** (shift - 12));
  for (const entry of cache.entries()) {
    if (entry.tagA === tagA && entry.tagB === tagB && entry.page >= first && entry.page < first + 2 ** (shift - 12)) return true;
  }
  return false;
}

export class Tlbs {
  readonly input: Iotlb;
  readonly intermediate: Iotlb;
  /** Some global entry may be cached. */
  globals = false;
  /** Leaf sizes, by granule * 8 + level, of which pieces are cached: stage 2 had smaller pages. */
  #pieces = 0;

  /** @param conflicts entries of two sizes in one place are F_TLB_CONFLICT, not either of them (3.21.1) */
  constructor(input: IotlbGeometry, intermediate: IotlbGeometry, readonly conflicts: boolean) {
    this.input = new Iotlb(input);
    this.intermediate = new Iotlb(intermediate);
  }

  /** @param shift log2 of the bytes that both stages map alike @param level of the stage-1 leaf @param global nG = 0 in a regime with ASIDs */
  insertInput(tags: Tags, page: number, shift: number, outPage: number, rights: number, granule: number, level: number, global: boolean): void {
    const leafShift = GRANULE_SHIFTS[granule] + level * (GRANULE_SHIFTS[granule] - 3);
    if (shift < leafShift) this.#pieces |= 1 << (granule * 8 + level);
    const groupA = tags.groupA | (granule << GRANULE_SHIFT) | (level << LEVEL_SHIFT);
    if (!global) {
      this.input.insert(tags.tagA, tags.tagB, page, shift, outPage, rights, groupA, tags.groupB);
      return;
    }
    this.globals = true;
    this.input.insert(tags.tagA & ~ASID, tags.tagB | GLOBAL_TAG, page, shift, outPage, rights, groupA, GLOBAL);
  }

  insertIntermediate(vmid: number, page: number, shift: number, outPage: number, rights: number, granule: number, level: number): void {
    const groupA = vmid | (World.IPA << WORLD_SHIFT) | (granule << GRANULE_SHIFT) | (level << LEVEL_SHIFT);
    this.intermediate.insert(vmid, World.IPA, page, shift, outPage, rights, groupA, 0);
  }

  /** True where `insertInput` would lay an entry over one of another size. */
  overlapsInput(tags: Tags, page: number, shift: number, global: boolean): boolean {
    if (!this.conflicts) return false;
    return global ? overlaps(this.input, tags.tagA & ~ASID, tags.tagB | GLOBAL_TAG, page, shift) : overlaps(this.input, tags.tagA, tags.tagB, page, shift);
  }
  overlapsIntermediate(vmid: number, page: number, shift: number): boolean {
    return this.conflicts && overlaps(this.intermediate, vmid, World.IPA, page, shift);
  }

  removeAll(): number {
    this.globals = false;
    this.#pieces = 0;
    return this.input.removeAll() + this.intermediate.removeAll();
  }

  /** Everything of a regime: TLBI_EL2_ALL for both EL2 regimes. */
  removeWorld(world: number): number {
    return this.#lookForGlobals(this.input.removeWhere(WORLD, world << WORLD_SHIFT, 0, 0, 0, Infinity));
  }

  /** Everything of the Non-secure EL1 regime: TLBI_NSNH_ALL. */
  removeEl1(): number {
    return this.removeWorld(World.EL1) + this.intermediate.removeAll();
  }

  /** TLBI_NH_ALL. @param wildcard VMID bits that do not count (CR0.VMW) */
  removeVmid(vmid: number, wildcard: number): number {
    const mask = WORLD | (VMID & ~wildcard);
    return this.#lookForGlobals(this.input.removeWhere(mask, (vmid & ~wildcard) | (World.EL1 << WORLD_SHIFT), 0, 0, 0, Infinity));
  }

  /** After a whole regime went, there may be no global entries any more: look-ups need not ask for them. */
  #lookForGlobals(removed: number): number {
    if (this.globals) this.globals = [...this.input.entries()].some(({ tagB }) => (tagB & GLOBAL_TAG) !== 0);
    return removed;
  }

  /** TLBI_S12_VMALL. */
  removeVmidBothStages(vmid: number, wildcard: number): number {
    const mask = VMID & ~wildcard;
    return this.removeVmid(vmid, wildcard) + this.intermediate.removeWhere(mask, vmid & mask, 0, 0, 0, Infinity);
  }

  /** TLBI_NH_ASID, TLBI_EL2_ASID: not global entries. */
  removeAsid(world: number, vmid: number, wildcard: number, asid: number): number {
    const [mask, value] = this.#regime(world, vmid, wildcard);
    return this.input.removeWhere(mask, value, GLOBAL | ASID, asid, 0, Infinity);
  }

  /** TLBI_NH_VA, TLBI_EL2_VA: the ASID's entries and global ones; without an ASID, everyone's. */
  removeAddress(world: number, vmid: number, wildcard: number, asid: number | undefined, range: TlbRange): number {
    const [mask, value] = this.#regime(world, vmid, wildcard);
    if (asid === undefined) return this.#removeRange(mask, value, 0, 0, range);
    return this.#removeRange(mask, value, GLOBAL | ASID, asid, range) + this.#removeRange(mask, value, GLOBAL, GLOBAL, range);
  }

  /** TLBI_S2_IPA. */
  removeIntermediate(vmid: number, wildcard: number, range: TlbRange): number {
    const vmidMask = VMID & ~wildcard;
    const [mask, value] = narrowed(vmidMask, vmid & vmidMask, range);
    return this.intermediate.removeWhere(mask, value, 0, 0, range.first, range.last);
  }

  #regime(world: number, vmid: number, wildcard: number): readonly [mask: number, value: number] {
    const vmidMask = VMID & ~wildcard;
    return [WORLD | vmidMask, (world << WORLD_SHIFT) | (vmid & vmidMask)];
  }

  /** Entries in the range, and pieces of leaves that reach into it: an address invalidates its whole leaf. */
  #removeRange(maskA: number, valueA: number, maskB: number, valueB: number, range: TlbRange): number {
    const [mask, value] = narrowed(maskA, valueA, range);
    let removed = this.input.removeWhere(mask, value, maskB, valueB, range.first, range.last);
    for (let size = 0; this.#pieces >>> size !== 0; size++) {
      if (((this.#pieces >>> size) & 1) === 0) continue;
      const leaf = ((size >> 3) << GRANULE_SHIFT) | ((size & 7) << LEVEL_SHIFT);
      if ((leaf & mask & (GRANULE | LEVEL)) !== (value & (GRANULE | LEVEL))) continue;
      const shift = GRANULE_SHIFTS[size >> 3];
      const pages = 2 ** (shift + (size & 7) * (shift - 3) - 12);
      const first = Math.floor(range.first / pages) * pages;
      const last = Math.floor(range.last / pages) * pages + pages - 1;
      removed += this.input.removeWhere(mask | GRANULE | LEVEL, value | leaf, maskB, valueB, first, last);
    }
    return removed;
  }
}

/** TG and TTL of a range added to a mask over group A; -1 for none. */
function narrowed(mask: number, value: number, range: TlbRange): readonly [mask: number, value: number] {
  const granule = range.granule === -1 ? [0, 0] : [GRANULE, range.granule << GRANULE_SHIFT];
  const level = range.level === -1 ? [0, 0] : [LEVEL, range.level << LEVEL_SHIFT];
  return [mask | granule[0] | level[0], value | granule[1] | level[1]];
}

/** The range of a TLBI by address (4.4.1.1): one address when TG is 0 or the unit has no range invalidation. */
export function commandRange(
  page: number,
  fields: { readonly TG: number; readonly TTL: number; readonly NUM: number; readonly SCALE: number },
  unit: { readonly rangeInvalidation: boolean; readonly ds: boolean },
): TlbRange {
  if (!unit.rangeInvalidation || fields.TG === 0) return { first: page, last: page, granule: -1, level: -1 };
  const granule = COMMAND_GRANULES[fields.TG];
  const scale = unit.ds ? Math.min(fields.SCALE, 39) : fields.SCALE % 32;
  const granulePages = 2 ** (GRANULE_SHIFTS[granule] - 12);
  const pages = (fields.NUM + 1) * 2 ** scale * granulePages;
  const first = Math.floor(page / granulePages) * granulePages;
  // Level 1 has no blocks with 16K granules and 48-bit addresses: the hint is then none.
  const noLevel = fields.TTL === 0 || (fields.TTL === 1 && granule === 2 && !unit.ds);
  return { first, last: first + pages - 1, granule, level: noLevel ? -1 : LAST_LEVEL - fields.TTL };
}
