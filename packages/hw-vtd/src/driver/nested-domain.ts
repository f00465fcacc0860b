/** A guest's first stage on top of a second stage of ours (VT-d 3.8): IOMMU_HWPT_DATA_VTD_S1. */
import { type FieldValues, type InvalidationEntries, type NestedDomain, refuse, type UserData } from "@iommukit/core";
import { decodeStruct, structLayout } from "@iommukit/core/abi";
import { Pgtt } from "../spec/entries.js";
import { type DomainUse, type UnitSide, VtdDomain } from "./domain.js";
import { type PagingVtdDomain, walkFields } from "./paging-domain.js";
import { coveringBlock, type PageBlock } from "./page-block.js";

/** enum iommu_hwpt_vtd_s1_flags */
const S1 = { SRE: 1n, EAFE: 2n, WPE: 4n } as const;
const ENTRY_BYTES = structLayout("iommu_hwpt_vtd_s1_invalidate").size;
const DATA_BYTES = structLayout("iommu_hwpt_vtd_s1").size;
/** enum iommu_hwpt_data_type, iommu_hwpt_invalidate_data_type */
const DATA_VTD_S1 = 1;
const INVALIDATE_VTD_S1 = 0;
const LEAF = 1;
const EVERYTHING = 2n ** 64n - 1n;

export class NestedVtdDomain extends VtdDomain implements NestedDomain {
  readonly byPasid = false;
  readonly parent: PagingVtdDomain;
  readonly #flags: bigint;
  /** Guest-physical address of the top table. */
  readonly #root: bigint;
  readonly #addressWidth: number;

  /** Flags are looked at when a device is attached, as in Linux. @throws IommuError EOPNOTSUPP, EINVAL, EFAULT */
  constructor(parent: PagingVtdDomain, data: UserData) {
    super();
    if (data.type !== DATA_VTD_S1) refuse("EOPNOTSUPP", `data_type ${data.type} is not VTD_S1 (${DATA_VTD_S1})`, { argument: "data_type" });
    if (!parent.kind.nestParent) refuse("EINVAL", "the page table was not allocated as a nest parent", { argument: "pt_id", rule: "IOMMU_HWPT_ALLOC_NEST_PARENT" });
    const s1 = decodeStruct("iommu_hwpt_vtd_s1", data.read(DATA_BYTES, DATA_BYTES));
    this.parent = parent;
    this.#flags = BigInt(s1.flags);
    this.#root = BigInt(s1.pgtbl_addr);
    this.#addressWidth = Number(s1.addr_width);
    parent.nested.add(this);
  }

  check(unit: UnitSide): void {
    this.parent.check(unit);
    const { caps, name } = unit;
    const bad = (why: string): never => refuse("EINVAL", why, { argument: "pt_id", rule: "iommu_hwpt_vtd_s1" });
    if (this.#addressWidth !== 48 && !(this.#addressWidth === 57 && caps.firstStage5Level)) bad(`addr_width ${this.#addressWidth} is not one that ${name} has`);
    if ((this.#flags & S1.SRE) !== 0n && !caps.supervisor) bad(`SRE: ${name} takes no privileged requests (ECAP.SRS=0)`);
    if ((this.#flags & S1.EAFE) !== 0n && !caps.extendedAccessed) bad(`EAFE: ${name} has no extended accessed flag (ECAP.EAFS=0)`);
  }

  entryFields({ id, unit: { caps } }: DomainUse): FieldValues {
    const supervisor = (this.#flags & S1.SRE) !== 0n;
    const flag = (on: boolean): bigint => (on ? 1n : 0n);
    return {
      DID: BigInt(id),
      PGTT: BigInt(Pgtt.NESTED),
      ...walkFields(caps),
      ...this.parent.secondStageFields(),
      SRE: flag(supervisor),
      // Write protection is a supervisor's.
      WPE: flag(supervisor && (this.#flags & S1.WPE) !== 0n),
      EAFE: flag((this.#flags & S1.EAFE) !== 0n),
      FSPM: flag(this.#addressWidth === 57),
      FSPTPTR: this.#root >> 12n,
    };
  }

  /** What the guest changed in its tables. Entries are done one after another, up to the first that is refused. */
  invalidate(entries: InvalidationEntries): void {
    if (entries.type !== INVALIDATE_VTD_S1) refuse("EINVAL", `data_type ${entries.type} is not VTD_S1 (${INVALIDATE_VTD_S1})`, { argument: "data_type" });
    for (let i = 0; i < entries.count; i++) {
      const { addr, npages, flags, __reserved } = decodeStruct("iommu_hwpt_vtd_s1_invalidate", entries.read(i, ENTRY_BYTES, ENTRY_BYTES));
      const unknown = (why: string): never => refuse("EOPNOTSUPP", `entry ${i}: ${why}`, { argument: "flags" });
      if ((Number(flags) & ~LEAF) !== 0) unknown(`flags 0x${Number(flags).toString(16)} has more than LEAF`);
      if (Number(__reserved) !== 0) unknown("__reserved is not 0");
      if (BigInt(addr) % 4096n !== 0n) refuse("EINVAL", `entry ${i}: addr 0x${BigInt(addr).toString(16)} is not a multiple of 4096`, { argument: "addr" });
      if (BigInt(npages) === EVERYTHING && BigInt(addr) !== 0n) refuse("EINVAL", `entry ${i}: everything begins at addr 0`, { argument: "addr" });
      const block = BigInt(npages) === EVERYTHING ? undefined : coveringBlock(Number(BigInt(addr) >> 12n), Number(npages));
      this.#flush(block, (Number(flags) & LEAF) !== 0);
      entries.handled(i + 1);
    }
  }

  #flush(block: PageBlock | undefined, leavesOnly: boolean): void {
    for (const use of this.uses.values()) {
      for (const pasid of use.pasids.keys()) use.unit.queue.pasidIotlb(use.id, pasid, block, leavesOnly);
      use.flushDeviceTlbs(block);
      use.unit.queue.sync();
    }
  }

  free(): void {
    this.parent.nested.delete(this);
  }
}
