/** The host's side of a virtual VT-d: the guest's memory as a page table, page tables of a guest's first stage on top of it, and shadows. */
import { IommuError } from "@iommukit/core";
import { encodeStruct, structLayout } from "@iommukit/core/abi";
import type { FirstStageView } from "@iommukit/hw-vtd/spec";
import type { GuestRam, Program } from "../host/calls.js";

/** iommufd_hwpt_alloc_flags; enum iommu_hwpt_data_type, iommu_hwpt_invalidate_data_type, iommu_hwpt_vtd_s1_flags */
const NEST_PARENT = 1;
const FAULT_ID_VALID = 4;
const PASID = 8;
const DATA_VTD_S1 = 1;
const INVALIDATE_VTD_S1 = 0;
const S1 = { SRE: 1, EAFE: 2, WPE: 4 } as const;
const ATTACH_PASID = 1;
const MAP_ALL = 7;
const ENTRY_BYTES = structLayout("iommu_hwpt_vtd_s1_invalidate").size;
const DATA_BYTES = structLayout("iommu_hwpt_vtd_s1").size;
const SCRATCH_BYTES = 0x1_0000;
/** Entries that go on together. */
export const MAX_BATCH: number = Math.floor(SCRATCH_BYTES / ENTRY_BYTES);

/** A device of the host, bound to the program's iommufd. */
export interface HostDevice {
  /** Of its VFIO file. */
  readonly fd: number;
  /** `out_devid` of its bind. */
  readonly id: number;
  /** Its requester id in the guest. */
  readonly rid: number;
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

export class HostObjects {
  /** Guest-physical addresses as they are: for pass-through, and below a guest's first stage. */
  readonly whole: number;
  /** Nothing: a host that has it for a device records what it stops; of a device that has none, some stop everything silently. */
  readonly #empty: number;
  readonly program: Program;
  readonly iommufd: number;
  readonly ram: readonly GuestRam[];
  /** IOAS of the guest's memory. */
  readonly ioas: number;
  readonly #scratch: { readonly address: bigint; readonly bytes: Uint8Array };

  /** @param nested the host is to walk the guest's first stages @throws IommuError EOPNOTSUPP when it cannot */
  constructor(program: Program, iommufd: number, ram: readonly GuestRam[], device: HostDevice, nested: boolean) {
    this.program = program;
    this.iommufd = iommufd;
    this.ram = ram;
    this.#scratch = program.memory.map(SCRATCH_BYTES);
    this.ioas = this.newIoas();
    for (const { base, size, address } of ram) this.#call("IOMMU_IOAS_MAP", { flags: MAP_ALL, ioas_id: this.ioas, user_va: address, length: size, iova: base });
    this.whole = this.table(device, this.ioas, nested ? NEST_PARENT : 0);
    this.#empty = this.table(device, this.newIoas());
  }

  #call(name: string, fields: Readonly<Record<string, number | bigint>>): Readonly<Record<string, unknown>> {
    return this.program.ioctl(this.iommufd, name, fields);
  }

  newIoas(): number {
    return Number(this.#call("IOMMU_IOAS_ALLOC", {}).out_ioas_id);
  }

  /** A page table of an IOAS. */
  table({ id }: HostDevice, ioas: number, flags = 0): number {
    return Number(this.#call("IOMMU_HWPT_ALLOC", { dev_id: id, pt_id: ioas, flags: flags | PASID }).out_hwpt_id);
  }

  /** A guest's first stage, on top of its memory. @param faultId who sees to its page requests; undefined: nobody */
  firstStage({ id }: HostDevice, view: FirstStageView, faultId?: number): number {
    const flags = (view.supervisor ? S1.SRE : 0) | (view.extendedAccessed ? S1.EAFE : 0) | (view.writeProtect ? S1.WPE : 0);
    const { address, bytes } = this.#scratch;
    bytes.set(encodeStruct("iommu_hwpt_vtd_s1", { flags, pgtbl_addr: view.root, addr_width: 9 * view.levels + 12 }));
    return Number(this.#call("IOMMU_HWPT_ALLOC", { dev_id: id, pt_id: this.whole, flags: PASID | (faultId === undefined ? 0 : FAULT_ID_VALID), fault_id: faultId ?? 0, data_type: DATA_VTD_S1, data_len: DATA_BYTES, data_uptr: address }).out_hwpt_id);
  }

  /** In place of what was attached. @param pasid undefined: the requester itself */
  attach({ fd }: HostDevice, pasid: number | undefined, hwpt: number): void {
    this.program.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: hwpt, ...(pasid === undefined ? { argsz: 12 } : { flags: ATTACH_PASID, pasid }) });
  }

  /** Stops every access: that cannot be refused, though it may be silent then. */
  block(device: HostDevice, pasid: number | undefined): void {
    if (pasid !== undefined) return this.#detach(device, { flags: ATTACH_PASID, pasid });
    try {
      this.attach(device, pasid, this.#empty);
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
      this.#detach(device, { argsz: 8 });
    }
  }

  #detach({ fd }: HostDevice, fields: Readonly<Record<string, number>>): void {
    this.program.ioctl(fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT", fields);
  }

  destroy(id: number): void {
    this.#call("IOMMU_DESTROY", { id });
  }

  /** Of one page table of a guest's first stage; at most `MAX_BATCH`. */
  invalidate(hwpt: number, entries: readonly Invalidation[]): void {
    const { address, bytes } = this.#scratch;
    entries.forEach(({ addr, npages, leavesOnly }, i) => bytes.set(encodeStruct("iommu_hwpt_vtd_s1_invalidate", { addr, npages, flags: Number(leavesOnly) }), i * ENTRY_BYTES));
    this.#call("IOMMU_HWPT_INVALIDATE", { hwpt_id: hwpt, data_uptr: address, data_type: INVALIDATE_VTD_S1, entry_len: ENTRY_BYTES, entry_num: entries.length });
  }

  /** A queue of page requests. */
  faultQueue(): { readonly faultId: number; readonly fd: number } {
    const { out_fault_id, out_fault_fd } = this.#call("IOMMU_FAULT_QUEUE_ALLOC", {});
    return { faultId: Number(out_fault_id), fd: Number(out_fault_fd) };
  }

  /** A descriptor of a device's faults. */
  faults({ id }: HostDevice): number {
    return Number(this.#call("IOMMUKIT_DEVICE_FAULTS", { dev_id: id }).out_faults_fd);
  }
}
