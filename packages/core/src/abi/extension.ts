/**
 * What iommukit adds to Linux's interface, because RFC v2 of /dev/iommu wants it and no kernel has it. Numbers from 0xf0 on lie behind
 * all of Linux's (iommufd ends at 0x94, its test command is 0xa0); a program asks whether they are there by using them: ENOTTY.
 */
import type { IoctlRow } from "./ioctls.js";
import { type StructLayout, structs } from "./layout.js";

export const EXTENSION_STRUCTS: readonly StructLayout[] = structs([
  ["iommukit_access_fault_queue", "u32 size; u32 flags; u32 access_id; u32 fault_id"],
  ["iommukit_ioas_nest", "u32 size; u32 flags; u32 parent_ioas_id; u32 out_ioas_id"],
  ["iommukit_device_faults", "u32 size; u32 flags; u32 dev_id; u32 out_faults_fd"],
  ["iommukit_device_fault", "u32 dev_id; u32 flags; u32 pasid; u32 perm; u64 addr; u64 __reserved"],
]);

export const EXTENSION_IOCTLS: readonly IoctlRow[] = [
  { name: "IOMMUKIT_ACCESS_FAULT_QUEUE", request: 0x3bf0, node: "iommufd", struct: "iommukit_access_fault_queue", minSize: 16 },
  { name: "IOMMUKIT_DEVICE_FAULTS", request: 0x3bf1, node: "iommufd", struct: "iommukit_device_faults", minSize: 16 },
  { name: "IOMMUKIT_IOAS_NEST", request: 0x3bf2, node: "iommufd", struct: "iommukit_ioas_nest", minSize: 16 },
];
