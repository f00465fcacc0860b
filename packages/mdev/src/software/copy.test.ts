/** The copy engine: rings, transfers, what becomes of memory that goes, and faults that it raises itself. */
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { BusRig, HOME, refusal, uuidOf } from "../rig/bus-rig.js";
import { CopyBench, RING } from "../rig/copy-bench.js";
import { MdevClient } from "../rig/mdev-client.js";
import { copyDriver } from "./copy.js";
import { CopyControl, CopyInterrupt, CopyRegister as R, CopyStatus, DescriptorFlag, DescriptorStatus as D, FaultReason } from "./copy-layout.js";

const PAGE = 4096;
const SOURCE = 0x1000n;
const TARGET = 0x20_0000n;

let rig: BusRig;
let client: MdevClient;

function channels(options: Readonly<Record<string, unknown>> = {}, count = 1): void {
  rig = new BusRig();
  rig.bus.register(copyDriver.createParent(options), { name: "copy", home: HOME });
  for (let i = 0; i < count; i++) rig.bus.create("copy", "copy-channel", uuidOf(i));
  client = new MdevClient(rig.nodes);
}

beforeEach(() => channels());

/** A channel with a source of known bytes and a target, each of `pages` pages. */
function bench(pages = 2, node = "vfio0"): { bench: CopyBench; source: Uint8Array; target: Uint8Array } {
  const made = new CopyBench(client, node);
  const source = client.mapMemory(made.ioas, SOURCE, pages * PAGE, "r");
  for (let i = 0; i < source.length; i++) source[i] = (i * 7 + (i >> 8)) & 0xff;
  return { bench: made, source, target: client.mapMemory(made.ioas, TARGET, pages * PAGE, "w") };
}

describe("a transfer", () => {
  it("copies between IOVAs, whatever pages it crosses", () => {
    const { bench: own, source, target } = bench();
    expect(own.start()).toBe(CopyStatus.RUNNING);
    const at = own.copy(SOURCE + 5n, TARGET + 4000n, 3000);
    expect(own.outcome(at)).toEqual([D.DONE, 3000]);
    expect(target.subarray(4000, 7000)).toEqual(source.subarray(5, 3005));
    expect([target[3999], target[7000], own.get(R.HEAD), own.get(R.TAIL), own.get(R.COMPLETED)]).toEqual([0, 0, 1, 1, 1]);
  });

  it("is the same as a copy in memory, for any place and length", () => {
    const { bench: own, source, target } = bench(4);
    own.start();
    const limit = 4 * PAGE;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: limit }), fc.integer({ min: 0, max: limit }), fc.integer({ min: 0, max: limit }), (from, to, length) => {
        const fits = Math.min(length, limit - from, limit - to);
        target.fill(0xee);
        const expected = target.slice();
        expected.set(source.subarray(from, from + fits), to);
        const index = own.copy(SOURCE + BigInt(from), TARGET + BigInt(to), fits);
        expect(own.outcome(index)).toEqual([D.DONE, fits]);
        expect(Buffer.compare(target, expected)).toBe(0);
      }),
    );
  });

  it("fills with a pattern, which goes on across pages", () => {
    const { bench: own, target } = bench();
    own.start();
    own.fill(0x0807060504030201n, TARGET + 4093n, 10);
    expect([...target.subarray(4092, 4104)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 0]);
  });

  it("ends at the first page that is not there, and says where", () => {
    const { bench: own } = bench();
    own.start();
    const [read, write, right, wraps] = [own.copy(SOURCE + 4000n, TARGET, 8000), own.copy(SOURCE, TARGET + 8000n, 500), own.copy(SOURCE, SOURCE, 8), own.copy(2n ** 64n - 4n, TARGET, 8)];
    expect(own.outcome(read)).toEqual([D.READ_FAULT, 4192]);
    expect(own.outcome(write)).toEqual([D.WRITE_FAULT, 192]);
    expect(own.outcome(right)).toEqual([D.WRITE_FAULT, 0]);
    expect(own.outcome(wraps)).toEqual([D.READ_FAULT, 0]);
    own.copy(TARGET, SOURCE, 8);
    expect([own.get(R.FAULT_ADDRESS, 8), own.get(R.FAULT_REASON), own.get(R.STATUS), own.get(R.INTERRUPT)]).toEqual([Number(TARGET), FaultReason.NO_RIGHT, CopyStatus.RUNNING | CopyStatus.ERROR, CopyInterrupt.TROUBLE]);
    own.copy(SOURCE, 0n, 8);
    expect([own.get(R.FAULT_ADDRESS, 8), own.get(R.FAULT_REASON), own.get(R.COMPLETED)]).toEqual([0, FaultReason.NOT_MAPPED, 6]);
  });

  it("that asks for what the engine does not do ends as bad, and others go on", () => {
    const { bench: own } = bench();
    own.start();
    const first = own.post({ source: SOURCE, destination: TARGET, length: 0x1_0001 }, { source: SOURCE, destination: TARGET, length: 1, flags: 4 }, { source: SOURCE, destination: TARGET, length: 1 });
    expect([0, 1, 2].map((i) => own.outcome(first + i))).toEqual([[D.BAD, 0], [D.BAD, 0], [D.DONE, 1]]);
  });
});

