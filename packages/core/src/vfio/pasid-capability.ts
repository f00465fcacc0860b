/**
 * What a device's user may do with PASIDs, in the capability chain of VFIO_DEVICE_GET_INFO (RFC v2, 2.2). No kernel has it: the proposal's id
 * 5 went to another capability, and this one is from a range that Linux does not use.
 */

/** VFIO_DEVICE_INFO_CAP_PASID of this project, version 1. */
export const PASID_CAPABILITY = 0x4d55;

/** As RFC v2, 1.4 has it. */
export interface PasidAbilities {
  /** Flags: 1 delegated, 2 the CPU supplies PASIDs, 4 and they need translation per virtual machine. Undefined: one address space. */
  readonly flags: number | undefined;
  /** Id of the PASID number space: devices of one are one requester (R20). */
  readonly space: number;
}

/** Header (id, version, next), flags, number space. */
export function pasidCapability({ flags, space }: PasidAbilities): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint16(0, PASID_CAPABILITY, true);
  view.setUint16(2, 1, true);
  view.setUint32(8, flags ?? 0, true);
  view.setUint32(12, space, true);
  return new Uint8Array(view.buffer);
}
