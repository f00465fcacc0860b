/**
 * A walk cache (SMMU 3.17, 4.4; Arm DDI0487 D8.16): table descriptors that walks came past. An entry covers what the table that it points to does;
 * its output is that table's address, an intermediate one where a second stage translates it. Tags and groups are those of translations with the
 * level of the descriptor, but no entry is global: a table descriptor has no nG. The size of an entry tells its granule and its level.
 */
import { Iotlb, type IotlbGeometry, levelShift, type PageTableFormat } from "@iommukit/core";
import { GRANULE_SHIFTS } from "../spec/tables.js";
import { GRANULE_SHIFT, type GroupMask, LEVEL_SHIFT, narrowed, type Tags, type TlbRange } from "./tlb-groups.js";

const HIGHEST_LEVEL = 4;

export class TableCache {
  readonly entries: Iotlb;
  /** It can hold something. */
  readonly on: boolean;

  constructor(geometry: IotlbGeometry) {
    this.entries = new Iotlb(geometry);
    this.on = this.entries.capacity !== 0;
  }

  /** Slot of the lowest table on the way to a page; -1 for none. */
  deepest(tagA: number, tagB: number, page: number, format: PageTableFormat, topLevel: number): number {
    if (!this.on) return -1;
    for (let level = 1; level <= topLevel; level++) {
      const slot = this.entries.find(tagA, tagB, page, levelShift(format, level));
      if (slot !== -1) return slot;
    }
    return -1;
  }

  /** Level of the table that a slot's descriptor points to. */
  levelBelow(slot: number, format: PageTableFormat): number {
    return (this.entries.shift(slot) - format.granuleShift) / format.indexBits - 1;
  }

  table(slot: number): number {
    return this.entries.firstOutput(slot) * 4096;
  }

  /** OR of the high words of the descriptors down to this one: the hierarchical permissions. */
  restrictions(slot: number): number {
    return this.entries.data(slot);
  }

  /** @param frame 4 KiB page of the table that the descriptor of `level` points to */
  keep(tags: Tags, page: number, granule: number, level: number, frame: number, restrictions: number): void {
    const shift = GRANULE_SHIFTS[granule] + level * (GRANULE_SHIFTS[granule] - 3);
    const pages = 2 ** (shift - 12);
    const groupA = tags.groupA | (granule << GRANULE_SHIFT) | (level << LEVEL_SHIFT);
    this.entries.insert(tags.tagA, tags.tagB, page - (page % pages), shift, frame, restrictions, groupA, tags.groupB);
  }

  removeAll(): number {
    return this.entries.removeAll();
  }

  remove(a: GroupMask, b: GroupMask): number {
    return this.entries.removeWhere(a[0], a[1], b[0], b[1], 0, Infinity);
  }

  /** By address: the descriptors on the way to the range, with TTL those above the leaves that it names. */
  removeRange(a: GroupMask, b: GroupMask, range: TlbRange): number {
    if (range.leafOnly) return 0;
    const remove = (level: number): number => {
      const [mask, value] = narrowed(a, { ...range, level });
      return this.entries.removeWhere(mask, value, b[0], b[1], range.first, range.last);
    };
    if (range.level === -1) return remove(-1);
    let removed = 0;
    for (let level = range.level + 1; level <= HIGHEST_LEVEL; level++) removed += remove(level);
    return removed;
  }
}
