/**
 * Page tables of the kernel's mock IOMMU, as its selftest needs them: AMD's v1 format with 2 KiB pages,
 * kept as a list of leaves instead of in memory (selftest inventory, 3.1).
 */
import type { DirtyTracking, InvalidationEntries, NestedDomain, PagingDomain } from "../../driver/types.js";
import { refuse } from "../../errors.js";
import { IntervalTree } from "../../memory/interval-tree.js";

export const MOCK_PAGE = 2048;
const HUGE_PAGE = 0x10_0000;
/** Highest address of the format with huge pages: 38 bits. */
const HUGE_LAST = 0x3f_ffff_ffffn;
/** Largest leaf: 2^36. */
const LARGEST_SHIFT = 36;
const LEVEL_BITS = 9;

interface Leaf {
  readonly pa: number;
  /** Size of one of the entries that the leaf is made of. */
  readonly item: bigint;
  dirty: boolean;
}

function allSizes(): bigint {
  let sizes = 0n;
  for (let size = MOCK_PAGE; size <= 2 ** LARGEST_SHIFT; size *= 2) sizes |= BigInt(size);
  return sizes;
}

export class MockDomain implements PagingDomain {
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  readonly pageSizes: bigint;
  readonly enforcesCoherency = false;
  readonly dirty?: DirtyTracking;
  tracking = false;
  readonly #leaves = new IntervalTree<Leaf>();

  constructor(huge: boolean, dirtyTracking: boolean) {
    this.aperture = huge ? { start: 0n, last: HUGE_LAST } : { start: 0x100_0000n, last: 0x7fff_ffffn };
    this.pageSizes = huge ? 4096n | BigInt(HUGE_PAGE) : allSizes();
    if (dirtyTracking) {
      this.dirty = {
        set: (enabled) => {
          this.tracking = enabled;
        },
        read: (iova, length, clear, report) => this.#readDirty(iova, length, clear, report),
      };
    }
  }

  map(iova: bigint, pa: number, length: number, prot: number): void {
    if (prot === 0) refuse("EINVAL", "a mapping needs read or write permission", { rule: "iommu_map" });
    for (let done = 0; done < length; ) {
      const size = this.#leafSize(iova + BigInt(done), pa + done, length - done);
      const start = iova + BigInt(done);
      this.#leaves.add(start, start + BigInt(size) - 1n, { pa: pa + done, item: itemOf(size), dirty: false });
      done += size;
    }
  }

  /** The largest size that suits both addresses. */
  #leafSize(iova: bigint, pa: number, length: number): number {
    let best = 0;
    for (let shift = 11; shift <= LARGEST_SHIFT; shift++) {
      const size = 2 ** shift;
      if ((this.pageSizes & BigInt(size)) === 0n) continue;
      if (size > length || iova % BigInt(size) !== 0n || pa % size !== 0) continue;
      best = size;
    }
    return best === 0 ? refuse("EINVAL", `IOVA 0x${iova.toString(16)} and length ${length} are not made of whole pages of the mock IOMMU`, { rule: "iommu_map" }) : best;
  }

  unmap(iova: bigint, length: number): void {
    const last = iova + BigInt(length) - 1n;
    for (let leaf = this.#leaves.first(iova, last); leaf !== undefined; leaf = this.#leaves.first(iova, last)) this.#leaves.delete(leaf.start);
  }

  iovaToPa(iova: bigint): number | undefined {
    const leaf = this.#leaves.first(iova, iova);
    return leaf && leaf.value.pa + Number(iova - leaf.start);
  }

  /** Marks the leaf around `iova`; what is not mapped is left alone. */
  setDirty(iova: bigint): void {
    const leaf = this.#leaves.first(iova, iova);
    if (leaf) leaf.value.dirty = true;
  }

  /**
   * As the kernel's shared page-table code does: of a leaf of several entries the last one is not reported
   * (iommufd facts, section 7).
   */
  #readDirty(iova: bigint, length: bigint, clear: boolean, report: (iova: bigint, length: bigint) => void): void {
    const end = iova + length;
    for (let next = iova; next < end; ) {
      const leaf = this.#leaves.first(next, next);
      if (leaf === undefined) return;
      if (leaf.value.dirty) {
        const several = leaf.last - leaf.start + 1n > leaf.value.item;
        const stop = several ? leaf.last + 1n - leaf.value.item : leaf.last + 1n;
        if (stop > next) report(next, stop - next);
        if (clear) leaf.value.dirty = false;
      }
      next = leaf.last + 1n;
    }
  }

  free(): void {
    // Leaves are this process's own.
  }
}

/** Size of the table entries that a leaf of `size` takes. */
function itemOf(size: number): bigint {
  let item = MOCK_PAGE;
  while (item * 2 ** LEVEL_BITS <= size) item *= 2 ** LEVEL_BITS;
  return BigInt(item);
}

const IOTLB_ENTRIES = 4;
const INVALIDATE_TYPE = 0xdeadbeef;
const INVALIDATE_ALL = 1;

/** A guest's page table that is nothing but a cache of four numbers. */
export class MockNested implements NestedDomain {
  readonly iotlb: Uint32Array;
  /** Which virtual IOMMU it belongs to; opaque here. */
  readonly viommu: object | undefined;

  constructor(iotlb: number, viommu: object | undefined) {
    this.iotlb = new Uint32Array(IOTLB_ENTRIES).fill(iotlb);
    this.viommu = viommu;
  }

  invalidate(entries: InvalidationEntries): void {
    if (entries.type !== INVALIDATE_TYPE) refuse("EINVAL", `data_type 0x${entries.type.toString(16)} is not that of the mock IOMMU`, { argument: "data_type" });
    for (let i = 0; i < entries.count; i++) {
      const view = new DataView(entries.read(i, 8, 8).buffer);
      const flags = view.getUint32(0, true);
      const id = view.getUint32(4, true);
      if ((flags & ~INVALIDATE_ALL) !== 0) refuse("EOPNOTSUPP", `entry ${i}: flags has 0x${flags.toString(16)}`, { argument: "flags" });
      if (id >= IOTLB_ENTRIES) refuse("EINVAL", `entry ${i}: iotlb_id ${id} is not below ${IOTLB_ENTRIES}`, { argument: "iotlb_id" });
      if ((flags & INVALIDATE_ALL) !== 0) this.iotlb.fill(0);
      else this.iotlb[id] = 0;
      entries.handled(i + 1);
    }
  }

  free(): void {
    // Nothing is held.
  }
}
