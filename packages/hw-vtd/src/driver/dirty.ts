/** Dirty tracking in the second stage (VT-d 3.7.2, 9.6: SSADE): hardware sets D in the leaves that it writes through. */
import { type DirtyTracking, entryAddress, entryFrame, levelShift, type PhysicalMemory, walk, WalkResult, WalkStatus } from "@iommukit/core";
import { PASID_TABLE_ENTRY } from "../spec/entries.js";
import { SecondStage } from "../spec/formats.js";
import type { DomainUse } from "./domain.js";
import type { PagingVtdDomain } from "./paging-domain.js";

/** SSADE in the first word of a PASID table entry. */
const SSADE = 1n << 9n;

export class SecondStageDirty implements DirtyTracking {
  readonly #domain: PagingVtdDomain;
  readonly #memory: PhysicalMemory;
  readonly #result = new WalkResult();

  constructor(domain: PagingVtdDomain, memory: PhysicalMemory) {
    this.#domain = domain;
    this.#memory = memory;
  }

  /** Every entry that uses the table says so: its own, and those of guests' first stages on top of it. */
  set(enabled: boolean): void {
    if (this.#domain.tracksDirty === enabled) return;
    this.#domain.tracksDirty = enabled;
    for (const domain of [this.#domain, ...this.#domain.nested]) for (const use of domain.uses.values()) setEntries(use, enabled);
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
      if ((entryLo & SecondStage.D) !== 0) {
        report(BigInt(page) << 12n, BigInt(start + pages - page) << 12n);
        if (clear) this.#memory.store64(this.#leaf(page, level), entryLo & ~SecondStage.D, entryHi);
        if (first === -1) first = start;
        last = start + pages - 1;
      }
      page = start + pages;
    }
    // A cached translation that was dirty already would let the next write pass without setting the flag again.
    if (clear && first !== -1) this.#domain.flush(first, last - first + 1, true);
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

/** Table 28: a change of SSADE is one of the PASID table entry. */
function setEntries(use: DomainUse, enabled: boolean): void {
  const { unit } = use;
  for (const { entry, pasid } of use.attachments) {
    const word = unit.structures.word(entry);
    unit.structures.writeWord(PASID_TABLE_ENTRY, entry, 0, enabled ? word | SSADE : word & ~SSADE);
    unit.queue.pasidCache(use.id, pasid);
  }
  unit.queue.iotlb(use.id);
  use.flushDeviceTlbs();
  unit.queue.sync();
}
