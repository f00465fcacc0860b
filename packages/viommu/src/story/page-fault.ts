/**
 * RFC v2, 4.6: a page request on its way from the device to who can repair it, and the answer back. No virtual IOMMU is modelled here: the
 * VMM does with the calls of the host what one would do, and stands for the guest, too.
 */
import type { Machine, Story, StoryTeller } from "@iommukit/core";
import { decodeStruct, encodeStruct, structLayout } from "@iommukit/core/abi";
import { DmaTestStatus } from "@iommukit/core/devices";
import { HVA, hex, machineOf, outcome, PAGE, Vmm } from "./vmm.js";

const RECORD = structLayout("iommu_hwpt_pgfault").size;
const FAULT_ID_VALID = 4;
const [SUCCESS, INVALID] = [0, 1];
const GUEST_RIDS = [0x18, 0x20];
const [PRESENT, MISSING, NEVER] = [0x1000n, 0x5000n, 0x6000n];

function tell(machine: Machine, teller: StoryTeller): void {
  const vmm = new Vmm(machine);
  const { client, iommufd } = vmm;
  const devices = [0, 1].map((node) => vmm.bind(vmm.open(node)));
  const [, second] = devices;
  const ridOf = new Map(devices.map(({ id }, i) => [id, GUEST_RIDS[i]]));
  const ioas = vmm.ioas();
  const queue = teller.step("1. The VMM asks for a page table whose faults it will see to", (step) => {
    const { out_fault_id, out_fault_fd } = client.ioctl(iommufd, "IOMMU_FAULT_QUEUE_ALLOC");
    for (const { fd, id } of devices) {
      const { out_hwpt_id } = client.ioctl(iommufd, "IOMMU_HWPT_ALLOC", { flags: FAULT_ID_VALID, dev_id: id, pt_id: ioas, fault_id: Number(out_fault_id) });
      vmm.attach(fd, Number(out_hwpt_id));
    }
    vmm.map(ioas, PRESENT, HVA + PRESENT, PAGE);
    step.check("a page that is there needs nobody", vmm.write(second, PRESENT, 0x1111n) === DmaTestStatus.DONE && vmm.load(PRESENT) === 0x1111n);
    return Number(out_fault_fd);
  });
  const take = (): Readonly<Record<string, unknown>> | undefined => {
    const bytes = client.read(queue, RECORD);
    return bytes.length === 0 ? undefined : decodeStruct("iommu_hwpt_pgfault", bytes);
  };
  const answer = (cookie: number, code: number): unknown => client.write(queue, encodeStruct("iommu_hwpt_page_response", { cookie, code }));
  const cookie = teller.step("2. A device asks for a page, and waits", (step) => {
    step.check("it has not written yet", vmm.write(second, MISSING, 0x2222n) === DmaTestStatus.WAITING && vmm.load(MISSING) === 0n);
    step.check("a read without room for it is refused, and loses nothing", outcome(() => client.read(queue, 0)) === "EINVAL");
    const fault = take();
    step.say(`unit to driver: requester and address; driver to VMM: device ${fault?.dev_id}, address ${hex(MISSING)}, cookie ${fault?.cookie}`);
    step.check("the record names the device and the page", fault?.dev_id === second.id && fault.addr === MISSING);
    const rid = ridOf.get(Number(fault?.dev_id));
    step.check(`the VMM tells the guest of its own requester, 0x${rid?.toString(16)}`, rid === GUEST_RIDS[1]);
    step.check("there is one record", take() === undefined);
    return Number(fault?.cookie);
  });
  teller.step("3. The page comes, and the answer goes back the same way", (step) => {
    vmm.map(ioas, MISSING, HVA + MISSING, PAGE);
    step.check("a cookie that nobody gave out is refused", outcome(() => answer(cookie + 1, SUCCESS)) === "EINVAL");
    step.check("so is a code that means nothing", outcome(() => answer(cookie, 7)) === "EINVAL");
    step.check("the device still waits", vmm.status(second) === DmaTestStatus.WAITING);
    answer(cookie, SUCCESS);
    step.say("VMM to driver: cookie and SUCCESS; driver to unit: requester, group and SUCCESS");
    step.check("the device goes on, and its bytes arrive", vmm.status(second) === DmaTestStatus.DONE && vmm.load(MISSING) === 0x2222n);
    step.check("the same answer twice is refused", outcome(() => answer(cookie, SUCCESS)) === "EINVAL");
  });
  teller.step("4. A page that nobody can give", (step) => {
    vmm.write(second, NEVER, 0x3333n);
    answer(Number(take()?.cookie), INVALID);
    step.check("the device is refused, and the guest's memory is as it was", vmm.status(second) === DmaTestStatus.REFUSED && vmm.load(NEVER) === 0n);
  });
}

export const pageFault: Story = {
  name: "page-fault",
  about: "RFC v2 4.6: a page request to user space, and the answer back, by the host's calls alone",
  machine: (iommu) => machineOf("a page request's round trip", iommu, { ats: true, pri: true }),
  tell,
};
