/** RFC v2, 4.2: the guest turns a virtual IOMMU on for one device. The VMM follows its tables, and builds the shadow of both steps itself. */
import type { Machine, Story, StoryTeller } from "@iommukit/core";
import { DmaTestStatus } from "@iommukit/core/devices";
import { begin, HVA, hex, machineOf, PAGE, RAM, Vmm } from "./vmm.js";

const GPA = 0x1000n;
const GIOVA = 0x2000n;

function tell(machine: Machine, teller: StoryTeller): void {
  const vmm = new Vmm(machine);
  const pages = Number(RAM / PAGE);
  const { guest, first, second } = begin(vmm, teller, [[GPA, 0x1111n], [GIOVA, 0x2222n]]);
  const shadow = teller.step("2. The guest turns its IOMMU on for device 2: the VMM moves it to a space of its own", (step) => {
    vmm.detach(second.fd);
    step.check("between detach and attach its DMA is blocked", vmm.isBlocked(second, GPA));
    const ioas = vmm.ioas();
    vmm.attach(second.fd, ioas);
    step.check("the new space is empty", vmm.isBlocked(second, GPA) && vmm.isBlocked(second, GIOVA));
    step.check("device 1 did not notice", vmm.read(first, GPA) === 0x1111n);
    return ioas;
  });
  teller.step(`3. The guest maps GIOVA ${hex(GIOVA)} to GPA ${hex(GPA)}: the VMM looks up the HVA, and maps`, (step) => {
    vmm.map(shadow, GIOVA, HVA + GPA, PAGE);
    step.say(`GPA ${hex(GPA)} is HVA ${hex(HVA + GPA)}: the shadow leads from ${hex(GIOVA)} there`);
    step.check(`device 2 reads at ${hex(GIOVA)} what the guest has at GPA ${hex(GPA)}`, vmm.read(second, GIOVA) === 0x1111n);
    step.check(`what it writes arrives there, and not at GPA ${hex(GIOVA)}`, vmm.write(second, GIOVA + 8n, 0x3333n) === DmaTestStatus.DONE && vmm.load(GPA + 8n) === 0x3333n && vmm.load(GIOVA + 8n) === 0n);
    step.check(`it sees nothing else: GPA ${hex(GPA)} is no address of its space`, vmm.isBlocked(second, GPA));
    step.check(`device 1 reads at ${hex(GIOVA)} what the guest has at that GPA`, vmm.read(first, GIOVA) === 0x2222n);
    step.check(`the page is charged twice, as the RFC expected: ${vmm.pinned} pages for ${pages}`, vmm.pinned === pages + 1);
  });
  teller.step("4. IOMMU_IOAS_COPY makes the same shadow, with one pin", (step) => {
    vmm.unmap(shadow, GIOVA, PAGE);
    step.check("the guest unmaps: device 2 is refused", vmm.isBlocked(second, GIOVA));
    vmm.copy(guest, GPA, shadow, GIOVA, PAGE);
    step.check("after the copy it reads the page", vmm.read(second, GIOVA) === 0x1111n);
    step.check(`the page is charged once: ${vmm.pinned} pages`, vmm.pinned === pages);
  });
  teller.step("5. The guest turns its IOMMU off: one call puts the device back, without a detach", (step) => {
    vmm.attach(second.fd, guest);
    step.check(`device 2 reads GPA ${hex(GIOVA)} again at that address`, vmm.read(second, GIOVA) === 0x2222n);
    step.check("device 1 did not notice", vmm.read(first, GPA) === 0x1111n);
  });
}

export const twoSpaces: Story = {
  name: "two-spaces",
  about: "RFC v2 4.2: a device behind a guest's IOMMU, whose shadow the VMM builds",
  machine: (iommu) => machineOf("two address spaces", iommu),
  tell,
};
