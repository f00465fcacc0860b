/**
 * The question that this project began with, as it was asked on the list of "[RFC v2] /dev/iommu uAPI proposal" in July 2021: two
 * mediated devices of one parent are in one guest, and one of them faults. Who may tell which?
 */
import { IommuError, type IommuSpec, type Machine, type MachineSpec, type Story, type StoryTeller } from "@iommukit/core";
import { type VirtualDsa, virtualDsa } from "../adi/index.js";
import { Status } from "../dsa/spec/completion.js";
import { Flag } from "../dsa/spec/descriptor.js";
import { CopyChannel } from "../guest/copy.js";
import { type Adi, Guest, move, recordStatus } from "../guest/dsa.js";
import { enqcmd, VirtualMachine } from "../pasid/index.js";
import { DescriptorStatus } from "../software/index.js";

const PARENT = "0000:00:05.0";
const uuid = (n: number): string => `5eed0000-0000-4000-8000-00000000000${n}`;
const [COPY_A, COPY_B, DSA_A, DSA_B, ENQ_A, ENQ_B] = [1, 2, 3, 4, 5, 6].map(uuid);
const [RING, SOURCE, TARGET, RECORD, MISSING] = [0x1_0000n, 0x2_0000n, 0x3_0000n, 0x4_0000n, 0x8_0000n];
const MSR_VALID = 0x8000_0000;

function machine(iommu: IommuSpec): MachineSpec {
  return {
    name: "two mediated devices of one parent",
    memory: { size: "128MiB" },
    iommus: [iommu],
    devices: [{ model: "dsa", bdf: "00:05.0", vfio: "vfio0" }],
    mdev: {
      parents: [{ driver: "copy", name: "copy0" }],
      devices: [
        { uuid: COPY_A, parent: "copy0", type: "copy-channel" },
        { uuid: COPY_B, parent: "copy0", type: "copy-channel" },
        { uuid: DSA_A, parent: PARENT, type: "idxd-1dwq-v1" },
        { uuid: DSA_B, parent: PARENT, type: "idxd-1dwq-v1" },
        { uuid: ENQ_A, parent: PARENT, type: "idxd-1swq-v1" },
        { uuid: ENQ_B, parent: PARENT, type: "idxd-1swq-v1" },
      ],
    },
  };
}

/** Pages of one address space. */
function pages(guest: Guest, ioas: number): { source: Uint8Array; target: Uint8Array; record: Uint8Array } {
  const [source, target, record] = [SOURCE, TARGET, RECORD].map((iova) => guest.page(ioas, iova));
  source.fill(0x5a);
  return { source, target, record };
}

function softwareMdevs(guest: Guest, teller: StoryTeller): void {
  teller.step("1. Software mdevs: the IOMMU never sees them, so it cannot fault for them", (step) => {
    const channels = [COPY_A, COPY_B].map((id) => new CopyChannel(guest, id, RING));
    const queues = channels.map((channel) => {
      const queue = guest.queue();
      guest.ioctl("IOMMUKIT_ACCESS_FAULT_QUEUE", { access_id: channel.id, fault_id: queue.id });
      return queue;
    });
    const memory = channels.map((channel) => pages(guest, channel.ioas));
    step.say("two copy channels of one parent; each has an address space of its own, and reaches it through an access object");
    const place = channels[1].copy(SOURCE, MISSING, 64);
    step.say(`B copies to 0x${MISSING.toString(16)}, where nothing is mapped: no unit has a record, B's driver raises the fault itself`);
    step.check("nothing was told to A's fault queue", guest.faults(queues[0].fd).length === 0);
    const [fault] = guest.faults(queues[1].fd);
    step.check(`the fault names B: device ${fault?.dev_id}`, fault?.dev_id === channels[1].id && fault.addr === MISSING);
    const page = guest.page(channels[1].ioas, MISSING);
    guest.answer(queues[1].fd, fault?.cookie ?? 0, 0);
    step.say("the user maps the page and answers SUCCESS");
    step.check("B's copy has gone on and arrived", channels[1].status(place) === DescriptorStatus.DONE && page[0] === 0x5a);
    channels[0].copy(SOURCE, TARGET, 64);
    step.check("A reaches its own memory, and B's is untouched", memory[0].target[0] === 0x5a && memory[1].target[0] === 0);
    for (const { fd } of channels) guest.client.close(fd);
  });
}

function pasidMdevs(guest: Guest, teller: StoryTeller): void {
  teller.step("2. PASID mdevs: the IOMMU tells them apart, each fault names its own", (step) => {
    const adis = [DSA_A, DSA_B].map((id) => guest.open(id));
    const queues = adis.map(() => guest.queue());
    const spaces = adis.map((adi, i) => {
      const ioas = guest.ioas();
      adi.attach(adi.table(ioas, queues[i].id));
      adi.start({ blockOnFault: true });
      return { ioas, ...pages(guest, ioas) };
    });
    step.say("two virtual DSAs of one parent: one requester id, a default PASID each, which the guest never sees");
    const work = (adi: Adi): boolean => adi.submit(move({ source: Number(SOURCE), destination: Number(MISSING), size: 64, completion: Number(RECORD), flags: Flag.BLOCK_ON_FAULT }), false);
    for (const i of [1, 0]) {
      work(adis[i]);
      step.say(`${"AB"[i]} moves to a page that is not there: the device asks for it by its PASID, and waits`);
      const [fault] = guest.faults(queues[i].fd);
      step.check(`the fault names ${"AB"[i]}: device ${fault?.dev_id}`, fault?.dev_id === adis[i].id && fault.addr === MISSING);
      step.check(`${"BA"[i]}'s queue is empty`, guest.faults(queues[1 - i].fd).length === 0);
      const page = guest.page(spaces[i].ioas, MISSING);
      guest.answer(queues[i].fd, fault?.cookie ?? 0, 0);
      step.check(`${"AB"[i]}'s move has gone on and arrived`, recordStatus(spaces[i].record) === Status.SUCCESS && page[0] === 0x5a);
    }
    for (const { fd } of adis) guest.client.close(fd);
  });
}

