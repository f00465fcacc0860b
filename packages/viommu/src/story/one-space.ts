/** RFC v2, 4.1: two devices of a guest without a virtual IOMMU share one address space, which is the guest's memory. */
import type { Machine, Story, StoryTeller } from "@iommukit/core";
import { DmaTestStatus } from "@iommukit/core/devices";
import { HVA, hex, machineOf, outcome, PAGE, RAM, Vmm } from "./vmm.js";

const GPA = 0x1000n;

function tell(machine: Machine, teller: StoryTeller): void {
  const vmm = new Vmm(machine);
  const first = teller.step("1. Bind: the VMM tells the host which program the device is of", (step) => {
    const fd = vmm.open(0);
    step.check("before, its registers cannot be read", outcome(() => vmm.client.pread(fd, 0n, 4)) === "EINVAL");
    step.check("before, it cannot be attached", outcome(() => vmm.attach(fd, vmm.ioas())) === "EINVAL");
    const device = vmm.bind(fd);
    step.check("after, they can be", outcome(() => vmm.client.pread(fd, 0n, 4)) === "success");
    step.check("its DMA is blocked until it is attached", vmm.isBlocked(device, GPA));
    return device;
  });
  const space = teller.step("2. One address space, whose addresses are the guest's own", (step) => {
    const ioas = vmm.ioas();
    vmm.attach(first.fd, ioas);
    vmm.map(ioas, 0n, HVA, RAM);
    step.say(`the VMM maps the guest's memory: GPA 0 is HVA ${hex(HVA)}, ${RAM / PAGE} pages are pinned`);
    vmm.store(GPA, 0x1111n);
    step.check(`the device reads at GPA ${hex(GPA)} what the guest wrote there`, vmm.read(first, GPA) === 0x1111n);
    step.check("the guest reads what the device wrote", vmm.write(first, GPA + 8n, 0x2222n) === DmaTestStatus.DONE && vmm.load(GPA + 8n) === 0x2222n);
    return ioas;
  });
  const second = teller.step("3. A second device joins: nothing is mapped again", (step) => {
    const before = vmm.pinned;
    const device = vmm.bind(vmm.open(1));
    vmm.attach(device.fd, space);
    step.check("it reads the same bytes", vmm.read(device, GPA) === 0x1111n);
    step.check(`each page is pinned once: ${before} before, ${vmm.pinned} after`, before === Number(RAM / PAGE) && vmm.pinned === before);
    return device;
  });
  teller.step("4. What is mapped or unmapped now, both devices see", (step) => {
    const more = vmm.client.memory.map(Number(PAGE));
    more.bytes[0] = 0x33;
    vmm.map(space, RAM, more.address, PAGE);
    step.check("both read the new page", [first, second].every((device) => vmm.read(device, RAM) === 0x33n));
    vmm.unmap(space, RAM, PAGE);
    step.check("both are refused once it is gone", [first, second].every((device) => vmm.isBlocked(device, RAM)));
  });
  teller.step("5. Closing the device is all that it takes to give it back", (step) => {
    const other = new Vmm(machine);
    const fd = other.open(1);
    step.check("while it is bound, another program cannot have it", outcome(() => other.bind(fd)) === "EINVAL");
    vmm.client.close(second.fd);
    const device = other.bind(fd);
    step.check("after close(2) another program binds it, and it reaches no memory", other.isBlocked(device, GPA));
    step.check("the first device works on", vmm.read(first, GPA) === 0x1111n);
  });
}

export const oneSpace: Story = {
  name: "one-space",
  about: "RFC v2 4.1: two devices in one address space, the guest's memory",
  machine: (iommu) => machineOf("one address space", iommu),
  tell,
};
