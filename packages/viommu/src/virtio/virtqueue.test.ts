import { PhysicalMemory } from "@iommukit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VirtioIommu, VirtioMmio } from "./index.js";
import { Desc, DeviceStatus, MmioReg } from "./spec.js";
import { BrokenQueue, Virtqueue } from "./virtqueue.js";

const [DESC, AVAIL, USED, DATA] = [0x1000, 0x2000, 0x3000, 0x4000];

function queue(size = 8) {
  const memory = new PhysicalMemory();
  memory.addRam(0, 0x10_0000);
  const queue = new Virtqueue(memory);
  Object.assign(queue, { size, ready: true, descriptors: DESC, driver: AVAIL, device: USED });
  const store = (at: number, value: number, bytes: number): void => void memory.write(at, new Uint8Array(Uint32Array.of(value).buffer).subarray(0, bytes));
  const load = (at: number, bytes: number): number => {
    const word = new Uint8Array(4);
    memory.read(at, word.subarray(0, bytes));
    return new DataView(word.buffer).getUint32(0, true);
  };
  const describe = (table: number, index: number, address: number, length: number, flags: number, next = 0): void => {
    store(table + 16 * index, address, 4);
    store(table + 16 * index + 4, 0, 4);
    store(table + 16 * index + 8, length, 4);
    store(table + 16 * index + 12, flags, 2);
    store(table + 16 * index + 14, next, 2);
  };
  const offer = (head: number, index: number): void => {
    store(AVAIL + 4 + 2 * (index % size), head, 2);
    store(AVAIL + 2, index + 1, 2);
  };
  return { queue, memory, store, load, describe, offer };
}

describe("a split virtqueue (virtio 1.3, 2.7)", () => {
  it("gathers a chain's readable parts and scatters into its writable ones", () => {
    const { queue: q, memory, describe, offer } = queue();
    memory.write(DATA, Uint8Array.of(1, 2, 3));
    memory.write(DATA + 0x100, Uint8Array.of(4, 5));
    describe(DESC, 3, DATA, 3, Desc.NEXT, 1);
    describe(DESC, 1, DATA + 0x100, 2, Desc.NEXT, 5);
    describe(DESC, 5, DATA + 0x200, 2, Desc.NEXT | Desc.WRITE, 0);
    describe(DESC, 0, DATA + 0x300, 3, Desc.WRITE);
    offer(3, 0);
    const chain = q.pop(100);
    expect(chain).toMatchObject({ head: 3, room: 5, request: Uint8Array.of(1, 2, 3, 4, 5) });
    if (chain === undefined) return;
    q.write(chain, 1, Uint8Array.of(7, 8, 9));
    const [first, second] = [new Uint8Array(2), new Uint8Array(3)];
    memory.read(DATA + 0x200, first);
    memory.read(DATA + 0x300, second);
    expect([...first, ...second]).toEqual([0, 7, 8, 9, 0]);
    expect(q.push(chain, 4)).toBe(true);
  });

  it("follows an indirect table", () => {
    const { queue: q, memory, describe, offer } = queue();
    memory.write(DATA, Uint8Array.of(6, 7));
    describe(DESC, 0, DATA + 0x800, 32, Desc.INDIRECT);
    describe(DATA + 0x800, 0, DATA, 2, Desc.NEXT, 1);
    describe(DATA + 0x800, 1, DATA + 0x100, 9, Desc.WRITE);
    offer(0, 0);
    expect(q.pop(100)).toMatchObject({ head: 0, room: 9, request: Uint8Array.of(6, 7) });
  });

  it("reads no more than is wanted", () => {
    const { queue: q, describe, offer } = queue();
    describe(DESC, 0, DATA, 0x1000, 0);
    offer(0, 0);
    expect(q.pop(10)?.request.length).toBe(10);
  });

  it("goes round: a thousand chains through a queue of eight", () => {
    const { queue: q, load, describe, offer } = queue();
    describe(DESC, 2, DATA, 4, Desc.WRITE);
    for (let i = 0; i < 70_000; i++) {
      offer(2, i & 0xffff);
      const chain = q.pop(0);
      if (chain === undefined) throw new Error(`nothing at ${i}`);
      q.push(chain, i & 0xff);
      expect(load(USED + 4 + 8 * (i % 8) + 4, 4)).toBe(i & 0xff);
    }
    expect(q.pop(0)).toBeUndefined();
  });

  it("tells the driver unless it asked not to be; with event indices when it asked for this one", () => {
    const { queue: q, store, load, describe, offer } = queue();
    describe(DESC, 0, DATA, 4, Desc.WRITE);
    const one = (index: number): boolean => {
      offer(0, index);
      const chain = q.pop(0);
      return chain !== undefined && q.push(chain, 0);
    };
    expect(one(0)).toBe(true);
    store(AVAIL, 1, 2);
    expect(one(1)).toBe(false);
    q.eventIndex = true;
    store(AVAIL + 4 + 16, 3, 2);
    expect([one(2), one(3), one(4)]).toEqual([false, true, false]);
    expect(load(USED + 4 + 64, 2)).toBe(5);
  });

  it.each<[string, (rig: ReturnType<typeof queue>) => void, string]>([
    ["a chain that is a ring", ({ describe, offer }) => (describe(DESC, 0, DATA, 1, Desc.NEXT, 0), offer(0, 0)), "more than 8 descriptors"],
    ["an indirect chain longer than the queue", ({ describe, offer }) => {
      describe(DESC, 0, DATA + 0x800, 16 * 9, Desc.INDIRECT);
      for (let i = 0; i < 9; i++) describe(DATA + 0x800, i, DATA, 1, i < 8 ? Desc.NEXT : 0, i + 1);
      offer(0, 0);
    }, "more than 8 descriptors"],
    ["a descriptor behind the table", ({ describe, offer }) => (describe(DESC, 0, DATA, 1, Desc.NEXT, 8), offer(0, 0)), "behind the 8"],
    ["a head behind the table", ({ offer }) => offer(9, 0), "behind the 8"],
    ["more chains than the queue has room for", ({ store }) => store(AVAIL + 2, 9, 2), "9 chains"],
    ["a readable buffer behind a writable one", ({ describe, offer }) => (describe(DESC, 0, DATA, 1, Desc.NEXT | Desc.WRITE, 1), describe(DESC, 1, DATA, 1, 0), offer(0, 0)), "after a device-writable"],
    ["an indirect table in an indirect table", ({ describe, offer }) => (describe(DESC, 0, DATA, 16, Desc.INDIRECT), describe(DATA, 0, DATA, 16, Desc.INDIRECT), offer(0, 0)), "inside another"],
    ["an indirect table with a next descriptor", ({ describe, offer }) => (describe(DESC, 0, DATA, 16, Desc.INDIRECT | Desc.NEXT, 1), offer(0, 0)), "next descriptor"],
    ["an indirect table of no whole descriptors", ({ describe, offer }) => (describe(DESC, 0, DATA, 17, Desc.INDIRECT), offer(0, 0)), "17 bytes"],
    ["a buffer where there is no memory", ({ describe, offer }) => (describe(DESC, 0, 0x4000_0000, 1, 0), offer(0, 0)), "no memory"],
  ])("%s breaks the queue", (_what, prepare, message) => {
    const rig = queue();
    prepare(rig);
    expect(() => rig.queue.pop(100)).toThrow(BrokenQueue);
    expect(() => rig.queue.pop(100)).toThrow(message);
  });
});

