/** Leaves that continue each other, as one range: a machine's map in a few lines. */
import type { MappedLeaf } from "./types.js";

export interface MappedRange {
  readonly iova: bigint;
  readonly pa: number;
  readonly length: number;
  readonly permissions: string;
  /** Bytes of each leaf. */
  readonly pageSize: number;
  readonly leaves: number;
}

/** Merges neighbours with the same offset, permissions and page size; keeps the order. */
export function* mergeLeaves(leaves: Iterable<MappedLeaf>): Generator<MappedRange> {
  let range: MappedRange | undefined;
  for (const leaf of leaves) {
    if (
      range !== undefined &&
      leaf.iova === range.iova + BigInt(range.length) &&
      leaf.pa === range.pa + range.length &&
      leaf.permissions === range.permissions &&
      leaf.size === range.pageSize
    ) {
      range = { ...range, length: range.length + leaf.size, leaves: range.leaves + 1 };
      continue;
    }
    if (range !== undefined) yield range;
    range = { iova: leaf.iova, pa: leaf.pa, length: leaf.size, permissions: leaf.permissions, pageSize: leaf.size, leaves: 1 };
  }
  if (range !== undefined) yield range;
}
