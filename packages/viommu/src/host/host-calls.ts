/** What a virtual IOMMU of any kind does on /dev/iommu: the guest's memory as an IOAS, attaches, and what is told of faults. */
import type { GuestRam, Program } from "./calls.js";
import { openFaults } from "./device-faults.js";
import { allocIoas, mapIoas, Right } from "./ioas.js";

/** vfio_device_attach_iommufd_pt.flags */
const ATTACH_PASID = 1;
/** `argsz` of calls without a PASID. */
const ATTACH_BYTES = 12;
const DETACH_BYTES = 8;
const SCRATCH_BYTES = 0x1_0000;

/** A device of the host, bound to the program's iommufd. */
export interface BoundDevice {
  /** Of its VFIO file. */
  readonly fd: number;
  /** `out_devid` of its bind. */
  readonly id: number;
}

export class HostCalls {
  readonly program: Program;
  readonly iommufd: number;
  readonly #ram: GuestRam[] = [];
  /** IOAS of the guest's memory. */
  readonly ioas: number;
  /** Where structures of vendors lie while a call reads or fills them. */
  protected readonly scratch: { readonly address: bigint; readonly bytes: Uint8Array };

  constructor(program: Program, iommufd: number, ram: readonly GuestRam[]) {
    this.program = program;
    this.iommufd = iommufd;
    this.scratch = program.memory.map(SCRATCH_BYTES);
    this.ioas = this.newIoas();
    for (const part of ram) this.addRam(part);
  }

  get ram(): readonly GuestRam[] {
    return this.#ram;
  }

  /** From now on it is the guest's memory, too. @throws IommuError what the host refuses */
  addRam(part: GuestRam): void {
    const { base, size, address } = part;
    mapIoas(this.program, this.iommufd, this.ioas, { iova: base, address, length: size, rights: Right.READ | Right.WRITE });
    this.#ram.push(part);
  }

  protected call(name: string, fields: Readonly<Record<string, number | bigint>>): Readonly<Record<string, unknown>> {
    return this.program.ioctl(this.iommufd, name, fields);
  }

  /** Entries of `bytes` each that the scratch memory has room for. */
  static room(bytes: number): number {
    return Math.floor(SCRATCH_BYTES / bytes);
  }

  newIoas(): number {
    return allocIoas(this.program, this.iommufd);
  }

  /** @returns the page table's id @throws IommuError what the host refuses */
  protected allocate({ id }: BoundDevice, pt: number, fields: Readonly<Record<string, number | bigint>>): number {
    return Number(this.call("IOMMU_HWPT_ALLOC", { dev_id: id, pt_id: pt, ...fields }).out_hwpt_id);
  }

  /** Words of the IOMMU that the device is behind, as its vendor has them; undefined: it is not of that type. */
  protected hwInfo({ id }: BoundDevice, type: number, bytes: number): DataView | undefined {
    const { address, bytes: scratch } = this.scratch;
    const answer = this.call("IOMMU_GET_HW_INFO", { dev_id: id, data_len: bytes, data_uptr: address });
    return Number(answer.out_data_type) === type ? new DataView(scratch.buffer, scratch.byteOffset, bytes) : undefined;
  }

  /** In place of what was attached. @param pasid undefined: the requester itself */
  attach({ fd }: BoundDevice, hwpt: number, pasid?: number): void {
    this.program.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: hwpt, ...(pasid === undefined ? { argsz: ATTACH_BYTES } : { flags: ATTACH_PASID, pasid }) });
  }

  /** From everything: the host stops what the device does. */
  detach({ fd }: BoundDevice, pasid?: number): void {
    this.program.ioctl(fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT", pasid === undefined ? { argsz: DETACH_BYTES } : { flags: ATTACH_PASID, pasid });
  }

  destroy(id: number): void {
    this.call("IOMMU_DESTROY", { id });
  }

  /** A descriptor of a device's faults. */
  faults({ id }: BoundDevice): number {
    return openFaults(this.program, this.iommufd, id);
  }
}
