/** Dirty tracking in stage 1 (SMMU 3.13, DDI0487 D8.5): a page with DBM is clean while AP[2] keeps writes away, and the unit clears that bit. */
import { type DirtyTracking, entryAddress, entryFrame, levelShift, type PhysicalMemory, walk, WalkResult, WalkStatus } from "@iommukit/core";
import { Hi, Lo } from "../spec/tables.js";
import type { PagingSmmuDomain } from "./paging-domain.js";

export class Stage1Dirty implements DirtyTracking {
  readonly #domain: PagingSmmuDomain;
  readonly #memory: PhysicalMemory;
  readonly #result = new WalkResult();

  constructor(domain: PagingSmmuDomain, memory: PhysicalMemory) {
    this.#domain = domain;
    this.#memory = memory;
    // Clean pages are read-only to a unit that does not keep the state: it is on as long as the table is in use.
    domain.tracksDirty = true;
  }

  /** The state is kept at all times; what was written before is read and dropped by whoever turns tracking on (iommufd facts, 7). */
  set(): void {
    // Nothing to turn on.
  }

  read(iova: bigint, length: bigint, clear: boolean, report: (iova: bigint, length: bigint) => void): void {
    const { table } = this.#domain;
    const end = Number((iova + length) >> 12n);
    let first = -1;
    let last = -1;
    for (let page = Number(iova >> 12n); page < end; ) {
      if (walk(this.#memory, table.format, table.root, table.topLevel, page, this.#result) !== WalkStatus.OK) break;
      const { level, entryLo, entryHi } = this.#result;
      const pages = 2 ** (levelShift(table.format, level) - 12);
      const start = page - (page % pages);
      if ((entryHi & Hi.DBM) !== 0 && (entryLo & Lo.AP2) === 0) {
        report(BigInt(page) << 12n, BigInt(start + pages - page) << 12n);
        if (clear) this.#memory.store64(this.#leaf(page, level), entryLo | Lo.AP2, entryHi);
        if (first === -1) first = start;
        last = start + pages - 1;
      }
      page = start + pages;
    }
    // A cached translation that is writable already would let the next write pass without changing the state again.
    if (clear && first !== -1) this.#domain.flush(first, last - first + 1);
  }

  /** Physical address of the leaf at `level` that a walk for `page` ends in. */
  #leaf(page: number, level: number): number {
    const { root, topLevel, format } = this.#domain.table;
    let table = root;
    for (let at = topLevel; at > level; at--) {
      this.#memory.load64(entryAddress(format, table, at, page));
      table = entryFrame(format, this.#memory.lo, this.#memory.hi) * 4096;
    }
    return entryAddress(format, table, level, page);
  }
}
