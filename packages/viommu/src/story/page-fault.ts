/**
 * RFC v2, 4.6: a page request on its way from the device to a program of the guest, by the guest's own /dev/iommu, and the answer back. For a guest with
 * an SMMUv3 the uAPI has no way: on that hardware the guest has a VT-d, which is shadowed.
 */
import type { Machine, Story, StoryParts, StoryTeller } from "@iommukit/core";
import { decodeStruct, encodeStruct, structLayout } from "@iommukit/core/abi";
import { DmaTestStatus } from "@iommukit/core/devices";
import { Guest, GUEST_RIDS, modeOf, MODES } from "./guest.js";
import { hex, machineOf, outcome, PAGE, Vmm } from "./vmm.js";

const RECORD = structLayout("iommu_hwpt_pgfault").size;
const FAULT_ID_VALID = 4;
const [SUCCESS, INVALID] = [0, 1];
const PAGES = 8;
const [PRESENT, MISSING, NEVER] = [0x1000n, 0x5000n, 0x6000n];
/** Where the program has memory for them. */
const [OWN, FOUND] = [0n, 0x2000n];

/** To a guest's SMMUv3 the uAPI has no way. */
function modes(type: string): Readonly<Record<string, string>> {
  const { nested, ...shadows } = MODES;
  return type === "vtd" ? { nested, ...shadows } : shadows;
}

function tell(machine: Machine, teller: StoryTeller, parts: StoryParts): void {
  const mode = modeOf(parts, modes(machine.spec.iommus[0].type));
  const { inside } = new Guest(machine, parts, { pageRequests: true, mode });
  const program = new Vmm(inside.machine, 0);
  const { client, iommufd } = program;
  const devices = [0, 1].map((node) => program.bind(program.open(node)));
  const memory = inside.allocate(client, PAGES);
  const [, second] = devices;
  const ioas = program.ioas();
  const word = (offset: bigint): bigint => new DataView(memory.bytes.buffer, memory.bytes.byteOffset).getBigUint64(Number(offset), true);
  const queue = teller.step("1. A program of the guest asks the guest's kernel for a page table whose faults it will see to", (step) => {
    step.say(`the guest has ${MODES[mode]}; the VMM gives its own page table a fault queue, too`);
    const { out_fault_id, out_fault_fd } = client.ioctl(iommufd, "IOMMU_FAULT_QUEUE_ALLOC");
    for (const { fd, id } of devices) {
      const { out_hwpt_id } = client.ioctl(iommufd, "IOMMU_HWPT_ALLOC", { flags: FAULT_ID_VALID, dev_id: id, pt_id: ioas, fault_id: Number(out_fault_id) });
      program.attach(fd, Number(out_hwpt_id));
    }
    program.map(ioas, PRESENT, memory.address + OWN, PAGE);
    step.check("a page that is there needs nobody", program.write(second, PRESENT, 0x1111n) === DmaTestStatus.DONE && word(OWN) === 0x1111n);
    return Number(out_fault_fd);
  });
  const take = (): Readonly<Record<string, unknown>> | undefined => {
    const bytes = client.read(queue, RECORD);
    return bytes.length === 0 ? undefined : decodeStruct("iommu_hwpt_pgfault", bytes);
  };
  const answer = (cookie: number, code: number): unknown => client.write(queue, encodeStruct("iommu_hwpt_page_response", { cookie, code }));
  const cookie = teller.step("2. A device asks for a page, and waits", (step) => {
    step.check("it has not written yet", program.write(second, MISSING, 0x2222n) === DmaTestStatus.WAITING && memory.bytes.subarray(Number(FOUND)).every((byte) => byte === 0));
    inside.service();
    step.check("a read without room for the record is refused, and loses nothing", outcome(() => client.read(queue, 0)) === "EINVAL");
    const fault = take();
    step.say("device to the host's unit, to its driver, to the VMM: a record of the host's device, with a cookie");
    step.say(`VMM to the guest's unit: requester ${hex(BigInt(GUEST_RIDS[1]))} asks for the page`);
    step.say(`the guest's unit to its driver, by the page request queue and an interrupt; to the program: device ${second.id} of the guest, with another cookie`);
    step.check("the program reads one record, which names its device and the page", fault?.dev_id === second.id && fault.addr === MISSING && take() === undefined);
    return Number(fault?.cookie);
  });
  teller.step("3. The page comes, and the answer goes back the same way", (step) => {
    program.map(ioas, MISSING, memory.address + FOUND, PAGE);
    step.check("a cookie that nobody gave out is refused", outcome(() => answer(cookie + 1, SUCCESS)) === "EINVAL");
    step.check("so is a code that means nothing", outcome(() => answer(cookie, 7)) === "EINVAL");
    step.check("the device still waits", program.status(second) === DmaTestStatus.WAITING);
    answer(cookie, SUCCESS);
    step.say("program to the guest's driver: cookie and SUCCESS; driver to the guest's unit: a page group response");
    step.say("VMM to the host's driver: the cookie of the host's record, and SUCCESS; driver to unit, to the device");
    step.check("the device goes on, and its bytes arrive", program.status(second) === DmaTestStatus.DONE && word(FOUND) === 0x2222n);
    step.check("the same answer twice is refused", outcome(() => answer(cookie, SUCCESS)) === "EINVAL");
  });
  teller.step("4. A page that nobody can give", (step) => {
    program.write(second, NEVER, 0x3333n);
    inside.service();
    answer(Number(take()?.cookie), INVALID);
    step.check("the device is refused, and nothing was written", program.status(second) === DmaTestStatus.REFUSED && word(OWN) === 0x1111n && word(FOUND) === 0x2222n);
  });
}

export const pageFault: Story = {
  name: "page-fault",
  about: "RFC v2 4.6: a page request to a program of the guest, and the answer back",
  modes,
  machine: (iommu) => machineOf("a page request's round trip", iommu, { ats: true, pri: true }),
  tell,
};
