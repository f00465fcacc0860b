/** RFC v2, 4.4: the guest's tables are walked by the host's hardware, on top of the VMM's. The guest is the vendor's own driver. */
import { type Machine, Prot, type Story, type StoryParts, type StoryTeller } from "@iommukit/core";
import { DmaTestStatus } from "@iommukit/core/devices";
import { Guest } from "./guest.js";
import { hex, machineOf } from "./vmm.js";

const GPA = 0x1000n;
const GIOVA = 0x2000n;
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
    space.unmap(GIOVA, 4096);
    step.check("the device is refused", guest.read(1, GIOVA) === undefined);
    for (const fault of guest.faults) step.say(`the guest's driver read from its unit: ${fault}`);
    step.check("the guest's own unit has recorded it, once", guest.faults.length === 1);
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
}

export const nested: Story = {
  name: "nested",
  about: "RFC v2 4.4: a guest's own driver, whose tables the host's hardware walks",
  machine: (iommu) => machineOf("hardware nesting", iommu),
  tell,
};
