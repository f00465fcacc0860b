/**
 * Translation caches (SMMU 3.17, 4.4, 16): one of input addresses, of stage 1 and of both stages together, and one of intermediate
 * addresses, of stage 2 alone; and the walk caches of both. What an invalidation must hit is removed, and nothing else.
 *
 * | | tag A | tag B | group A | group B |
 * | --- | --- | --- | --- | --- |
 * | input | VMID, ASID | regime, ASET, global | VMID, regime, granule and level of the stage-1 leaf | ASID, global |
 * | intermediate | VMID | – | VMID, IPA, granule and level of the leaf | – |
 */
import { Iotlb } from "@iommukit/core";
import { World } from "../spec/illegal.js";
import { CONTIGUOUS_SHIFTS, GRANULE_SHIFTS, Hi } from "../spec/tables.js";
import { TableCache } from "./table-cache.js";
import {
  ANY, ASID, GLOBAL, GLOBAL_TAG, GRANULE, GRANULE_SHIFT, type GroupMask, intermediateGroup, LEVEL, LEVEL_SHIFT, narrowed, type Tags, type TlbRange, VMID, WORLD, WORLD_SHIFT,
} from "./tlb-groups.js";
import type { CacheGeometry } from "./unit.js";

const NONE = { sets: 0, ways: 1 };

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
  /** Tables of stage 1, and of stage 2. */
  readonly inputTables: TableCache;
  readonly intermediateTables: TableCache;
  /** Some global entry may be cached. */
  globals = false;
  /** Leaf sizes, by granule * 8 + level, of which pieces are cached: stage 2 had smaller pages. */
  #pieces = 0;

  /**
   * @param conflicts entries of two sizes in one place are F_TLB_CONFLICT, not either of them (3.21.1)
   * @param contiguous a leaf with the contiguous hint is cached as its whole run
   */
  constructor(geometry: CacheGeometry, readonly conflicts: boolean, readonly contiguous: boolean) {
    this.input = new Iotlb(geometry.input);
    this.intermediate = new Iotlb(geometry.intermediate);
    this.inputTables = new TableCache(geometry.inputTables ?? NONE);
    this.intermediateTables = new TableCache(geometry.intermediateTables ?? NONE);
  }

  /**
   * log2 of the bytes that one entry holds of a leaf: its own, or with the contiguous hint those of its run (DDI0487 D8.7.1), as this leaf alone
   * says. A run that leaves the input range, or in which the output lies elsewhere than the input, is none.
   * @param range pages of the input range
   */
  leafShift(granule: number, level: number, hi: number, page: number, outPage: number, range: number): number {
    const own = GRANULE_SHIFTS[granule] + level * (GRANULE_SHIFTS[granule] - 3);
    const run = this.contiguous && (hi & Hi.CONTIGUOUS) !== 0 ? CONTIGUOUS_SHIFTS[granule][level] : 0;
    if (run === 0) return own;
    const pages = 2 ** (run - 12);
    return pages <= range && page % pages === outPage % pages ? run : own;
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
    const groupA = intermediateGroup(vmid) | (granule << GRANULE_SHIFT) | (level << LEVEL_SHIFT);
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
    return this.input.removeAll() + this.inputTables.removeAll() + this.#removeIntermediate();
  }

  #removeIntermediate(): number {
    return this.intermediate.removeAll() + this.intermediateTables.removeAll();
  }

  /** Everything of a regime: TLBI_EL2_ALL for both EL2 regimes. */
  removeWorld(world: number): number {
    return this.#removeGroup([WORLD, world << WORLD_SHIFT]);
  }

  /** Everything of the Non-secure EL1 regime: TLBI_NSNH_ALL. */
  removeEl1(): number {
    return this.removeWorld(World.EL1) + this.#removeIntermediate();
  }

  /** TLBI_NH_ALL. @param wildcard VMID bits that do not count (CR0.VMW) */
  removeVmid(vmid: number, wildcard: number): number {
    return this.#removeGroup(regime(World.EL1, vmid, wildcard));
  }

  /** After a whole regime went, there may be no global entries any more: look-ups need not ask for them. */
  #removeGroup(group: GroupMask): number {
    const removed = this.input.removeWhere(group[0], group[1], 0, 0, 0, Infinity) + this.inputTables.remove(group, ANY);
    if (this.globals) this.globals = [...this.input.entries()].some(({ tagB }) => (tagB & GLOBAL_TAG) !== 0);
    return removed;
  }

  /** TLBI_S12_VMALL. */
  removeVmidBothStages(vmid: number, wildcard: number): number {
    const group = ofVmid(vmid, wildcard);
    return this.removeVmid(vmid, wildcard) + this.intermediate.removeWhere(group[0], group[1], 0, 0, 0, Infinity) + this.intermediateTables.remove(group, ANY);
  }

  /** TLBI_NH_ASID, TLBI_EL2_ASID: not global entries. */
  removeAsid(world: number, vmid: number, wildcard: number, asid: number): number {
    const group = regime(world, vmid, wildcard);
    return this.input.removeWhere(group[0], group[1], GLOBAL | ASID, asid, 0, Infinity) + this.inputTables.remove(group, [GLOBAL | ASID, asid]);
  }

  /** TLBI_NH_VA, TLBI_EL2_VA: the ASID's entries and global ones; without an ASID, everyone's. */
  removeAddress(world: number, vmid: number, wildcard: number, asid: number | undefined, range: TlbRange): number {
    const group = regime(world, vmid, wildcard);
    if (asid === undefined) return this.#removeRange(group, ANY, range);
    return this.#removeRange(group, [GLOBAL | ASID, asid], range) + this.#removeRange(group, [GLOBAL, GLOBAL], range);
  }

  /** TLBI_S2_IPA. */
  removeIntermediate(vmid: number, wildcard: number, range: TlbRange): number {
    const group = ofVmid(vmid, wildcard);
    const [mask, value] = narrowed(group, range);
    return this.intermediate.removeWhere(mask, value, 0, 0, range.first, range.last) + this.intermediateTables.removeRange(group, ANY, range);
  }

  /** Entries in the range, tables on the way to it, and pieces of leaves that reach into it: an address invalidates its whole leaf. */
  #removeRange(a: GroupMask, b: GroupMask, range: TlbRange): number {
    const [mask, value] = narrowed(a, range);
    const [maskB, valueB] = b;
    let removed = this.inputTables.removeRange(a, b, range) + this.input.removeWhere(mask, value, maskB, valueB, range.first, range.last);
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

function ofVmid(vmid: number, wildcard: number): GroupMask {
  const mask = VMID & ~wildcard;
  return [mask, vmid & mask];
}

function regime(world: number, vmid: number, wildcard: number): GroupMask {
  const [mask, value] = ofVmid(vmid, wildcard);
  return [WORLD | mask, (world << WORLD_SHIFT) | value];
}
