/** Requirements about software mdevs, on a parent of the bus that can also be assigned itself. */
import { buildMachine, type DeviceModel, type IommuFactory, type Machine } from "@iommukit/core";
import { DmaTestCommand, dmaTestModel, DmaTestRegister, DmaTestStatus } from "@iommukit/core/devices";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { beforeEach, describe, expect, it } from "vitest";
import { mdevBus } from "../bus/index.js";
import { refusal, uuidOf } from "../rig/bus-rig.js";
import { CopyBench, RING } from "../rig/copy-bench.js";
import { type BoundMdev, MdevClient } from "../rig/mdev-client.js";
import { copyDriver, CopyRegister as R, CopyStatus, DescriptorStatus as D, FaultReason } from "../software/index.js";

const PAGE = 4096;
const PARENT = "0000:00:03.0";
const MISSING = 0x900_0000n;
/** What the IOMMU's driver was asked to change. */
let changes: string[];
let stubborn: boolean;

/** A test device that can be divided into channels of a copy engine. */
const parentModel: DeviceModel = {
  ...dmaTestModel,
  create: (port, options, host) => Object.assign(dmaTestModel.create(port, options, host), { mediate: () => copyDriver.createParent({ stubborn }) }),
};

/** The VT-d unit, with an ear on its driver. */
const watched: IommuFactory = {
  ...vtdIommuFactory,
  create(environment, options) {
    const unit = vtdIommuFactory.create(environment, options);
    const driver = unit.driver as unknown as Record<string, (...args: unknown[]) => unknown>;
    for (const name of ["allocPaging", "attach", "detach", "reportPageFaults", "respondToPageFault"]) {
      const run = driver[name].bind(driver);
      driver[name] = (...args) => {
        changes.push(name);
        return run(...args);
      };
    }
    return unit;
  },
};

let machine: Machine;
let client: MdevClient;

