/** RFC v2, 4.5: a process of the guest shares its address space with a device, by a PASID. The guest is the vendor's own driver. */
import { type Machine, Prot, type Story, type StoryParts, type StoryTeller } from "@iommukit/core";
import { DmaTestStatus } from "@iommukit/core/devices";
import { Guest, type Mode, modeOf, MODES } from "./guest.js";
import { hex, machineOf, outcome } from "./vmm.js";

const [GIOVA, GVA] = [0x2000n, 0x7000_0000n];
const [KERNEL, PROCESS, OTHER] = [0x1000n, 0x5000n, 0x6000n];
const PASID = 5;
/** vfio_device_attach_iommufd_pt.flags */
const ATTACH_PASID = 1;
const READ_WRITE = Prot.READ | Prot.WRITE;

function tell(machine: Machine, teller: StoryTeller, parts: StoryParts): void {
  const mode = modeOf(parts, MODES);
  const guest = teller.step("1. The guest boots; its kernel drives both devices by address spaces without PASID", (step) => {
    const booted = new Guest(machine, parts, { mode });
    step.say(`the guest has ${MODES[mode]}`);
    [KERNEL, PROCESS, OTHER].forEach((gpa, i) => booted.vmm.store(gpa, BigInt(0x1111 * (i + 1))));
    for (const device of booted.known) {
      const domain = booted.driver.allocPaging(device, { pasid: true });
      booted.driver.attach(device, 0, domain);
      domain.map(GIOVA, Number(KERNEL), 4096, READ_WRITE);
    }
    step.check("both read the kernel's page", [0, 1].every((device) => booted.read(device, GIOVA) === 0x1111n));
    return booted;
  });
  const [first] = guest.known;
  const process = guest.driver.allocPaging(first, { pasid: true });
  teller.step(`2. A process opens device 1: the guest binds its tables to PASID ${PASID}`, (step) => {
    process.map(GVA, Number(PROCESS), 4096, READ_WRITE);
    guest.driver.attach(first, PASID, process);
    step.say(`who owns the PASID table decides what the host hears: ${heard(mode, machine)}`);
    step.check(`by PASID ${PASID} device 1 reads the process's page at ${hex(GVA)}`, guest.read(0, GVA, PASID) === 0x2222n);
    step.check("what it writes is the process's", guest.write(0, GVA + 8n, 0x4444n, PASID) === DmaTestStatus.DONE && guest.vmm.load(PROCESS + 8n) === 0x4444n);
    step.check("without a PASID it is where it was", guest.read(0, GIOVA) === 0x1111n && guest.read(0, GVA) === undefined);
    step.check(`device 2 has no PASID ${PASID}`, guest.read(1, GVA, PASID) === undefined && guest.read(1, GIOVA) === 0x1111n);
  });
  teller.step("3. The process's memory changes: its invalidation goes to the host", (step) => {
    process.unmap(GVA, 4096);
    guest.faults.length = 0;
    step.check("what it unmapped is refused", guest.read(0, GVA, PASID) === undefined);
    step.check("and the guest's own unit has recorded it", guest.faults.length === 1);
    for (const fault of guest.faults) step.say(`the guest's driver read from its unit: ${fault}`);
    process.map(GVA, Number(OTHER), 4096, READ_WRITE);
    step.check("what it maps there is read", guest.read(0, GVA, PASID) === 0x3333n);
  });
  teller.step("4. Another process takes the PASID, then nobody", (step) => {
    const next = guest.driver.allocPaging(first, { pasid: true });
    next.map(GVA, Number(KERNEL), 4096, Prot.READ);
    guest.driver.attach(first, PASID, next);
    step.check("the same PASID leads to the other one's page, with its rights", guest.read(0, GVA, PASID) === 0x1111n && guest.write(0, GVA, 0xbadn, PASID) === DmaTestStatus.REFUSED);
    guest.driver.detach(first, PASID);
    step.check("after the unbind it leads nowhere", guest.read(0, GVA, PASID) === undefined);
    step.check("the kernel's space did not notice", guest.read(0, GIOVA) === 0x1111n);
  });
  teller.step("5. What the VMM may not attach by a PASID", (step) => {
    const { vmm, devices: [device] } = guest;
    const ioas = vmm.ioas();
    const attach = (pt_id: number): string => outcome(() => vmm.client.ioctl(device.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { flags: ATTACH_PASID, pasid: PASID + 1, pt_id }));
    step.check("an address space, whose page table the kernel would choose", attach(ioas) === "EINVAL");
    step.check("a page table that was not allocated for PASIDs", attach(vmm.hwpt(device, ioas, {})) === "EINVAL");
  });
}

function heard(mode: Mode, machine: Machine): string {
  if (mode !== "nested") return "the VMM attaches a shadow by PASID";
  return machine.spec.iommus[0].type === "vtd" ? "the VMM attaches a page table by PASID" : "the host's hardware reads the guest's context descriptors";
}

export const guestSva: Story = {
  name: "guest-sva",
  about: "RFC v2 4.5: a process of the guest shares its address space with a device",
  modes: () => MODES,
  machine: (iommu) => machineOf("guest SVA", iommu),
  tell,
};