describe("a ring", () => {
  it("goes round", () => {
    const { bench: own } = bench();
    own.start();
    for (let i = 0; i < 50; i++) expect(own.outcome(own.fill(BigInt(i), TARGET, 8))).toEqual([D.DONE, 8]);
    expect([own.get(R.HEAD), own.get(R.COMPLETED)]).toEqual([50 % 16, 50]);
  });

  it.each([
    ["is not mapped", 0x900_0000n, 16, FaultReason.NOT_MAPPED],
    ["may not be written", SOURCE, 16, FaultReason.NO_RIGHT],
    ["reaches behind its mapping", RING + 4064n, 16, FaultReason.NOT_MAPPED],
    ["is not aligned", RING + 8n, 16, FaultReason.NONE],
    ["is too small", RING, 1, FaultReason.NONE],
    ["is too large", RING, 1025, FaultReason.NONE],
  ])("that %s is none", (_name, address, size, reason) => {
    const { bench: own } = bench();
    own.put(R.RING, address, 8);
    own.put(R.SIZE, size);
    own.put(R.CONTROL, CopyControl.RUN);
    expect([own.get(R.STATUS), own.get(R.FAULT_REASON), own.get(R.FAULT_ADDRESS, 8)]).toEqual([CopyStatus.RING_LOST, reason, Number(address)]);
    own.put(R.STATUS, CopyStatus.RING_LOST);
    expect(own.get(R.STATUS)).toBe(0);
  });

  it("takes no doorbell behind its end, or while it does not run", () => {
    const { bench: own } = bench();
    own.put(R.TAIL, 1);
    expect([own.get(R.STATUS), own.get(R.TAIL)]).toEqual([0, 0]);
    own.start();
    own.put(R.TAIL, 16);
    expect([own.get(R.STATUS), own.get(R.TAIL)]).toEqual([CopyStatus.RUNNING | CopyStatus.ERROR, 0]);
  });

  it("stays where it is while it runs, and does nothing without bus mastering", () => {
    const { bench: own } = bench();
    own.start();
    own.put(R.RING, 0n, 8);
    own.put(R.SIZE, 2);
    expect([own.get(R.RING, 8), own.get(R.SIZE)]).toEqual([Number(RING), 16]);
    client.command(own.mdev, 3);
    const index = own.copy(SOURCE, TARGET, 8);
    expect(own.outcome(index)).toEqual([D.PENDING, 0]);
    client.command(own.mdev, 7);
    own.put(R.TAIL, 1);
    expect(own.outcome(index)).toEqual([D.DONE, 8]);
    own.put(R.CONTROL, 0);
    client.command(own.mdev, 3);
    expect(own.start()).toBe(CopyStatus.RING_LOST);
  });

  it("is given up when its memory is unmapped, and only then", () => {
    const { bench: own } = bench();
    const event = own.interruptOn();
    own.start();
    client.unmapMemory(own.ioas, SOURCE, 2 * PAGE);
    expect([own.get(R.STATUS), client.eventCount(event)]).toEqual([CopyStatus.RUNNING, 0]);
    client.unmapMemory(own.ioas, RING, PAGE);
    expect([own.get(R.STATUS), own.get(R.CONTROL), own.get(R.INTERRUPT), client.eventCount(event)]).toEqual([CopyStatus.RING_LOST, CopyControl.INTERRUPTS, CopyInterrupt.TROUBLE, 1]);
    own.put(R.TAIL, 1);
    own.ring = client.mapMemory(own.ioas, RING, PAGE);
    expect(own.start() & CopyStatus.RUNNING).toBe(CopyStatus.RUNNING);
    expect(own.outcome(own.fill(1n, TARGET, 8))).toEqual([D.DONE, 8]);
  });

  it("is not given up when that of a neighbour in the same address space goes", () => {
    channels({}, 2);
    const { bench: own } = bench();
    const [mdev, memory] = [client.bind("vfio1"), 0x40_0000n];
    client.attach(mdev, own.ioas);
    client.command(mdev, 7);
    client.mapMemory(own.ioas, memory, PAGE);
    client.put(mdev, R.RING, memory, 8);
    client.put(mdev, R.SIZE, 16);
    client.put(mdev, R.CONTROL, CopyControl.RUN);
    own.start();
    client.unmapMemory(own.ioas, memory, PAGE);
    expect([own.get(R.STATUS), client.get(mdev, R.STATUS)]).toEqual([CopyStatus.RUNNING, CopyStatus.RING_LOST]);
  });

  it.each([
    ["a detach", (own: CopyBench) => client.detach(own.mdev)],
    ["another address space", (own: CopyBench) => void client.attach(own.mdev, client.ioas())],
  ])("is given up by %s", (_name, change) => {
    const { bench: own } = bench();
    own.start();
    change(own);
    expect(own.get(R.STATUS)).toBe(CopyStatus.RING_LOST);
    client.unmapMemory(own.ioas, RING, PAGE);
    expect(own.start()).toBe(CopyStatus.RING_LOST);
  });

  it("is given up by a reset, a stop and the last close", () => {
    const { bench: own } = bench();
    const pins = (): string => refusal(() => client.unmapMemory(own.ioas, RING, PAGE));
    own.start();
    client.ioctl(own.mdev.fd, "VFIO_DEVICE_RESET");
    expect([own.get(R.STATUS), own.get(R.CONTROL), own.get(R.SIZE)]).toEqual([0, 0, 0]);
    own.start();
    own.put(R.CONTROL, 0);
    expect(own.get(R.STATUS)).toBe(0);
    own.start();
    client.close(own.mdev.fd);
    expect(pins()).toBe("none");
  });
});

