/**
 * RFC v2, 4.3: the guest's GIOVA space is a child of its memory's space, and the kernel composes the two; then two spaces below one dummy root
 * (named in the text of 4.3, and never written out). No kernel has either: `IOMMUKIT_IOAS_NEST`.
 */
import type { Machine, Story, StoryTeller } from "@iommukit/core";
import { DmaTestStatus } from "@iommukit/core/devices";
import { begin, HVA, hex, machineOf, outcome, PAGE, RAM, Vmm } from "./vmm.js";

const GPA = 0x1000n;
const GIOVA = 0x2000n;
const OTHER = 0x3000n;

function tell(machine: Machine, teller: StoryTeller): void {
  const vmm = new Vmm(machine);
  const pages = Number(RAM / PAGE);
  const { guest, first, second } = begin(vmm, teller, [[GPA, 0x1111n], [OTHER, 0x3333n]]);
  const child = teller.step("2. The guest turns its IOMMU on for device 2: the VMM makes a child of the guest's space, and attaches it", (step) => {
    const ioas = vmm.nest(guest);
    vmm.attach(second.fd, ioas);
    step.check("the child is empty", vmm.isBlocked(second, GIOVA));
    step.check("device 1 did not notice", vmm.read(first, GPA) === 0x1111n);
    return ioas;
  });
  teller.step(`3. The guest maps GIOVA ${hex(GIOVA)} to GPA ${hex(GPA)}: the VMM says just that, and the kernel composes`, (step) => {
    vmm.map(child, GIOVA, GPA, PAGE);
    step.say(`MAP of the child: iova ${hex(GIOVA)}, user_va ${hex(GPA)}, an address of the parent; the kernel leads ${hex(GIOVA)} to HVA ${hex(HVA + GPA)}`);
    step.check(`device 2 reads at ${hex(GIOVA)} what the guest has at GPA ${hex(GPA)}`, vmm.read(second, GIOVA) === 0x1111n);
    step.check("what it writes arrives there", vmm.write(second, GIOVA + 8n, 0x4444n) === DmaTestStatus.DONE && vmm.load(GPA + 8n) === 0x4444n);
    step.check(`pages are charged once, on the root: ${vmm.pinned}`, vmm.pinned === pages);
  });
  teller.step("4. The guest's memory changes below: the child follows", (step) => {
    vmm.unmap(guest, 0n, RAM);
    step.check("what the parent has no more, the child has no more", vmm.isBlocked(second, GIOVA));
    vmm.map(guest, GPA, HVA + OTHER, PAGE);
    step.check(`GPA ${hex(GPA)} is other memory now, and GIOVA ${hex(GIOVA)} is too`, vmm.read(second, GIOVA) === 0x3333n);
    vmm.unmap(child, GIOVA, PAGE);
    step.check("an unmap of the child leaves the parent", vmm.isBlocked(second, GIOVA) && vmm.read(first, GPA) === 0x3333n);
    step.check("a parent does not go before its child", outcome(() => vmm.destroy(guest)) === "EBUSY");
  });
  teller.step("5. Two spaces below one dummy root: memory that both have is pinned and charged once", (step) => {
    const root = vmm.dummyRoot();
    const spaces = [vmm.nest(root), vmm.nest(root)];
    step.check("no device uses the root itself", outcome(() => vmm.attach(first.fd, root)) === "EOPNOTSUPP");
    [first, second].forEach(({ fd }, i) => vmm.attach(fd, spaces[i]));
    const before = vmm.pinned;
    for (const space of spaces) vmm.map(space, 0n, HVA, RAM);
    step.say(`the root is the program's memory at its own addresses: user_va is HVA ${hex(HVA)} again`);
    step.check("both devices read the same page", [first, second].every((device) => vmm.read(device, GPA) === 0x1111n));
    step.check(`${vmm.pinned - before} pages more for ${pages} that are mapped twice`, vmm.pinned - before === pages);
    vmm.unmap(spaces[0], 0n, RAM);
    step.check("one of them unmaps: the other has its memory still", vmm.isBlocked(first, GPA) && vmm.read(second, GPA) === 0x1111n);
    vmm.unmap(spaces[1], 0n, RAM);
    step.check("the last one unmaps: nothing of it is pinned", vmm.pinned === before);
  });
}

export const softwareNesting: Story = {
  name: "software-nesting",
  about: "RFC v2 4.3: a guest's IOMMU, whose shadow the kernel keeps",
  machine: (iommu) => machineOf("software nesting", iommu),
  tell,
};
