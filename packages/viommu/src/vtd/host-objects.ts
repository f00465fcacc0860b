/** The host's side of a virtual VT-d: the guest's memory as a page table, page tables of a guest's first stage on top of it, and shadows. */
import { IommuError } from "@iommukit/core";
import { encodeStruct, structLayout } from "@iommukit/core/abi";
import type { FirstStageView } from "@iommukit/hw-vtd/spec";
import type { GuestRam, Program } from "../host/calls.js";
import { type BoundDevice, HostCalls } from "../host/host-calls.js";
import type { ShownDevice } from "../host/topology.js";

/** iommufd_hwpt_alloc_flags; enum iommu_hwpt_data_type, iommu_hwpt_invalidate_data_type, iommu_hwpt_vtd_s1_flags, iommu_hw_info_type */
const NEST_PARENT = 1;
const FAULT_ID_VALID = 4;
const PASID = 8;
const DATA_VTD_S1 = 1;
const INVALIDATE_VTD_S1 = 0;
const S1 = { SRE: 1, EAFE: 2, WPE: 4 } as const;
const INFO_INTEL_VTD = 1;
const ENTRY_BYTES = structLayout("iommu_hwpt_vtd_s1_invalidate").size;
const DATA_BYTES = structLayout("iommu_hwpt_vtd_s1").size;
const INFO_BYTES = structLayout("iommu_hw_info_vtd").size;
/** Entries that go on together. */
export const MAX_BATCH: number = HostCalls.room(ENTRY_BYTES);

/** A function, or a mediated device that the host tells apart by its parent's requester id and PASIDs. */
export interface HostDevice extends BoundDevice, ShownDevice {
  /** It makes page requests (PRI). */
  readonly pageRequests?: boolean;
}

/** One entry of HWPT_INVALIDATE. */
export interface Invalidation {
  readonly addr: bigint;
  /** 2^64 - 1: everything. */
  readonly npages: bigint;
  readonly leavesOnly: boolean;
}

/** Capability words of the host's unit. */
export interface HostWords {
  readonly cap: bigint;
  readonly ecap: bigint;
}

export class HostObjects extends HostCalls {
  /** Guest-physical addresses as they are: for pass-through, and below a guest's first stage. */
  readonly whole: number;
  /** Of a host that walks the guest's first stages. */
  readonly words: HostWords | undefined;
  /** Nothing: a host that has it for a device records what it stops; of a device that has none, some stop everything silently. */
  readonly #empty: number;
  /** Flags of page tables, where the device has PASIDs. */
  readonly #pasid: number;

  /** @param nested the host is to walk the guest's first stages @throws IommuError EOPNOTSUPP when it cannot */
  constructor(program: Program, iommufd: number, ram: readonly GuestRam[], device: HostDevice, nested: boolean) {
    super(program, iommufd, ram);
    const info = nested ? this.hwInfo(device, INFO_INTEL_VTD, INFO_BYTES) : undefined;
    // Behind flags and a reserved word (iommu_hw_info_vtd).
    this.words = info && { cap: info.getBigUint64(8, true), ecap: info.getBigUint64(16, true) };
    const nothing = this.newIoas();
    [this.#empty, this.#pasid] = this.#first(device, nothing);
    this.whole = nested ? this.parent(device, this.ioas) : this.table(device, this.ioas);
  }

  /** The first page table, which tells whether the host has them for PASIDs. */
  #first(device: HostDevice, ioas: number): [hwpt: number, flags: number] {
    try {
      return [this.allocate(device, ioas, { flags: PASID }), PASID];
    } catch (error) {
      if (!(error instanceof IommuError) || error.errno !== "EOPNOTSUPP") throw error;
      return [this.allocate(device, ioas, {}), 0];
    }
  }

  /** A page table of an IOAS. @param options.faultId who sees to page requests; undefined: nobody */
  table(device: HostDevice, ioas: number, { flags = 0, faultId }: { readonly flags?: number; readonly faultId?: number | undefined } = {}): number {
    return this.allocate(device, ioas, withFaults(flags | this.#pasid, faultId));
  }

  /** A page table of an IOAS that a guest's first stages can lie on. */
  parent(device: HostDevice, ioas: number): number {
    return this.table(device, ioas, { flags: NEST_PARENT });
  }

  /** A guest's first stage. @param parent what it lies on @param faultId who sees to its page requests; undefined: nobody */
  firstStage(device: HostDevice, view: FirstStageView, parent: number, faultId?: number): number {
    const flags = (view.supervisor ? S1.SRE : 0) | (view.extendedAccessed ? S1.EAFE : 0) | (view.writeProtect ? S1.WPE : 0);
    const { address, bytes } = this.scratch;
    bytes.set(encodeStruct("iommu_hwpt_vtd_s1", { flags, pgtbl_addr: view.root, addr_width: 9 * view.levels + 12 }));
    return this.allocate(device, parent, { ...withFaults(this.#pasid, faultId), data_type: DATA_VTD_S1, data_len: DATA_BYTES, data_uptr: address });
  }

  /**
   * Stops every access: that cannot be refused, though it may be silent then.
   * @returns false: the PASID stays attached, to nothing, since the guest's CPUs still translate to it (RFC v2, 2.3)
   */
  block(device: HostDevice, pasid: number | undefined): boolean {
    const empty = (): void => this.attach(device, this.#empty, pasid);
    const nothing = (): void => this.detach(device, pasid);
    if (pasid !== undefined) return either(nothing, empty);
    either(empty, nothing);
    return true;
  }

  /** Of one page table of a guest's first stage; at most `MAX_BATCH`. */
  invalidate(hwpt: number, entries: readonly Invalidation[]): void {
    const { address, bytes } = this.scratch;
    entries.forEach(({ addr, npages, leavesOnly }, i) => bytes.set(encodeStruct("iommu_hwpt_vtd_s1_invalidate", { addr, npages, flags: Number(leavesOnly) }), i * ENTRY_BYTES));
    this.call("IOMMU_HWPT_INVALIDATE", { hwpt_id: hwpt, data_uptr: address, data_type: INVALIDATE_VTD_S1, entry_len: ENTRY_BYTES, entry_num: entries.length });
  }

  /** A queue of page requests. */
  faultQueue(): { readonly faultId: number; readonly fd: number } {
    const { out_fault_id, out_fault_fd } = this.call("IOMMU_FAULT_QUEUE_ALLOC", {});
    return { faultId: Number(out_fault_id), fd: Number(out_fault_fd) };
  }
}

/** What the host refuses is done the second way. Returns: the first was it. */
function either(first: () => void, second: () => void): boolean {
  try {
    first();
    return true;
  } catch (error) {
    if (!(error instanceof IommuError)) throw error;
    second();
    return false;
  }
}

function withFaults(flags: number, faultId: number | undefined): { readonly flags: number; readonly fault_id?: number } {
  return faultId === undefined ? { flags } : { flags: flags | FAULT_ID_VALID, fault_id: faultId };
}
