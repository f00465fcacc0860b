/** RFC v2, 4.4: the guest's tables are walked by the host's hardware, on top of the VMM's. The guest is the vendor's own driver. */
import { formatRid, type Machine, Prot, type Story, type StoryParts, type StoryTeller } from "@iommukit/core";
import { DmaTestStatus } from "@iommukit/core/devices";
import { Guest } from "./guest.js";
import { HVA, hex, machineOf, outcome } from "./vmm.js";

const GPA = 0x1000n;
const GIOVA = 0x2000n;
/** enum iommu_hwpt_data_type, iommu_viommu_type */
const DATA_VTD_S1 = 1;
const VIOMMU_ARM_SMMUV3 = 1;
const DATA_BYTES = 24;
const READ_WRITE = Prot.READ | Prot.WRITE;

function tell(machine: Machine, teller: StoryTeller, parts: StoryParts): void {
  const guest = teller.step("1. The VMM gives the guest its memory as a nest parent, and an IOMMU of the host's kind; the guest boots its own driver", (step) => {
    const booted = new Guest(machine, parts);
    booted.vmm.store(GPA, 0x1111n);
    step.say("the guest's driver has programmed registers, tables and queues in the guest's memory; the VMM follows each order on /dev/iommu");
    step.check("the guest's driver blocks its devices until it attaches them", booted.read(0, GPA) === undefined && booted.read(1, GPA) === undefined);
    return booted;
  });
  const [first, second] = guest.known;
  const space = teller.step(`2. The guest maps GIOVA ${hex(GIOVA)} to GPA ${hex(GPA)} for device 2`, (step) => {
    const domain = guest.driver.allocPaging(second, {});
    guest.driver.attach(second, 0, domain);
    domain.map(GIOVA, Number(GPA), 4096, READ_WRITE);
    step.say("the guest wrote a table entry and invalidated: the VMM allocated a page table from it, on the nest parent, and attached it");
    step.check(`device 2 reads at ${hex(GIOVA)} what the guest has at GPA ${hex(GPA)}`, guest.read(1, GIOVA) === 0x1111n);
    step.check("what it writes arrives there", guest.write(1, GIOVA + 8n, 0x2222n) === DmaTestStatus.DONE && guest.vmm.load(GPA + 8n) === 0x2222n);
    step.check("device 1 is blocked as before", guest.read(0, GIOVA) === undefined);
    return domain;
  });
  teller.step("3. The guest unmaps: its invalidation is handed on, and the next access is the guest's own fault", (step) => {
    guest.faults.length = 0;
    const heard = guest.vmm.callsOf(() => space.unmap(GIOVA, 4096));
    step.check("the host heard of it by one IOMMU_HWPT_INVALIDATE", heard.join() === "IOMMU_HWPT_INVALIDATE");
    step.check("the device is refused", guest.read(1, GIOVA) === undefined);
    for (const fault of guest.faults) step.say(`the guest's driver read from its unit: ${fault}`);
    step.check("the guest's own unit has recorded it, once, with the guest's requester and address", guest.faults.length === 1 && [hex(GIOVA), formatRid(second.rid)].every((part) => guest.faults[0].includes(part)));
  });
  teller.step("4. The parent has the last word", (step) => {
    const beyond = 0x4000_0000;
    space.map(GIOVA, beyond, 4096, READ_WRITE);
    step.check(`the guest maps what it has not: GPA ${hex(BigInt(beyond))}. The access is refused`, guest.read(1, GIOVA) === undefined);
    guest.driver.detach(second, 0);
    guest.driver.detach(first, 0);
    space.free();
    step.check("after the detach device 2 is blocked", guest.read(1, GIOVA) === undefined);
  });
  teller.step("5. What the VMM may not do itself", (step) => {
    const { vmm, devices: [, device] } = guest;
    const plain = vmm.hwpt(device, vmm.ioas(), {});
    const carry = (): unknown =>
      machine.spec.iommus[0].type === "vtd"
        ? vmm.hwpt(device, plain, { data_type: DATA_VTD_S1, data_len: DATA_BYTES, data_uptr: HVA })
        : vmm.client.ioctl(vmm.iommufd, "IOMMU_VIOMMU_ALLOC", { type: VIOMMU_ARM_SMMUV3, dev_id: device.id, hwpt_id: plain });
    step.check("a page table that was not made a parent carries nothing nested", outcome(carry) === "EINVAL");
    step.check("nothing is invalidated but what is nested", outcome(() => vmm.client.ioctl(vmm.iommufd, "IOMMU_HWPT_INVALIDATE", { hwpt_id: plain, data_uptr: HVA, data_type: 0, entry_len: DATA_BYTES, entry_num: 1 })) === "EINVAL");
  });
}

export const nested: Story = {
  name: "nested",
  about: "RFC v2 4.4: a guest's own driver, whose tables the host's hardware walks",
  machine: (iommu) => machineOf("hardware nesting", iommu),
  tell,
};
