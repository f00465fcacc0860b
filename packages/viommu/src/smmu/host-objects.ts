/**
 * The host's side of a virtual SMMUv3 (iommufd facts 9): one nest parent of the guest's memory, a vIOMMU on it, page tables that stop and that
 * pass, an empty one, a vDEVICE for each of the guest's StreamIDs, and a queue of events.
 */
import { IommuError, refuse } from "@iommukit/core";
import { structLayout } from "@iommukit/core/abi";
import type { Identification } from "@iommukit/hw-smmu/spec";
import type { GuestRam, Program } from "../host/calls.js";
import { type BoundDevice, HostCalls } from "../host/host-calls.js";

/** IOMMU_HWPT_ALLOC_NEST_PARENT; enum iommu_hwpt_data_type, iommu_hw_info_type, iommu_viommu_type, iommu_veventq_type, iommu_viommu_invalidate_data_type */
const NEST_PARENT = 1;
const DATA_ARM_SMMUV3 = 2;
const INFO_ARM_SMMUV3 = 2;
const VIOMMU_ARM_SMMUV3 = 1;
const VEVENTQ_ARM_SMMUV3 = 1;
const INVALIDATE_ARM_SMMUV3 = 1;
const COMMAND_BYTES = 16;
const STE_BYTES = 16;
const INFO_BYTES = structLayout("iommu_hw_info_arm_smmuv3").size;
/** Commands that go on together. */
export const MAX_BATCH: number = HostCalls.room(COMMAND_BYTES);
/** STE words: V alone stops, V with Config=100 passes. */
const STOPS = [0x1n, 0n] as const;
const PASSES = [0x9n, 0n] as const;

export interface HostDevice extends BoundDevice {
  /** Its StreamID in the guest. */
  readonly stream: number;
}

/** Two words of 64 bits: of a command, or the first of an STE. */
export type Words = readonly [bigint, bigint];

export class HostObjects extends HostCalls {
  readonly identification: Identification;
  /** Stops everything, silently, as an STE that aborts. */
  readonly stops: number;
  /** The guest's memory as it is. */
  readonly passes: number;
  /** Of an IOAS without mappings: what it stops, the host tells of. */
  readonly empty: number;
  readonly #viommu: number;

  /**
   * @throws IommuError EOPNOTSUPP when the host's SMMU cannot nest: then there is no way, as no bit of an SMMUv3 tells a guest to invalidate
   * what it maps, so that nothing could keep its tables again
   */
  constructor(program: Program, iommufd: number, ram: readonly GuestRam[], devices: readonly HostDevice[]) {
    super(program, iommufd, ram);
    const [first] = devices;
    if (first === undefined) refuse("EINVAL", "a virtual SMMUv3 on a host needs a device of the host", { argument: "devices" });
    this.identification = this.#identify(first);
    const parent = this.allocate(first, this.ioas, { flags: NEST_PARENT });
    try {
      this.#viommu = Number(this.call("IOMMU_VIOMMU_ALLOC", { type: VIOMMU_ARM_SMMUV3, dev_id: first.id, hwpt_id: parent }).out_viommu_id);
    } catch (error) {
      if (!(error instanceof IommuError) || error.errno !== "EOPNOTSUPP") throw error;
      refuse("EOPNOTSUPP", `${error.reason.message}; and an SMMUv3 cannot be shadowed: it has no caching mode, so a guest does not tell what it maps`, { rule: "IOMMU_VIOMMU_ALLOC" });
    }
    this.stops = this.nested(first, STOPS);
    this.passes = this.nested(first, PASSES);
    this.empty = this.allocate(first, this.newIoas(), {});
    for (const { id, stream } of devices) this.call("IOMMU_VDEVICE_ALLOC", { viommu_id: this.#viommu, dev_id: id, virt_id: stream });
  }

  #identify(device: HostDevice): Identification {
    const info = this.hwInfo(device, INFO_ARM_SMMUV3, INFO_BYTES) ?? refuse("EINVAL", "the device's IOMMU is none of SMMUv3", { argument: "dev_id" });
    // Behind flags and a reserved word (iommu_hw_info_arm_smmuv3).
    const [idr0, idr1, idr2, idr3, idr4, idr5, iidr, aidr] = Array.from({ length: 8 }, (_, i) => info.getUint32(8 + 4 * i, true));
    return { idr0, idr1, idr2, idr3, idr4, idr5, iidr, aidr };
  }

  /** A page table of what a guest's STE says. @throws IommuError EIO for one that a guest may not have */
  nested(device: HostDevice, [low, high]: Words): number {
    const { address, bytes } = this.scratch;
    new BigUint64Array(bytes.buffer, bytes.byteOffset, 2).set([low, high]);
    return this.allocate(device, this.#viommu, { data_type: DATA_ARM_SMMUV3, data_len: STE_BYTES, data_uptr: address });
  }

  /** Commands of the guest, at most `MAX_BATCH`. @throws IommuError EIO */
  invalidate(commands: readonly Words[]): void {
    const { address, bytes } = this.scratch;
    new BigUint64Array(bytes.buffer, bytes.byteOffset, 2 * commands.length).set(commands.flat());
    this.call("IOMMU_HWPT_INVALIDATE", { hwpt_id: this.#viommu, data_uptr: address, data_type: INVALIDATE_ARM_SMMUV3, entry_len: COMMAND_BYTES, entry_num: commands.length });
  }

  /** A descriptor of events of the guest's devices. */
  events(depth: number): number {
    return Number(this.call("IOMMU_VEVENTQ_ALLOC", { viommu_id: this.#viommu, type: VEVENTQ_ARM_SMMUV3, veventq_depth: depth }).out_veventq_fd);
  }
}
