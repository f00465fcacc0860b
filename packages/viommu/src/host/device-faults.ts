/** Faults of a host's device, as IOMMUKIT_DEVICE_FAULTS tells them, in the words of a unit's `translate`. */
import { Access, NO_PASID } from "@iommukit/core";
import { decodeStruct, structLayout } from "@iommukit/core/abi";
import type { Calls, Program } from "./calls.js";

const RECORD_BYTES = structLayout("iommukit_device_fault").size;
/** iommukit_device_fault.flags */
const PASID_VALID = 1;
const LOST_BEFORE = 2;
const TRANSLATION_REQUEST = 4;
/** Records that are taken at once; there is more to do while the descriptor stays readable. */
const BUDGET = 4096;
/** iommu_hwpt_pgfault.perm */
const PERMISSIONS = [[1, Access.READ], [2, Access.WRITE], [4, Access.EXECUTE], [8, Access.PRIVILEGED]] as const;

export interface DeviceFault {
  /** Or `NO_PASID`. */
  readonly pasid: number;
  readonly page: number;
  /** Bits of `Access`. */
  readonly access: number;
  readonly offset: number;
  /** Others were lost before it. */
  readonly afterLoss: boolean;
  /** A request for a translation (ATS), where the host tells. */
  readonly translationRequest: boolean;
}

/** A descriptor of a device's faults. @param device `out_devid` of its bind @throws IommuError */
export function openFaults(calls: Calls, iommufd: number, device: number): number {
  return Number(calls.ioctl(iommufd, "IOMMUKIT_DEVICE_FAULTS", { dev_id: device }).out_faults_fd);
}

/** Faults that wait on a descriptor, in order. */
export function takeFaults(program: Program, fd: number): DeviceFault[] {
  const bytes = program.read(fd, BUDGET * RECORD_BYTES);
  return Array.from({ length: bytes.length / RECORD_BYTES }, (_, i) => {
    const { flags, pasid, perm, addr } = decodeStruct("iommukit_device_fault", bytes.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES));
    const address = BigInt(addr);
    return {
      pasid: (Number(flags) & PASID_VALID) !== 0 ? Number(pasid) : NO_PASID,
      page: Number(address >> 12n),
      access: accessOf(Number(perm)),
      offset: Number(address & 0xfffn),
      afterLoss: (Number(flags) & LOST_BEFORE) !== 0,
      translationRequest: (Number(flags) & TRANSLATION_REQUEST) !== 0,
    };
  });
}

/** iommu_hwpt_pgfault.perm as bits of `Access`. */
export function accessOf(permissions: number): number {
  return PERMISSIONS.reduce((access, [bit, flag]) => access | ((permissions & bit) !== 0 ? flag : 0), 0);
}
