/**
 * What has to be looked at before devices are shown to a guest whose IOMMU keeps one PASID table per requester: devices that share a PASID
 * number space are one requester on the host's bus, and must be one to the guest (RFC v2's list, R19 and R20).
 */
import { formatRid, refuse } from "@iommukit/core";

export interface ShownDevice {
  /** `out_devid` of its bind. */
  readonly id: number;
  /** Its requester id in the guest. */
  readonly rid: number;
  /** Id of its PASID number space, as VFIO_DEVICE_GET_INFO tells it of mediated devices; absent: its PASIDs are its own. */
  readonly pasidSpace?: number | undefined;
}

/** @throws IommuError EINVAL naming two devices that cannot be shown as they are */
export function checkTopology(devices: readonly ShownDevice[]): void {
  const shown = new Map<number, ShownDevice>();
  for (const device of devices) {
    if (device.pasidSpace === undefined) continue;
    const first = shown.get(device.pasidSpace) ?? device;
    shown.set(device.pasidSpace, first);
    if (first.rid === device.rid) continue;
    const places = `device ${first.id} is ${formatRid(first.rid)} to the guest, device ${device.id} is ${formatRid(device.rid)}`;
    refuse("EINVAL", `${places}, and both use PASID number space ${device.pasidSpace}`, { argument: "rid", rule: "RFC v2: one requester of the host is one requester of the guest" });
  }
}
