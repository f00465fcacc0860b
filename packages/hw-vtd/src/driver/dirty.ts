/** Dirty tracking in the second stage (VT-d 3.7.2, 9.6: SSADE): hardware sets D in the leaves that it writes through. */
import { type DirtyRule, type DirtyTracking, type PhysicalMemory, readDirtyLeaves } from "@iommukit/core";
import { PASID_TABLE_ENTRY } from "../spec/entries.js";
import { SecondStage } from "../spec/formats.js";
import type { DomainUse } from "./domain.js";
import type { PagingVtdDomain } from "./paging-domain.js";

/** SSADE in the first word of a PASID table entry. */
const SSADE = 1n << 9n;

const RULE: DirtyRule = {
  isDirty: (lo) => (lo & SecondStage.D) !== 0,
  clean: (lo) => lo & ~SecondStage.D,
};

export class SecondStageDirty implements DirtyTracking {
  readonly #domain: PagingVtdDomain;
  readonly #memory: PhysicalMemory;

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
    const cleaned = readDirtyLeaves(this.#memory, this.#domain.table, RULE, { iova, length, clear }, report);
    // A cached translation that was dirty already would let the next write pass without setting the flag again.
    if (cleaned) this.#domain.flush(cleaned.page, cleaned.count, true);
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
