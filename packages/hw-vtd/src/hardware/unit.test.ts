import { Access, encodeFields, type FieldTable, NO_PASID, PhysicalMemory } from "@iommukit/core";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { PRESETS } from "../presets.js";
import { Fsts, QueueError, Reg } from "../spec/index.js";
import {
  CC_DESCRIPTOR, DescriptorType, IOTLB_DESCRIPTOR, P_IOTLB_DESCRIPTOR, PC_DESCRIPTOR, WAIT_DESCRIPTOR,
} from "../spec/descriptors.js";
import { VtdUnit } from "./unit.js";

const QUEUE = 0x20_0000;
const TE = 0x8000_0000n;
const SRTP = 0x4000_0000n;
const QIE = 0x400_0000n;
const UNIT_BASE = 0xfed9_0000;

interface Message {
  readonly address: bigint;
  readonly data: number;
}

/** A unit whose registers also lie in its own memory, as DMA of its own could reach them. */
function unitOf(preset: string): { memory: PhysicalMemory; unit: VtdUnit; messages: Message[] } {
  const memory = new PhysicalMemory();
  memory.addRam(0, 2 ** 24);
  const messages: Message[] = [];
  const unit = new VtdUnit(memory, { ...PRESETS[preset], onMessage: (address, data) => messages.push({ address, data }) > 0 });
  memory.addMmio(UNIT_BASE, 0x8000, unit);
  return { memory, unit, messages };
}