/** Accesses of a guest: `FUZZ=1000000` for a long run. */
const ACCESSES = Number(process.env.FUZZ ?? 45_000);
const LONGEST = 300;

describe("a hostile guest", () => {
  it("can write anything to registers and rings: no exception, no work without bound", () => {
    const SIZES = [1, 2, 4, 8] as const;
    const address = fc.constantFrom(0, DESC, AVAIL, USED, DATA, 0x4000_0000, 0xffff_f000);
    const access = fc.oneof(
      { weight: 3, arbitrary: fc.record({ kind: fc.constant("register" as const), offset: fc.integer({ min: 0, max: 0x140 }), size: fc.constantFrom(...SIZES), value: fc.oneof(address, fc.nat(300), fc.nat(2 ** 31 - 1)) }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant("register" as const), offset: fc.constantFrom(...Object.values(MmioReg)), size: fc.constant(4 as const), value: fc.oneof(address, fc.nat(15)) }) },
      { weight: 4, arbitrary: fc.record({ kind: fc.constant("memory" as const), offset: fc.oneof(address, fc.integer({ min: DESC, max: DATA + 64 })), size: fc.constantFrom(...SIZES), value: fc.oneof(fc.nat(7), address, fc.nat(2 ** 31 - 1)) }) },
    );
    fc.assert(
      fc.property(fc.array(access, { minLength: LONGEST / 2, maxLength: LONGEST, size: "max" }), (accesses) => {
        const memory = new PhysicalMemory();
        memory.addRam(0, 0x8000);
        const device = new VirtioIommu(memory, { endpoints: [8] });
        const registers = new VirtioMmio(device.transport);
        const write = (offset: number, value: number): void => registers.write(offset, 4, BigInt(value));
        for (const queue of [0, 1]) {
          write(MmioReg.QUEUE_SEL, queue);
          write(MmioReg.QUEUE_SIZE, 8);
          write(MmioReg.QUEUE_DESC, DESC);
          write(MmioReg.QUEUE_DRIVER, AVAIL);
          write(MmioReg.QUEUE_DEVICE, USED);
          write(MmioReg.QUEUE_READY, 1);
        }
        write(MmioReg.DRIVER_FEATURES_SEL, 1);
        write(MmioReg.DRIVER_FEATURES, 1);
        write(MmioReg.DRIVER_FEATURES_SEL, 0);
        write(MmioReg.DRIVER_FEATURES, 0x57);
        write(MmioReg.STATUS, DeviceStatus.FEATURES_OK | DeviceStatus.DRIVER_OK);
        for (const { kind, offset, size, value } of accesses) {
          if (kind === "memory") memory.write(offset, new Uint8Array(BigUint64Array.of(BigInt(value)).buffer).subarray(0, size));
          else {
            registers.write(offset, size, BigInt(value));
            registers.read(offset, size);
          }
          write(MmioReg.QUEUE_NOTIFY, 0);
          device.translate(8, -1, value % 8, 1);
        }
      }),
      { numRuns: Math.ceil(ACCESSES / (LONGEST * 0.75)) },
    );
  });
});