function build(): void {
  changes = [];
  const devices = [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0", options: { ats: true, pri: true } }];
  const mdev = { devices: [0, 1].map((i) => ({ uuid: uuidOf(i), type: "copy-channel", parent: PARENT })) };
  const spec = { name: "software", memory: { size: "64MiB" }, iommus: [{ type: "vtd", options: { preset: "full" } }], devices, mdev };
  machine = buildMachine(spec, { iommus: [watched], devices: [parentModel], mdevBus });
  client = new MdevClient(machine.nodes);
}

beforeEach(() => {
  stubborn = false;
  build();
});

const parent = (): BoundMdev => client.bind("vfio0");
const group = (): { owner: boolean; devices: number } => {
  const [{ group: own }] = machine.devices;
  return { owner: own.owner !== undefined, devices: own.devices.size };
};

describe("R1: an mdev is one of exactly two kinds, fixed by its driver at bind", () => {
  it("a software mdev is an access, its parent a device", () => {
    const [whole, mdev] = [parent(), client.bind("vfio1")];
    const info = (id: number): string => refusal(() => client.ioctl(client.iommufd, "IOMMU_GET_HW_INFO", { dev_id: id, data_len: 0 }));
    const tie = (id: number): string => refusal(() => client.ioctl(client.iommufd, "IOMMUKIT_ACCESS_FAULT_QUEUE", { access_id: id, fault_id: 0 }));
    expect([info(whole.id), info(mdev.id)]).toEqual(["none", "ENOENT"]);
    expect([tie(whole.id), tie(mdev.id)]).toEqual(["ENOENT", "none"]);
    expect(refusal(() => client.ioctl(client.iommufd, "IOMMU_HWPT_ALLOC", { dev_id: mdev.id, pt_id: client.ioas() }))).toBe("ENOENT");
  });
});

describe("R2: binding a software mdev changes no IOMMU state and does not name the parent", () => {
  it("from bind to close, whatever it does, nothing is asked of the IOMMU's driver, and nobody owns the parent's group", () => {
    const bench = new CopyBench(client, "vfio1");
    client.mapMemory(bench.ioas, 0x1000n, PAGE);
    bench.start();
    expect(bench.outcome(bench.copy(0x1000n, 0x1800n, 64))).toEqual([D.DONE, 64]);
    client.attach(bench.mdev, client.ioas());
    client.detach(bench.mdev);
    expect(group()).toEqual({ owner: false, devices: 0 });
    client.close(bench.mdev.fd);
    expect(changes).toEqual([]);
  });

  it("the parent may be assigned meanwhile, to somebody else, and neither notices the other", () => {
    const bench = new CopyBench(client, "vfio1");
    bench.start();
    const other = new MdevClient(machine.nodes);
    const whole = other.bind("vfio0");
    const ioas = other.ioas();
    other.attach(whole, ioas);
    other.command(whole, 6);
    const bytes = other.mapMemory(ioas, 0x5000n, PAGE);
    bytes.set([1, 2, 3, 4]);
    other.put(whole, DmaTestRegister.SOURCE, 0x5000n, 8);
    other.put(whole, DmaTestRegister.LENGTH, 4);
    other.put(whole, DmaTestRegister.COMMAND, DmaTestCommand.READ);
    expect(other.get(whole, DmaTestRegister.STATUS)).toBe(DmaTestStatus.DONE);
    expect(bench.outcome(bench.copy(0x5000n, RING + 512n, 4))).toEqual([D.READ_FAULT, 0]);
    other.close(whole.fd);
    expect(bench.get(R.STATUS) & CopyStatus.RUNNING).toBe(CopyStatus.RUNNING);
  });
});

describe("R3: attaching a software mdev gives its driver a handle on the address space, nothing more", () => {
  it("it takes no page table, and none appears", () => {
    const [whole, mdev, ioas] = [parent(), client.bind("vfio1"), client.ioas()];
    const table = Number(client.ioctl(client.iommufd, "IOMMU_HWPT_ALLOC", { dev_id: whole.id, pt_id: ioas }).out_hwpt_id);
    expect(refusal(() => client.attach(mdev, table))).toBe("ENOENT");
    const before = changes.length;
    expect(client.attach(mdev, ioas)).toBe(ioas);
    client.mapMemory(ioas, 0x1000n, PAGE);
    expect(changes.length).toBe(before);
    expect(refusal(() => client.ioctl(mdev.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { flags: 1, pt_id: ioas, pasid: 1 }))).toBe("EOPNOTSUPP");
  });

  it("what is not mapped fails in the handle, what is mapped works at once, with the rights that it was mapped with", () => {
    const bench = new CopyBench(client, "vfio1");
    bench.start();
    const copy = (): number[] => bench.outcome(bench.copy(0x1000n, 0x3000n, 8));
    expect([copy(), bench.get(R.FAULT_REASON)]).toEqual([[D.READ_FAULT, 0], FaultReason.NOT_MAPPED]);
    client.mapMemory(bench.ioas, 0x1000n, PAGE, "r").fill(7);
    expect([copy(), bench.get(R.FAULT_REASON)]).toEqual([[D.WRITE_FAULT, 0], FaultReason.NOT_MAPPED]);
    client.mapMemory(bench.ioas, 0x3000n, PAGE, "r");
    expect([copy(), bench.get(R.FAULT_REASON)]).toEqual([[D.WRITE_FAULT, 0], FaultReason.NO_RIGHT]);
    client.unmapMemory(bench.ioas, 0x3000n, PAGE);
    const bytes = client.mapMemory(bench.ioas, 0x3000n, PAGE, "w");
    expect(copy()).toEqual([D.DONE, 8]);
    expect([...bytes.subarray(0, 9)]).toEqual([7, 7, 7, 7, 7, 7, 7, 7, 0]);
  });
});

describe("R6: a software mdev never causes a fault of the IOMMU: its driver must raise and report it", () => {
  it("an unmapped IOVA is an error inside the driver, and no record on any queue", () => {
    const [whole, ioas, queue] = [parent(), client.ioas(), client.faultQueue()];
    const table = Number(client.ioctl(client.iommufd, "IOMMU_HWPT_ALLOC", { flags: 4, dev_id: whole.id, pt_id: ioas, fault_id: queue.id }).out_hwpt_id);
    client.attach(whole, table);
    const idle = client.faultQueue();
    const bench = new CopyBench(client, "vfio1");
    client.attach(bench.mdev, ioas);
    bench.ring = client.mapMemory(ioas, RING, PAGE);
    const before = changes.length;
    bench.start();
    expect(bench.outcome(bench.copy(MISSING, RING + 512n, 8))).toEqual([D.READ_FAULT, 0]);
    expect(bench.get(R.STATUS)).toBe(CopyStatus.RUNNING | CopyStatus.ERROR);
    expect([client.faults(queue.fd), client.faults(idle.fd)]).toEqual([[], []]);
    expect(changes.length).toBe(before);
  });

  it("with a queue that is tied to it the driver reports in the queue's own terms: without PASID, under the access", () => {
    const bench = new CopyBench(client, "vfio1");
    const queue = client.faultQueue();
    client.tie(bench.mdev, queue.id);
    bench.start();
    bench.copy(MISSING, RING + 512n, 8);
    const [{ flags, dev_id, cookie }, ...others] = client.faults(queue.fd);
    expect([flags, dev_id, others]).toEqual([2, bench.mdev.id, []]);
    expect(changes).toEqual([]);
    client.answer(queue.fd, cookie, "invalid");
    expect(bench.outcome(0)).toEqual([D.READ_FAULT, 0]);
  });
});

describe("R7: the driver tells its mdevs apart and keeps them from each other", () => {
  const SAME = 0x4000n;

  it("two mdevs of one parent, two address spaces: the same IOVA is other memory, and what one has the other does not reach", () => {
    const [one, two] = [new CopyBench(client, "vfio1"), new CopyBench(client, "vfio2")];
    const [first, second] = [client.mapMemory(one.ioas, SAME, PAGE), client.mapMemory(two.ioas, SAME, PAGE)];
    client.mapMemory(one.ioas, 0x8000n, PAGE);
    for (const bench of [one, two]) bench.start();
    one.fill(0x1111_1111_1111_1111n, SAME, 8);
    two.fill(0x2222_2222_2222_2222n, SAME, 8);
    expect([first[0], second[0]]).toEqual([0x11, 0x22]);
    expect(two.outcome(two.copy(0x8000n, SAME, 8))).toEqual([D.READ_FAULT, 0]);
    expect(one.get(R.STATUS)).toBe(CopyStatus.RUNNING);
  });

  it("the same in two programs", () => {
    const other = new MdevClient(machine.nodes);
    const [one, two] = [new CopyBench(client, "vfio1"), new CopyBench(other, "vfio2")];
    client.mapMemory(one.ioas, SAME, PAGE);
    for (const bench of [one, two]) bench.start();
    expect([one.outcome(one.fill(1n, SAME, 8)), two.outcome(two.fill(1n, SAME, 8))]).toEqual([[D.DONE, 8], [D.WRITE_FAULT, 0]]);
  });

  it("a fault names the mdev that met it, and its answer reaches no other", () => {
    const [one, two] = [new CopyBench(client, "vfio1"), new CopyBench(client, "vfio2")];
    const queue = client.faultQueue();
    for (const bench of [one, two]) {
      client.tie(bench.mdev, queue.id);
      bench.start();
      bench.copy(MISSING, RING + 512n, 8);
    }
    const records = client.faults(queue.fd);
    expect(records.map(({ dev_id }) => dev_id)).toEqual([one.mdev.id, two.mdev.id]);
    client.answer(queue.fd, records[1].cookie, "invalid");
    expect([one.outcome(0), two.outcome(0)]).toEqual([[D.PENDING, 0], [D.READ_FAULT, 0]]);
    expect([one.get(R.STATUS), two.get(R.STATUS)]).toEqual([CopyStatus.RUNNING | CopyStatus.WAITING, CopyStatus.RUNNING | CopyStatus.ERROR]);
  });
});

describe("R31: drivers of software mdevs are told to give up pages on unmap", () => {
  it("one that does lets UNMAP through, and says so to its client", () => {
    const bench = new CopyBench(client, "vfio1");
    bench.start();
    client.unmapMemory(bench.ioas, RING, PAGE);
    expect(bench.get(R.STATUS)).toBe(CopyStatus.RING_LOST);
  });

  it("one that does not makes UNMAP give up: EDEADLK, and nothing more can be pinned there until an unmap succeeds", () => {
    stubborn = true;
    build();
    const [bench, other] = [new CopyBench(client, "vfio1"), client.bind("vfio2")];
    bench.start();
    const unmap = (): string => refusal(() => client.unmapMemory(bench.ioas, RING, PAGE));
    expect([unmap(), unmap()]).toEqual(["EDEADLK", "EDEADLK"]);
    expect(bench.get(R.STATUS)).toBe(CopyStatus.RUNNING);
    client.attach(other, bench.ioas);
    client.command(other, 7);
    client.put(other, R.RING, RING, 8);
    client.put(other, R.SIZE, 16);
    client.put(other, R.CONTROL, 1);
    expect([client.get(other, R.STATUS), client.get(other, R.FAULT_REASON)]).toEqual([CopyStatus.RING_LOST, FaultReason.UNMAPPING]);
    bench.put(R.CONTROL, 0);
    expect(unmap()).toBe("none");
    bench.ring = client.mapMemory(bench.ioas, RING, PAGE);
    expect(bench.start() & CopyStatus.RUNNING).toBe(CopyStatus.RUNNING);
  });
});
