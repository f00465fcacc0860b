/** A guest of a guest: what its driver does, and what that makes each below it do. */
import { type Machine, Prot, type Story, type StoryParts, type StoryTeller } from "@iommukit/core";
import { DmaTestStatus } from "@iommukit/core/devices";
import { Guest } from "./guest.js";
import { hex, machineOf, outcome, Vmm } from "./vmm.js";

const IOVA = 0x2000n;
/** Of the inner guest. */
const DATA = 0x180_0000;
const RID = 0x30;
const READ_WRITE = Prot.READ | Prot.WRITE;

/** By kind of the host's unit: what the guest has, and what its guest has. */
const SHOWN = {
  vtd: { outer: "nesting", inner: "nested", about: "a VT-d that nests, so that its guest's tables are walked by the host's hardware, on a shadow of the guest's second stage" },
  smmuv3: { outer: "nested", inner: "shadowed", about: "an SMMUv3 without a second stage, so that its guest has a VT-d, whose tables the guest keeps again" },
} as const;

function tell(machine: Machine, teller: StoryTeller, parts: StoryParts): void {
  const shown = machine.spec.iommus[0].type === "vtd" ? SHOWN.vtd : SHOWN.smmuv3;
  const [outer, program] = teller.step("1. The VMM runs a guest", (step) => {
    const guest = new Guest(machine, parts, { mode: shown.outer });
    step.say(`it has ${shown.about}`);
    const inside = new Vmm(guest.inside.machine, 0);
    step.check("a program of it finds /dev/iommu and a device's file there, as on any machine", outcome(() => inside.open(1)) === "success");
    return [guest, inside];
  });
  const inner = teller.step("2. A program of the guest runs a guest", (step) => {
    const guest = outer.guestOf(program, parts, shown.inner, RID);
    step.say("its memory is the program's, which is the guest's, which is the VMM's, which is the host's");
    guest.machine.memory.writeU64(DATA, 0x1111n);
    step.check("its driver blocks its device until it attaches it", outer.read(0, IOVA) === undefined);
    guest.service();
    return guest;
  });
  const read = (): bigint | undefined => {
    const value = outer.read(0, IOVA);
    inner.service();
    return value;
  };
  const heard = (run: () => void): readonly [ofGuest: readonly string[], ofHost: readonly string[]] => {
    let ofHost: readonly string[] = [];
    const ofGuest = program.callsOf(() => {
      ofHost = outer.vmm.callsOf(run);
    });
    return [ofGuest, ofHost];
  };
  const [device] = inner.devices;
  const domain = inner.driver.allocPaging(device, {});
  teller.step(`3. The inner guest maps IOVA ${hex(IOVA)} for the device`, (step) => {
    inner.driver.attach(device, 0, domain);
    const [ofGuest, ofHost] = heard(() => domain.map(IOVA, DATA, 4096, READ_WRITE));
    step.say(`the guest's /dev/iommu heard: ${ofGuest.join(", ") || "nothing"}; the host's: ${ofHost.join(", ") || "nothing"}`);
    step.check("the device reads what the inner guest has there", read() === 0x1111n);
    step.check("what it writes arrives there, through the tables of all of them", outer.write(0, IOVA + 8n, 0x2222n) === DmaTestStatus.DONE && inner.machine.memory.readU64(DATA + 8) === 0x2222n);
  });
  teller.step("4. It unmaps: the invalidation goes down, the fault comes up", (step) => {
    const [ofGuest, ofHost] = heard(() => domain.unmap(IOVA, 4096));
    step.say(`the guest's /dev/iommu heard: ${ofGuest.join(", ")}; the host's: ${ofHost.join(", ")}`);
    step.check("each heard of it", ofGuest.length > 0 && ofHost.length > 0);
    for (const { faults } of [outer, inner]) faults.length = 0;
    step.check("the device is refused", read() === undefined);
    for (const fault of outer.faults) step.say(`the guest's driver read from its unit: ${fault}`);
    for (const fault of inner.faults) step.say(`the inner guest's driver read from its own: ${fault}`);
    step.check("each unit has recorded it, once, for the requester that its driver knows", outer.faults.length === 1 && inner.faults.length === 1);
  });
  teller.step("5. Who is below has the last word", (step) => {
    domain.map(IOVA, DATA, 4096, READ_WRITE);
    step.check("mapped again, the page is read", read() === 0x1111n);
    outer.driver.detach(outer.known[0], 0);
    step.check("the guest's driver takes the device away: the inner guest's tables lead nowhere", read() === undefined);
  });
}

export const guestInGuest: Story = {
  name: "guest-in-guest",
  about: "a guest of a guest with an IOMMU of its own: what each below it is made to do",
  machine: (iommu) => machineOf("a guest in a guest", iommu),
  tell,
};
