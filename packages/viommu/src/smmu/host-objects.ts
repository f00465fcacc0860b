/**
 * The host's side of a virtual SMMUv3 (iommufd facts 9): one nest parent of the guest's memory, a vIOMMU on it, page tables that stop and that
 * pass, a vDEVICE for each of the guest's StreamIDs, and a queue of events.
 */
import { IommuError, refuse } from "@iommukit/core";
import type { Identification } from "@iommukit/hw-smmu/spec";
import type { Program } from "../host/calls.js";

/** IOMMU_HWPT_ALLOC_NEST_PARENT; enum iommu_hwpt_data_type, iommu_hw_info_type, iommu_viommu_type, iommu_veventq_type */
const NEST_PARENT = 1;
const DATA_ARM_SMMUV3 = 2;
const INFO_ARM_SMMUV3 = 2;
const VIOMMU_ARM_SMMUV3 = 1;
const VEVENTQ_ARM_SMMUV3 = 1;
const INVALIDATE_ARM_SMMUV3 = 1;
const COMMAND_BYTES = 16;
const INFO_BYTES = 40;
const SCRATCH_BYTES = 0x1_0000;
export const MAX_BATCH: number = SCRATCH_BYTES / COMMAND_BYTES;
/** STE words: V alone stops, V with Config=100 passes. */
const STOPS = [0x1n, 0n] as const;
const PASSES = [0x9n, 0n] as const;

/** A device of the host, bound to the guest's iommufd. */
export interface HostDevice {
  /** Of its VFIO file. */
  readonly fd: number;
  /** `out_devid` of its bind. */
  readonly id: number;
  /** Its StreamID in the guest. */
  readonly stream: number;
}

export type SteWords = readonly [bigint, bigint];

export class HostObjects {
  readonly identification: Identification;
  readonly stops: number;
  readonly passes: number;
  readonly #program: Program;
  readonly #iommufd: number;
  readonly #viommu: number;
  readonly #scratch: { readonly address: bigint; readonly bytes: Uint8Array };

  /**
   * @param ioas of the guest's memory
   * @throws IommuError EOPNOTSUPP when the host's SMMU cannot nest: then there is no way, as no bit of an SMMUv3 tells a guest to invalidate
   * what it maps, so that nothing could keep its tables again
   */
  constructor(program: Program, iommufd: number, ioas: number, devices: readonly HostDevice[]) {
    this.#program = program;
    this.#iommufd = iommufd;
    this.#scratch = program.memory.map(SCRATCH_BYTES);
    const [first] = devices;
    if (first === undefined) refuse("EINVAL", "a virtual SMMUv3 on a host needs a device of the host", { argument: "devices" });
    this.identification = this.#identify(first);
    const parent = this.#allocate(first, ioas, NEST_PARENT);
    try {
      this.#viommu = Number(this.#call("IOMMU_VIOMMU_ALLOC", { type: VIOMMU_ARM_SMMUV3, dev_id: first.id, hwpt_id: parent }).out_viommu_id);
    } catch (error) {
      if (!(error instanceof IommuError) || error.errno !== "EOPNOTSUPP") throw error;
      refuse("EOPNOTSUPP", `${error.reason.message}; and an SMMUv3 cannot be shadowed: it has no caching mode, so a guest does not tell what it maps`, { rule: "IOMMU_VIOMMU_ALLOC" });
    }
    this.stops = this.allocate(first, STOPS);
    this.passes = this.allocate(first, PASSES);
    for (const { id, stream } of devices) this.#call("IOMMU_VDEVICE_ALLOC", { viommu_id: this.#viommu, dev_id: id, virt_id: stream });
  }

  #call(name: string, fields: Readonly<Record<string, number | bigint>>): Readonly<Record<string, unknown>> {
    return this.#program.ioctl(this.#iommufd, name, fields);
  }

  #identify({ id }: HostDevice): Identification {
    const { address, bytes } = this.#scratch;
    const answer = this.#call("IOMMU_GET_HW_INFO", { dev_id: id, data_len: INFO_BYTES, data_uptr: address });
    if (Number(answer.out_data_type) !== INFO_ARM_SMMUV3) refuse("EINVAL", `the device's IOMMU is none of SMMUv3 (type ${String(answer.out_data_type)})`, { argument: "dev_id" });
    // Behind flags and a reserved word (iommu_hw_info_arm_smmuv3).
    const [idr0, idr1, idr2, idr3, idr4, idr5, iidr, aidr] = new Uint32Array(bytes.buffer, bytes.byteOffset + 8, 8);
    return { idr0, idr1, idr2, idr3, idr4, idr5, iidr, aidr };
  }

  #allocate({ id }: HostDevice, pt: number, flags: number): number {
    return Number(this.#call("IOMMU_HWPT_ALLOC", { dev_id: id, pt_id: pt, flags }).out_hwpt_id);
  }

  /** A page table of what a guest's STE says. @throws IommuError EIO for one that a guest may not have */
  allocate({ id }: HostDevice, [low, high]: SteWords): number {
    const { address, bytes } = this.#scratch;
    new BigUint64Array(bytes.buffer, bytes.byteOffset, 2).set([low, high]);
    return Number(this.#call("IOMMU_HWPT_ALLOC", { dev_id: id, pt_id: this.#viommu, data_type: DATA_ARM_SMMUV3, data_len: 16, data_uptr: address }).out_hwpt_id);
  }

  /** In place of what was attached. */
  attach({ fd }: HostDevice, hwpt: number): void {
    this.#program.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: hwpt, argsz: 12 });
  }

  /** From everything: the host stops what the device does. */
  detach({ fd }: HostDevice): void {
    this.#program.ioctl(fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT", { argsz: 8 });
  }

  destroy(id: number): void {
    this.#call("IOMMU_DESTROY", { id });
  }

  /** Commands of the guest, at most `MAX_BATCH`. @throws IommuError EIO */
  invalidate(commands: readonly SteWords[]): void {
    const { address, bytes } = this.#scratch;
    new BigUint64Array(bytes.buffer, bytes.byteOffset, 2 * commands.length).set(commands.flat());
    this.#call("IOMMU_HWPT_INVALIDATE", { hwpt_id: this.#viommu, data_uptr: address, data_type: INVALIDATE_ARM_SMMUV3, entry_len: COMMAND_BYTES, entry_num: commands.length });
  }

  /** A descriptor of events of the guest's devices. */
  events(depth: number): number {
    return Number(this.#call("IOMMU_VEVENTQ_ALLOC", { viommu_id: this.#viommu, type: VEVENTQ_ARM_SMMUV3, veventq_depth: depth }).out_veventq_fd);
  }

  /** A descriptor of faults that no event queue takes. */
  faults({ id }: HostDevice): number {
    return Number(this.#call("IOMMUKIT_DEVICE_FAULTS", { dev_id: id }).out_faults_fd);
  }
}
