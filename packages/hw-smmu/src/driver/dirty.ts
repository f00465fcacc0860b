/** Dirty tracking in stage 1 (SMMU 3.13, DDI0487 D8.5): a page with DBM is clean while AP[2] keeps writes away, and the unit clears that bit. */
import { type DirtyRule, type DirtyTracking, type PhysicalMemory, readDirtyLeaves } from "@iommukit/core";
import { Hi, Lo } from "../spec/tables.js";
import type { PagingSmmuDomain } from "./paging-domain.js";

const RULE: DirtyRule = {
  isDirty: (lo, hi) => (hi & Hi.DBM) !== 0 && (lo & Lo.AP2) === 0,
  clean: (lo) => lo | Lo.AP2,
};

export class Stage1Dirty implements DirtyTracking {
  readonly #domain: PagingSmmuDomain;
  readonly #memory: PhysicalMemory;

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
    const cleaned = readDirtyLeaves(this.#memory, this.#domain.table, RULE, { iova, length, clear }, report);
    // A cached translation that is writable already would let the next write pass without changing the state again.
    if (cleaned) this.#domain.flush(cleaned.page, cleaned.count);
  }
}
