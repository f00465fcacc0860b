/**
 * What a virtual machine monitor has to look at before it shows devices to a guest whose IOMMU keeps one PASID table per requester: devices
 * that share a PASID number space are one requester on the host's bus, and must be one to the guest (RFC v2's list, R19 and R20).
 */
import { formatRid, refuse } from "@iommukit/core";

export interface ShownDevice {
  readonly name: string;
  /** Requester id in the guest. */
  readonly guestRid: number;
  /** `id` of its PASID number space; undefined: it has no PASIDs. */
  readonly pasidSpace: number | undefined;
}

/** @throws IommuError EINVAL naming two devices that cannot be shown as they are */
export function checkTopology(devices: readonly ShownDevice[]): void {
  const shown = new Map<number, ShownDevice>();
  for (const device of devices) {
    if (device.pasidSpace === undefined) continue;
    const first = shown.get(device.pasidSpace) ?? device;
    shown.set(device.pasidSpace, first);
    if (first.guestRid === device.guestRid) continue;
    const places = `${first.name} is ${formatRid(first.guestRid)} to the guest, ${device.name} is ${formatRid(device.guestRid)}`;
    refuse("EINVAL", `${places}, and both use PASID number space ${device.pasidSpace}`, { argument: "guestRid", rule: "RFC v2: one requester of the host is one requester of the guest" });
  }
}