describe("interrupts", () => {
  it("come for descriptors that ask for them, by MSI", () => {
    const { bench: own } = bench();
    const event = own.interruptOn();
    own.start();
    own.post({ source: 0n, destination: TARGET, length: 1, flags: DescriptorFlag.FILL });
    expect(client.eventCount(event)).toBe(0);
    own.post({ source: 0n, destination: TARGET, length: 1, flags: DescriptorFlag.FILL | DescriptorFlag.INTERRUPT });
    expect([client.eventCount(event), own.get(R.INTERRUPT)]).toEqual([1, CopyInterrupt.DONE]);
  });

  it("hold the INTx pin until they are taken back", () => {
    const { bench: own } = bench();
    const event = client.interruptOn(own.mdev, 0);
    own.start();
    own.post({ source: 0n, destination: TARGET, length: 1, flags: DescriptorFlag.FILL | DescriptorFlag.INTERRUPT });
    client.unmaskIntx(own.mdev);
    expect(client.eventCount(event)).toBe(2);
    own.put(R.INTERRUPT, CopyInterrupt.DONE);
    client.unmaskIntx(own.mdev);
    expect(client.eventCount(event)).toBe(0);
  });

  it("wait until they are on", () => {
    const { bench: own } = bench();
    const event = own.interruptOn();
    own.start();
    own.put(R.CONTROL, CopyControl.RUN);
    own.post({ source: 0n, destination: TARGET, length: 1, flags: DescriptorFlag.FILL | DescriptorFlag.INTERRUPT });
    expect(client.eventCount(event)).toBe(0);
    own.put(R.CONTROL, CopyControl.RUN | CopyControl.INTERRUPTS);
    expect(client.eventCount(event)).toBe(1);
  });
});