describe.each(Object.keys(PRESETS))("registers of a %s unit", (preset) => {
  const access = fc.record({
    write: fc.boolean(),
    offset: fc.oneof(fc.integer({ min: 0, max: 0x300 }), fc.integer({ min: -8, max: 0x9000 })),
    size: fc.constantFrom(1, 2, 3, 4, 8, 16),
    value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  });

  it("take any access without a crash, and never let software change what it must not", () => {
    fc.assert(
      fc.property(fc.array(access, { maxLength: 60 }), (accesses) => {
        const { unit } = unitOf(preset);
        for (const { write, offset, size, value } of accesses) {
          if (write) unit.write(offset, size, value);
          else expect(unit.read(offset, size)).toBeLessThan(2n ** 64n);
        }
        expect(unit.read(Reg.CAP, 8)).toBe(PRESETS[preset].cap);
        expect(unit.read(Reg.ECAP, 8)).toBe(PRESETS[preset].ecap);
        expect(unit.read(Reg.VER, 4)).toBe(BigInt(PRESETS[preset].version));
        // Nothing faulted, so no write made a fault record.
        expect(unit.read(Reg.FSTS, 4) & BigInt(Fsts.PPF | Fsts.PFO)).toBe(0n);
        expect(unit.read(0x44, 4) >> 32n).toBe(0n);
        expect(unit.read(0x50, 8)).toBe(0n);
      }),
    );
  });

  it("answer requests whatever was written, and whatever the tables hold", () => {
    const words = fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: 16, maxLength: 16 });
    fc.assert(
      fc.property(words, fc.array(access, { maxLength: 10 }), fc.integer({ min: 0, max: 0xffff }), fc.integer({ min: -1, max: 0xfffff }), (noise, accesses, rid, pasid) => {
        const { memory, unit } = unitOf(preset);
        // Structures that mostly point into the same few pages.
        for (let i = 0; i < 4096; i++) {
          const word = noise[i % 16] >> BigInt(i % 5);
          memory.writeU64(i * 8, (word & 0xfffn) | ((word >> 20n) % 8n) << 12n | (word % 7n === 0n ? word & (0xffffn << 32n) : 0n));
        }
        unit.write(Reg.RTADDR, 8, (noise[0] & 7n) << 12n | (noise[1] & 0xc00n));
        unit.write(Reg.GCMD, 4, SRTP);
        unit.write(Reg.GCMD, 4, TE);
        for (const { offset, size, value } of accesses) unit.write(offset, size, value);
        for (const flags of [Access.READ, Access.WRITE, Access.READ | Access.WRITE]) {
          const page = unit.translate(rid, pasid, Number(noise[2] >> 28n), flags);
          expect(page === -1 || (page >= 0 && page < 2 ** 52)).toBe(true);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe("fault log of a scalable unit", () => {
  const RECORDS = 0x220;
  let unit: VtdUnit;
  let memory: PhysicalMemory;
  let messages: Message[];

  beforeEach(() => {
    ({ unit, memory, messages } = unitOf("scalable"));
    unit.write(Reg.RTADDR, 8, 0x1400n);
    unit.write(Reg.GCMD, 4, SRTP);
    unit.write(Reg.GCMD, 4, TE);
  });
  const fault = (rid: number): number => unit.translate(rid, NO_PASID, rid, Access.WRITE);
  const record = (index: number): { source: number; taken: boolean } => {
    const high = unit.read(RECORDS + index * 16 + 8, 8);
    return { source: Number(high & 0xffffn), taken: high >> 63n === 1n };
  };

  it("fills the records in order, and reports the first in FSTS.FRI", () => {
    for (let i = 0; i < 3; i++) expect(fault(0x100 + i)).toBe(-1);
    expect([0, 1, 2].map((i) => record(i).source)).toEqual([0x100, 0x101, 0x102]);
    expect(unit.read(Reg.FSTS, 4)).toBe(BigInt(Fsts.PPF));
  });

  it("loses what comes when every record is taken, says so, and goes on when PFO is cleared", () => {
    for (let i = 0; i < 9; i++) fault(0x100 + i);
    expect(record(7)).toEqual({ source: 0x107, taken: true });
    expect(unit.read(Reg.FSTS, 4) & BigInt(Fsts.PFO)).toBe(BigInt(Fsts.PFO));
    for (let i = 0; i < 8; i++) unit.write(RECORDS + i * 16 + 12, 4, 0x8000_0000n);
    expect(record(0).taken).toBe(false);
    fault(0x200);
    expect(record(0).taken).toBe(false);
    unit.write(Reg.FSTS, 4, BigInt(Fsts.PFO));
    fault(0x201);
    expect(record(0)).toEqual({ source: 0x201, taken: true });
  });

  it("clears a record by writing 1 to F, and PPF with the last of them", () => {
    fault(0x100);
    fault(0x101);
    unit.write(RECORDS + 8, 8, 0n);
    expect(record(0).taken).toBe(true);
    unit.write(RECORDS + 8, 8, 1n << 63n);
    expect(unit.read(Reg.FSTS, 4) & BigInt(Fsts.PPF)).toBe(BigInt(Fsts.PPF));
    unit.write(RECORDS + 24, 8, 1n << 63n);
    expect(unit.read(Reg.FSTS, 4)).toBe(0n);
  });

  it("sends one message while faults are pending, masked ones when unmasked", () => {
    unit.write(Reg.FEADDR, 4, 0xfee0_1000n);
    unit.write(Reg.FEDATA, 4, 0x31n);
    fault(0x100);
    expect(messages).toEqual([]);
    unit.write(Reg.FECTL, 4, 0n);
    expect(messages).toEqual([{ address: 0xfee0_1000n, data: 0x31 }]);
    fault(0x101);
    expect(messages).toHaveLength(1);
  });

  it("is silent where the context entry says FPD", () => {
    memory.writeU64(0x1000, 0x2001n);
    // Bus 0, device 0, function 1: not present, and fault processing disabled.
    memory.writeU64(0x2000 + 32, 2n);
    expect(fault(1)).toBe(-1);
    expect(unit.read(Reg.FSTS, 4)).toBe(0n);
    memory.writeU64(0x2000 + 32, 0n);
    fault(1);
    expect(record(0).source).toBe(1);
  });
});

describe("invalidation queue of a scalable unit", () => {
  let unit: VtdUnit;
  let memory: PhysicalMemory;
  let messages: Message[];
  let tail: number;

  beforeEach(() => {
    ({ unit, memory, messages } = unitOf("scalable"));
    tail = 0;
    unit.write(Reg.RTADDR, 8, 0x1400n);
    unit.write(Reg.GCMD, 4, SRTP);
    unit.write(Reg.IQA, 8, BigInt(QUEUE) | 0x800n);
    unit.write(Reg.GCMD, 4, QIE);
  });
  /** Adds a descriptor, kicks, and returns the queue's error code. */
  const submit = (table: FieldTable, type: number, fields: Readonly<Record<string, bigint>>, more: readonly bigint[] = []): number => {
    const words = encodeFields(table, { type: BigInt(type & 15), typeHigh: BigInt(type >> 4), ...fields });
    for (let i = 0; i < 4; i++) memory.writeU64(QUEUE + tail + i * 8, (words[i] ?? 0n) | (more[i] ?? 0n));
    tail = (tail + 32) % 4096;
    unit.write(Reg.IQT, 8, BigInt(tail));
    return (unit.read(Reg.FSTS, 4) & BigInt(Fsts.IQE)) === 0n ? QueueError.NONE : Number(unit.read(Reg.IQERCD, 8) & 15n);
  };
  const global = { G: 1n };

  it("executes every kind of descriptor, around the ring", () => {
    for (let lap = 0; lap < 40; lap++) {
      expect(submit(CC_DESCRIPTOR, DescriptorType.CC, global)).toBe(QueueError.NONE);
      expect(submit(PC_DESCRIPTOR, DescriptorType.PC, { G: 3n })).toBe(QueueError.NONE);
      expect(submit(IOTLB_DESCRIPTOR, DescriptorType.IOTLB, { G: 3n, AM: 18n })).toBe(QueueError.NONE);
      expect(submit(P_IOTLB_DESCRIPTOR, DescriptorType.P_IOTLB, { G: 2n, PASID: 5n })).toBe(QueueError.NONE);
      expect(submit(WAIT_DESCRIPTOR, DescriptorType.WAIT, { SW: 1n, DATA: BigInt(lap), STATUS_ADDR: 0x3000n >> 2n })).toBe(QueueError.NONE);
      expect(memory.readU64(0x3000)).toBe(BigInt(lap));
      expect(unit.read(Reg.IQH, 8)).toBe(BigInt(tail));
    }
  });

  it("stops at a wrong descriptor, keeps the head there, and goes on when IQE is cleared", () => {
    expect(submit(CC_DESCRIPTOR, DescriptorType.CC, { G: 0n })).toBe(QueueError.RESERVED_FIELD);
    expect(unit.read(Reg.IQH, 8)).toBe(0n);
    expect(submit(WAIT_DESCRIPTOR, DescriptorType.WAIT, { SW: 1n, DATA: 9n, STATUS_ADDR: 0xc00n })).not.toBe(QueueError.NONE);
    expect(memory.readU64(0x3000)).toBe(0n);
    memory.writeU64(QUEUE, memory.readU64(QUEUE)! | 0x10n);
    unit.write(Reg.FSTS, 4, BigInt(Fsts.IQE));
    expect(memory.readU64(0x3000)).toBe(9n);
    expect(unit.read(Reg.FSTS, 4)).toBe(0n);
  });

  it.each([
    ["an address mask above CAP.MAMV", IOTLB_DESCRIPTOR, DescriptorType.IOTLB, { G: 3n, AM: 19n }, [], QueueError.RESERVED_FIELD],
    ["a reserved bit", IOTLB_DESCRIPTOR, DescriptorType.IOTLB, global, [0n, 1n << 7n], QueueError.RESERVED_FIELD],
    ["a reserved word", CC_DESCRIPTOR, DescriptorType.CC, global, [0n, 0n, 1n], QueueError.RESERVED_FIELD],
    ["an unknown type", CC_DESCRIPTOR, 0x1f, global, [], QueueError.INVALID_TYPE],
    ["a device-TLB descriptor, which this unit has no use for", CC_DESCRIPTOR, DescriptorType.DEV_TLB, {}, [], QueueError.INVALID_TYPE],
    ["a PASID-cache granularity of 2", PC_DESCRIPTOR, DescriptorType.PC, { G: 2n }, [], QueueError.RESERVED_FIELD],
  ] as const)("refuses %s", (_what, table, type, fields, more, error) => {
    expect(submit(table, type, fields, more)).toBe(error);
  });

  it("refuses a tail outside or off the grid, and a queue outside memory", () => {
    unit.write(Reg.IQT, 8, 0x1000n);
    expect(unit.read(Reg.IQERCD, 8) & 15n).toBe(BigInt(QueueError.INVALID_TAIL));
    unit.write(Reg.IQT, 8, 0x10n);
    unit.write(Reg.FSTS, 4, BigInt(Fsts.IQE));
    expect(unit.read(Reg.IQERCD, 8) & 15n).toBe(BigInt(QueueError.TAIL_ALIGNMENT));
    unit.write(Reg.IQT, 8, 0x20n);
    unit.write(Reg.IQA, 8, 0x7f_0000_0000n | 0x800n);
    unit.write(Reg.FSTS, 4, BigInt(Fsts.IQE));
    expect(unit.read(Reg.IQERCD, 8) & 15n).toBe(BigInt(QueueError.FETCH));
  });

  it("ends when a status write moves the tail, for ever or inside itself", () => {
    const status = BigInt(UNIT_BASE + Reg.IQT) >> 2n;
    const words = (data: bigint): bigint[] => encodeFields(WAIT_DESCRIPTOR, { type: 5n, SW: 1n, DATA: data, STATUS_ADDR: status });
    for (let at = 0; at < 4096; at += 32) {
      words(BigInt((at + 2048) % 4096)).forEach((word, i) => memory.writeU64(QUEUE + at + i * 8, word));
    }
    unit.write(Reg.IQT, 8, 0x20n);
    expect(unit.read(Reg.FSTS, 4)).toBe(0n);
  });

  it("tells of completion by an event, once until it is cleared", () => {
    unit.write(Reg.IEADDR, 4, 0xfee0_2000n);
    unit.write(Reg.IEDATA, 4, 7n);
    unit.write(Reg.IECTL, 4, 0n);
    submit(WAIT_DESCRIPTOR, DescriptorType.WAIT, { IF: 1n });
    submit(WAIT_DESCRIPTOR, DescriptorType.WAIT, { IF: 1n });
    expect(messages).toEqual([{ address: 0xfee0_2000n, data: 7 }]);
    unit.write(Reg.ICS, 4, 1n);
    submit(WAIT_DESCRIPTOR, DescriptorType.WAIT, { IF: 1n });
    expect(messages).toHaveLength(2);
  });

  it("survives any bytes in the ring", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4096, maxLength: 4096 }), fc.integer({ min: 0, max: 0xfff }), fc.boolean(), (bytes, kick, wide) => {
        memory.write(QUEUE, bytes);
        unit.write(Reg.IQA, 8, BigInt(QUEUE) | (wide ? 0x800n : 0n));
        unit.write(Reg.FSTS, 4, BigInt(Fsts.IQE));
        unit.write(Reg.IQT, 8, BigInt(kick));
        expect(unit.read(Reg.IQH, 8)).toBeLessThan(4096n);
      }),
    );
  });
});