function sharedQueues(guest: Guest, machine: Machine, teller: StoryTeller): void {
  const vm = new VirtualMachine(machine.memory, machine.frames);
  const [a, b] = [ENQ_A, ENQ_B].map((id) => guest.open(id));
  const [deviceA, deviceB] = [ENQ_A, ENQ_B].map((id) => virtualDsa(machine, id)).filter((device): device is VirtualDsa => device !== undefined);
  const tables = [a, b].map((adi) => {
    const ioas = guest.ioas();
    return { table: adi.table(ioas), ...pages(guest, ioas) };
  });
  const portals = new Map<VirtualDsa, (command: Uint8Array) => boolean>();
  const copy = (device: VirtualDsa, pasid: number, flags = 0): string => {
    const portal = portals.get(device);
    const command = move({ source: Number(SOURCE), destination: Number(TARGET), size: 64, completion: Number(RECORD), flags });
    return portal === undefined ? "no portal" : enqcmd(vm.cpu(MSR_VALID + pasid), command, portal).kind;
  };
  const worked = (i: number): boolean => recordStatus(tables[i].record) === Status.SUCCESS && tables[i].target[0] === 0x5a;

  teller.step("3. ENQCMD: one PASID of the guest is one PASID of the host, on every device", (step) => {
    for (const device of [deviceA, deviceB]) device.mapPortal(vm, (portal) => portals.set(device, portal));
    step.check("the guest is kept off the portals until its CPUs translate", portals.size === 0);
    vm.enablePasidTranslation();
    step.check("then they are there", portals.size === 2);
    a.attach(tables[0].table, 1);
    step.say("the guest binds PASID 1 on A: a write to its PASID table, and an invalidation; its virtual IOMMU attaches on the host");
    if (deviceA.shared) vm.mapPasid(1, deviceA.shared);
    for (const adi of [a, b]) adi.start({ pasid: 1 });
    step.check("a process with PASID 1 submits to A by ENQCMD, and its copy arrives", copy(deviceA, 1) === "accepted" && worked(0));
    step.check("a process whose PASID was not bound leaves the virtual machine instead: VM exit 72", copy(deviceA, 7) === "vm-exit");
  });

  teller.step("4. The same process wants B, too: two devices at one (RID, PASID) cannot be told apart, so the host refuses", (step) => {
    tables[0].target.fill(0);
    tables[0].record.fill(0);
    step.say("the guest writes B's entry: memory takes anything, nothing fails; the invalidation makes its virtual IOMMU ask the host");
    const refusal = refusalOf(() => b.attach(tables[1].table, 1));
    step.check(`the host refuses, and names A: ${refusal?.errno}, ${refusal?.reason.message}`, refusal?.errno === "EBUSY" && refusal.reason.message.includes(`${a.uuid}'s`));
    step.say("nothing is left to return an error from: a virtual VT-d makes it a fault record of the guest's unit");
    step.check("A is undisturbed: the same process goes on", copy(deviceA, 1) === "accepted" && worked(0));
    step.check("nothing of B moved", tables[1].target[0] === 0);
  });

  teller.step("5. The guest learns it, tells the process, and takes another PASID", (step) => {
    const refusal = refusalOf(() => b.attach(tables[1].table, 2));
    if (deviceB.shared) vm.mapPasid(2, deviceB.shared);
    step.check("PASID 2 on B is bound, and nothing is refused", refusal === undefined);
    step.check("B works, by PASID 2", copy(deviceB, 2) === "accepted" && worked(1));
  });

  teller.step("6. What a monitor could have known: both devices tell one PASID number space", (step) => {
    const spaces = [a, b].map((adi) => adi.pasidSpace);
    step.say(`VFIO_DEVICE_GET_INFO tells number space ${spaces.join(" of A, ")} of B`);
    step.check("they are equal: behind PASID tables per requester, A and B have to be one requester", spaces[0] === spaces[1]);
    vm.free();
    for (const { fd } of [a, b]) guest.client.close(fd);
  });
}

function refusalOf(action: () => void): IommuError | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof IommuError) return error;
    throw error;
  }
}

export const mdevStory: Story = {
  name: "mdev",
  about: "two mediated devices of one parent in one guest, and who may tell which of them faults",
  machine,
  tell(built, teller) {
    const guest = new Guest(built);
    softwareMdevs(guest, teller);
    pasidMdevs(guest, teller);
    sharedQueues(guest, built, teller);
  },
};
