/** What a virtual SMMUv3 does where the host refuses even what always may be asked. */
import { IommuError } from "@iommukit/core";
import { readCapabilities } from "@iommukit/hw-smmu/spec";
import { describe, expect, it } from "vitest";
import type { Program } from "../host/calls.js";
import { HostObjects } from "./host-objects.js";
import { shownTo } from "./identification.js";
import type { GuestUnit } from "./guest-unit.js";
import { VirtualSmmu } from "./virtual-smmu.js";

const DEVICE = { fd: 7, id: 1, stream: 0x18 };

/** A host that answers everything, but refuses the calls named in `refused`. */
function scene() {
  const refused = new Set<string>();
  const calls: string[] = [];
  let next = 1;
  const scratch = new Uint8Array(0x1_0000);
  // What GET_HW_INFO says: IDR0 with stage 1 and AArch64 tables, behind flags and a reserved word.
  new DataView(scratch.buffer).setUint32(8, 0xa, true);
  const program: Program = {
    memory: { map: () => ({ address: 0x1000n, bytes: scratch }) },
    read: () => new Uint8Array(),
    write: () => 0,
    ioctl(_fd, name) {
      calls.push(name);
      if (refused.has(name)) throw new IommuError("EBUSY", { message: "not now", rule: "test" });
      const id = next++;
      return { out_data_type: 2, out_hwpt_id: id, out_viommu_id: id, out_faults_fd: id, out_veventq_fd: id };
    },
  };
  const objects = new HostObjects(program, 3, [], [DEVICE]);
  const unit = { name: "guest", capabilities: readCapabilities(shownTo(objects.identification)), observer: undefined, read: () => 0n, write: () => undefined, translate: () => -1, look: () => undefined, report: () => undefined } as unknown as GuestUnit;
  return { refused, calls, virtual: new VirtualSmmu(unit, { objects, devices: [DEVICE] }) };
}

describe("a host that refuses an attach", () => {
  it("has the device detached, so that nothing of the guest's last configuration is left", () => {
    const { refused, calls, virtual } = scene();
    refused.add("VFIO_DEVICE_ATTACH_IOMMUFD_PT");
    calls.length = 0;
    virtual.control();
    expect(calls).toEqual(["VFIO_DEVICE_ATTACH_IOMMUFD_PT", "VFIO_DEVICE_ATTACH_IOMMUFD_PT", "VFIO_DEVICE_DETACH_IOMMUFD_PT"]);
  });

  it("throws nothing out of a register access, though the device is gone altogether", () => {
    const { refused, virtual } = scene();
    refused.add("VFIO_DEVICE_ATTACH_IOMMUFD_PT").add("VFIO_DEVICE_DETACH_IOMMUFD_PT");
    expect(() => { virtual.control(); }).not.toThrow();
  });
});
