/** Dirty leaves of a page table: what `DirtyTracking.read` of a driver is made of, whichever bits say "dirty". */
import type { PhysicalMemory } from "../memory/physical-memory.js";
import { entryFrame, levelShift } from "./format.js";
import type { PageTable } from "./page-table.js";
import { entryAddress, walk, WalkResult, WalkStatus } from "./walk.js";

/** A format's idea of "dirty", on the two words of a leaf. */
export interface DirtyRule {
  isDirty(lo: number, hi: number): boolean;
  /** The low word of the leaf once it is clean. */
  clean(lo: number): number;
}

const result = new WalkResult();

/**
 * Reports each dirty leaf of [iova, iova + length), ascending, up to the first page that is not mapped; the last leaf may reach further.
 * @returns pages of the leaves that were cleaned: their cached translations have to go, or the next write passes unseen
 */
export function readDirtyLeaves(
  memory: PhysicalMemory,
  table: PageTable,
  rule: DirtyRule,
  range: { readonly iova: bigint; readonly length: bigint; readonly clear: boolean },
  report: (iova: bigint, length: bigint) => void,
): { readonly page: number; readonly count: number } | undefined {
  const end = Number((range.iova + range.length) >> 12n);
  let first = -1;
  let last = -1;
  for (let page = Number(range.iova >> 12n); page < end; ) {
    if (walk(memory, table.format, table.root, table.topLevel, page, result) !== WalkStatus.OK) break;
    const { level, entryLo, entryHi } = result;
    const pages = 2 ** (levelShift(table.format, level) - 12);
    const start = page - (page % pages);
    if (rule.isDirty(entryLo, entryHi)) {
      report(BigInt(page) << 12n, BigInt(start + pages - page) << 12n);
      if (range.clear) {
        memory.store64(leafAddress(memory, table, page, level), rule.clean(entryLo), entryHi);
        if (first === -1) first = start;
        last = start + pages - 1;
      }
    }
    page = start + pages;
  }
  return first === -1 ? undefined : { page: first, count: last - first + 1 };
}

/** Physical address of the leaf at `level` that a walk for `page` ends in. */
function leafAddress(memory: PhysicalMemory, { root, topLevel, format }: PageTable, page: number, level: number): number {
  let table = root;
  for (let at = topLevel; at > level; at--) {
    memory.load64(entryAddress(format, table, at, page));
    table = entryFrame(format, memory.lo, memory.hi) * 4096;
  }
  return entryAddress(format, table, level, page);
}