describe("faults", () => {
  const LAST = 2;
  const MISSING = 0x30_0000n;

  it("go to the queue that is tied to the access, and the answer decides", () => {
    const { bench: own, source } = bench();
    const queue = client.faultQueue();
    client.tie(own.mdev, queue.id);
    own.start();
    const index = own.copy(SOURCE, MISSING + 4090n, 100);
    const [record] = client.faults(queue.fd);
    expect(record).toEqual({ flags: LAST, dev_id: own.mdev.id, pasid: 0, grpid: 0, perm: 2, addr: MISSING, length: 0, cookie: 1 });
    expect([own.get(R.STATUS), own.outcome(index)]).toEqual([CopyStatus.RUNNING | CopyStatus.WAITING, [D.PENDING, 0]]);
    const there = client.mapMemory(own.ioas, MISSING, PAGE);
    client.answer(queue.fd, record.cookie, "success");
    const [next] = client.faults(queue.fd);
    expect(next).toMatchObject({ grpid: 1, perm: 2, addr: MISSING + 4096n });
    expect(there.subarray(4090)).toEqual(source.subarray(0, 6));
    client.answer(queue.fd, next.cookie, "invalid");
    expect([own.outcome(index), own.get(R.STATUS)]).toEqual([[D.WRITE_FAULT, 6], CopyStatus.RUNNING | CopyStatus.ERROR]);
    expect([own.get(R.FAULT_ADDRESS, 8), own.get(R.FAULT_REASON)]).toEqual([Number(MISSING) + 4096, FaultReason.NOT_MAPPED]);
    expect(client.faults(queue.fd)).toEqual([]);
  });

  it("say which right is missing, page after page, and others wait behind", () => {
    const { bench: own } = bench();
    const queue = client.faultQueue();
    client.tie(own.mdev, queue.id);
    own.start();
    const first = own.post({ source: MISSING, destination: TARGET, length: 8 }, { source: SOURCE, destination: TARGET + 8n, length: 8 });
    own.put(R.TAIL, 2);
    const [record, ...more] = client.faults(queue.fd);
    expect([record.perm, more, own.outcome(first + 1)]).toEqual([1, [], [D.PENDING, 0]]);
    client.answer(queue.fd, record.cookie, "success");
    const [again] = client.faults(queue.fd);
    expect(again.perm).toBe(1);
    client.mapMemory(own.ioas, MISSING, PAGE);
    client.answer(queue.fd, again.cookie, "success");
    expect([own.outcome(first), own.outcome(first + 1)]).toEqual([[D.DONE, 8], [D.DONE, 8]]);
  });

  it.each([["read", true], ["waiting in the queue", false]])("that nobody has answered, %s, have failed when the device is closed", (_name, read) => {
    const { bench: own } = bench();
    const queue = client.faultQueue();
    client.tie(own.mdev, queue.id);
    own.start();
    const first = own.post({ source: MISSING, destination: TARGET, length: 8 }, { source: MISSING, destination: TARGET, length: 8 });
    const records = read ? client.faults(queue.fd) : [];
    client.close(own.mdev.fd);
    expect([own.outcome(first), own.outcome(first + 1)]).toEqual([[D.READ_FAULT, 0], [D.READ_FAULT, 0]]);
    expect(client.faults(queue.fd)).toEqual([]);
    for (const { cookie } of records) expect(refusal(() => client.answer(queue.fd, cookie, "success"))).toBe("EINVAL");
    client.close(queue.fd);
    client.ioctl(client.iommufd, "IOMMU_DESTROY", { id: queue.id });
  });

  it("have failed when the queue is taken away, or another takes its place", () => {
    const { bench: own } = bench();
    const [one, two] = [client.faultQueue(), client.faultQueue()];
    client.tie(own.mdev, one.id);
    own.start();
    const first = own.post({ source: MISSING, destination: TARGET, length: 8 }, { source: MISSING, destination: TARGET, length: 8 });
    client.tie(own.mdev, one.id);
    expect(own.outcome(first)).toEqual([D.PENDING, 0]);
    client.tie(own.mdev, two.id);
    expect([own.outcome(first), own.outcome(first + 1)]).toEqual([[D.READ_FAULT, 0], [D.PENDING, 0]]);
    expect([client.faults(one.fd).length, client.faults(two.fd).length]).toEqual([0, 1]);
    client.tie(own.mdev, 0);
    expect(own.outcome(first + 1)).toEqual([D.READ_FAULT, 0]);
  });

  it.each([
    ["a reset", (own: CopyBench) => void client.ioctl(own.mdev.fd, "VFIO_DEVICE_RESET")],
    ["a stop", (own: CopyBench) => own.put(R.CONTROL, 0)],
    ["a detach", (own: CopyBench) => client.detach(own.mdev)],
    ["the end of the ring", (own: CopyBench) => client.unmapMemory(own.ioas, RING, PAGE)],
  ])("are withdrawn by %s", (_name, end) => {
    const { bench: own } = bench();
    const queue = client.faultQueue();
    client.tie(own.mdev, queue.id);
    own.start();
    own.copy(MISSING, TARGET, 8);
    const [{ cookie }] = client.faults(queue.fd);
    end(own);
    expect(own.get(R.STATUS) & (CopyStatus.WAITING | CopyStatus.RUNNING)).toBe(0);
    expect(refusal(() => client.answer(queue.fd, cookie, "success"))).toBe("EINVAL");
  });

  it("cannot be tied to what is no access, no queue, or raises none", () => {
    const { bench: own } = bench();
    const queue = client.faultQueue();
    const tie = (fields: Readonly<Record<string, number>>): string => refusal(() => client.ioctl(client.iommufd, "IOMMUKIT_ACCESS_FAULT_QUEUE", { access_id: own.mdev.id, fault_id: queue.id, ...fields }));
    expect(tie({ flags: 1 })).toBe("EOPNOTSUPP");
    expect(tie({ access_id: own.ioas })).toBe("ENOENT");
    expect(tie({ access_id: 99 })).toBe("ENOENT");
    expect(tie({ fault_id: own.ioas })).toBe("ENOENT");
    expect(tie({ fault_id: 99 })).toBe("ENOENT");
    expect(tie({ size: 12 })).toBe("EINVAL");
    expect(tie({})).toBe("none");
    client.close(queue.fd);
    expect(refusal(() => client.ioctl(client.iommufd, "IOMMU_DESTROY", { id: queue.id }))).toBe("EBUSY");
    client.tie(own.mdev, 0);
    client.ioctl(client.iommufd, "IOMMU_DESTROY", { id: queue.id });
  });
});

describe("channels of one engine", () => {
  it("take turns, and one that waits for a page holds up no other", () => {
    channels({}, 2);
    const [one, two] = [bench(1, "vfio0"), bench(1, "vfio1")];
    const queue = client.faultQueue();
    client.tie(one.bench.mdev, queue.id);
    one.bench.start();
    two.bench.start();
    const waiting = one.bench.copy(0x900_0000n, TARGET, 8);
    expect(two.bench.outcome(two.bench.copy(SOURCE, TARGET, 8))).toEqual([D.DONE, 8]);
    const [record] = client.faults(queue.fd);
    client.answer(queue.fd, record.cookie, "invalid");
    expect(one.bench.outcome(waiting)).toEqual([D.READ_FAULT, 0]);
  });

  it("are as many as the parent has", () => {
    channels({ channels: 2 }, 2);
    expect(refusal(() => rig.bus.create("copy", "copy-channel", uuidOf(5)))).toBe("EUSERS");
  });

  it.each([[{ channels: 0 }], [{ channels: 1025 }], [{ channels: "8" }], [{ stubborn: 1 }], [{ channel: 3 }]])("are not made of %j", (options) => {
    expect(() => copyDriver.createParent(options)).toThrow(RangeError);
  });

  it("bear any access to their registers", () => {
    const { bench: own } = bench();
    own.start();
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0x48 }), fc.constantFrom(1, 2, 4, 8), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.boolean(), (offset, size, value, writes) => {
        const aligned = offset - (offset % size);
        if (writes) own.put(aligned, value, size);
        else own.get(aligned, size);
        expect(own.get(R.MAGIC)).toBe(0x59504f43);
      }),
    );
  });
});
