/** What happens at pages that are missing: waiting for them, SWERR, and the event log. */
import { PageResponseCode } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { COMPLETION, type DescriptorFields, descriptor, Rig } from "./rig.test-support.js";
import { Status } from "./spec/completion.js";
import { Flag, Opcode } from "./spec/descriptor.js";
import { GENCFG_EVENT_LOG, GenCtrl, IntCause, Register } from "./spec/registers.js";

const [A, B, LOG] = [0x10_0000, 0x14_0000, 0x18_0000];
const BOF = Flag.BLOCK_ON_FAULT;
const at = (i: number): number => COMPLETION + 32 * i;

describe("blocking on faults", () => {
  it("holds up nobody else: what waits is put aside", () => {
    const rig = new Rig();
    rig.start([{ blockOnFault: true, size: 64 }]);
    for (let i = 0; i < 10; i++) rig.unit.rights.set((A >> 12) + i, 0);
    for (let i = 0; i < 20; i++) {
      rig.submit(descriptor({ opcode: Opcode.FILL, source: i, destination: i % 2 ? B + 64 * i : A + 4096 * (i / 2), size: 8, flags: BOF, completion: at(i) }));
    }
    const done = (): number[] => Array.from({ length: 20 }, (_, i) => i).filter((i) => rig.record(at(i)).status === Status.SUCCESS);
    expect(done()).toEqual([1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    // Answers come in any order.
    rig.unit.questions.reverse();
    rig.unit.respond();
    expect(done()).toContain(18);
    while (rig.unit.questions.length > 0) rig.unit.respond();
    expect(done()).toHaveLength(20);
  });

  it("keeps what moved before, though others used the engine meanwhile", () => {
    const rig = new Rig();
    rig.start([{ blockOnFault: true }]);
    const painted = rig.paint(A, 3 * 4096).slice();
    rig.unit.rights.set((B >> 12) + 1, 0);
    rig.submit(descriptor({ opcode: Opcode.MEMMOVE, source: A, destination: B, size: 3 * 4096, flags: BOF }));
    for (let i = 1; i < 5; i++) rig.submit(descriptor({ opcode: Opcode.FILL, source: 0xee, destination: 0x16_0000, size: 5000, completion: at(i) }));
    rig.unit.respond();
    expect(rig.record().status).toBe(Status.SUCCESS);
    expect(Buffer.from(rig.unit.memory.subarray(B, B + 3 * 4096)).equals(painted)).toBe(true);
  });

  it("stops at what an engine can hold, and the queue fills behind it", () => {
    const rig = new Rig();
    rig.start([{ blockOnFault: true, size: 100 }]);
    rig.unit.rights.set(A >> 12, 0);
    for (let i = 0; i < 100; i++) rig.submit(descriptor({ opcode: Opcode.FILL, destination: A, size: 8, flags: BOF, completion: at(i) }));
    expect(rig.device.queueState(0)).toMatchObject({ inFlight: 64, occupancy: 36 });
    // No more requests are out than the device may have (10.5.2.5): 32.
    expect(rig.unit.questions).toHaveLength(32);
    while (rig.unit.questions.length > 0) rig.unit.respond();
    expect(rig.device.queueState(0)).toMatchObject({ inFlight: 0, occupancy: 0 });
  });

  it.each([PageResponseCode.INVALID, PageResponseCode.FAILURE])("ends with status 4 on response %i, and the bytes that moved", (code) => {
    const rig = new Rig();
    rig.start([{ blockOnFault: true }]);
    rig.unit.rights.set((A >> 12) + 2, 0);
    rig.submit(descriptor({ opcode: Opcode.MEMMOVE, source: A + 100, destination: B, size: 5 * 4096, flags: BOF }));
    rig.unit.respond(code);
    expect(rig.record()).toMatchObject({ status: Status.PAGE_RESPONSE, completed: 2 * 4096 - 100, faultAddress: BigInt(A + 2 * 4096) });
    // After a failure the interface is off, and faults are reported at once.
    if (code !== PageResponseCode.FAILURE) return;
    expect(rig.run({ opcode: Opcode.MEMMOVE, source: A + 2 * 4096, destination: B, size: 8, flags: BOF }).status).toBe(Status.PAGE_FAULT);
  });

  it("is for queues that let it, and reported at once where page requests are off for the queue", () => {
    const move: DescriptorFields = { opcode: Opcode.MEMMOVE, source: A, destination: B, size: 8, flags: BOF };
    const refused = new Rig();
    refused.start([{}]);
    expect(refused.run(move).status).toBe(Status.FLAGS);
    const off = new Rig();
    off.start([{ blockOnFault: true, mode: 8 }]);
    off.unit.rights.set(A >> 12, 0);
    expect(off.run(move).status).toBe(Status.PAGE_FAULT);
  });

  it("waits for a record's page, too", () => {
    const rig = new Rig();
    rig.start([{ blockOnFault: true }]);
    rig.unit.rights.set(COMPLETION >> 12, 1);
    rig.submit(descriptor({ opcode: Opcode.FILL, destination: A, size: 8, flags: BOF }));
    expect(rig.record().status).toBe(0);
    rig.unit.respond();
    expect(rig.record().status).toBe(Status.SUCCESS);
  });

  it("gives a record up when its page is refused", () => {
    const rig = new Rig();
    rig.start([{ blockOnFault: true }]);
    rig.unit.rights.set(COMPLETION >> 12, 1);
    rig.submit(descriptor({ opcode: Opcode.FILL, destination: A, size: 8, flags: BOF }));
    rig.unit.respond(PageResponseCode.INVALID);
    expect(rig.swerr()).toMatchObject({ error: Status.COMPLETION_FAULT, write: true, address: BigInt(COMPLETION), operation: Opcode.FILL });
  });

  it("does not take an answer to a descriptor that was aborted for one to the next", () => {
    const rig = new Rig();
    rig.start([{ blockOnFault: true }]);
    rig.unit.rights.set(A >> 12, 0);
    const wait = (i: number): boolean => rig.submit(descriptor({ opcode: Opcode.FILL, source: i, destination: A + 64 * i, size: 8, flags: BOF, completion: at(i) }));
    wait(1);
    rig.device.abortQueue(0);
    wait(2);
    rig.unit.respond(PageResponseCode.INVALID);
    expect([at(1), at(2)].map((record) => rig.record(record).status)).toEqual([0, 0]);
    rig.unit.respond();
    expect([at(1), at(2)].map((record) => rig.record(record).status)).toEqual([0, Status.SUCCESS]);
  });

  it("gives up the page requests of a PASID that is aborted, and says that no more come", () => {
    const rig = new Rig();
    rig.start([{ dedicated: false, pasid: 0, blockOnFault: true, size: 64 }]);
    rig.unit.rights.set(A >> 12, 0);
    const wait = (pasid: number): boolean => rig.submit(descriptor({ opcode: Opcode.FILL, pasid, destination: A, size: 8, flags: BOF, completion: at(pasid) }), { deferrable: true });
    for (let i = 0; i < 32; i++) wait(1);
    wait(2);
    expect(rig.unit.questions.map(({ pasid }) => pasid)).toEqual(Array.from({ length: 32 }, () => 1));
    rig.device.abortPasid(1);
    expect(rig.unit.stopped).toEqual([1]);
    wait(3);
    expect(rig.unit.questions.slice(32).map(({ pasid }) => pasid)).toEqual([2, 3]);
  });

  it("nor for one to a drain that took its place", () => {
    const rig = new Rig();
    rig.start([{ dedicated: false, pasid: 0, blockOnFault: true }]);
    rig.unit.rights.set(A >> 12, 0);
    const submit = (opcode: number, pasid: number): boolean =>
      rig.submit(descriptor({ opcode, pasid, ...(opcode === Opcode.FILL && { destination: A + 64 * pasid, size: 8, flags: BOF }), completion: at(opcode) }), { deferrable: true });
    submit(Opcode.FILL, 1);
    submit(Opcode.FILL, 2);
    rig.device.abortQueue(0);
    submit(Opcode.FILL, 2);
    submit(Opcode.DRAIN, 2);
    rig.unit.respond(PageResponseCode.INVALID);
    rig.unit.respond(PageResponseCode.INVALID);
    rig.unit.respond();
    expect([rig.record(at(Opcode.FILL)).status, rig.record(at(Opcode.DRAIN)).status]).toEqual([Status.SUCCESS, Status.SUCCESS]);
  });

  it.each([Opcode.MEMMOVE, Opcode.BATCH])("may be aborted from within the request for a page: opcode %i", (opcode) => {
    const rig = new Rig();
    rig.start([{ blockOnFault: true, pasid: 4 }]);
    rig.unit.rights.set(A >> 12, 0);
    rig.unit.answer = () => {
      rig.device.abortPasid(4);
      rig.submit(descriptor({ opcode: Opcode.FILL, source: 1, destination: B, size: 8, completion: at(9) }));
      return PageResponseCode.SUCCESS;
    };
    for (let i = 0; i < 3; i++) rig.submit(descriptor({ opcode, source: A, destination: opcode === Opcode.BATCH ? 0 : B, size: 8, flags: BOF, completion: at(i) }));
    expect([0, 1, 2, 9].map((i) => rig.record(at(i)).status)).toContain(Status.SUCCESS);
    expect(rig.device.queueState(0)).toMatchObject({ inFlight: 0, occupancy: 0 });
    expect(rig.device.engines[0].open).toBe(0);
  });

  it("asks no more than 16 times for a page that never comes", () => {
    const rig = new Rig();
    rig.start([{ blockOnFault: true }]);
    rig.unit.rights.set(A >> 12, 0);
    let asked = 0;
    rig.submit(descriptor({ opcode: Opcode.FILL, destination: A, size: 8, flags: BOF }));
    for (; rig.unit.questions.length > 0; asked++) {
      const [{ pasid, group }] = rig.unit.questions.splice(0, 1);
      rig.unit.endpoint?.respond({ pasid, group, code: PageResponseCode.SUCCESS });
    }
    expect([asked, rig.record().status]).toEqual([16, Status.PAGE_FAULT | 0x80]);
  });
});

describe("readbacks", () => {
  it("read the last byte that was written, of each destination, and none behind it", () => {
    const rig = new Rig();
    rig.start();
    const flags = Flag.READBACK;
    rig.unit.rights.set((B >> 12) + 1, 0);
    expect(rig.run({ opcode: Opcode.MEMMOVE, source: A, destination: B, size: 4096, flags }).status).toBe(Status.SUCCESS);
    rig.unit.rights.set((B >> 12) + 1, 2);
    expect(rig.run({ opcode: Opcode.MEMMOVE, source: A, destination: B, size: 4097, flags })).toMatchObject({ status: Status.READBACK_FAULT, faultAddress: BigInt(B + 4096) });
    expect(rig.run({ opcode: Opcode.DUALCAST, source: A, destination: B, size: 8, flags, bytes: { 40: B + 4096 } })).toMatchObject({ status: Status.READBACK_FAULT, faultAddress: BigInt(B + 4096) });
    expect(rig.run({ opcode: Opcode.DRAIN, source: A, destination: B + 4096, flags: 1 << 16 }).status).toBe(Status.SUCCESS);
    expect(rig.run({ opcode: Opcode.DRAIN, source: A, destination: B + 4096, flags: 3 << 16 }).status).toBe(Status.READBACK_FAULT);
    expect(rig.run({ opcode: Opcode.DRAIN, source: A, destination: B + 4096, flags: 2 << 16 }).status).toBe(Status.READBACK_FAULT);
  });
});

describe("untranslated requests", () => {
  it("are what a queue with ATS off sends, beside others that do not", () => {
    const rig = new Rig();
    rig.start([{ mode: 4, pasid: 6 }, { pasid: 7 }]);
    let translations = 0;
    rig.unit.status = () => {
      translations++;
      return 0;
    };
    expect(rig.run({ opcode: Opcode.MEMMOVE, source: A, destination: B, size: 8 }).status).toBe(Status.SUCCESS);
    expect(translations).toBe(0);
    rig.submit(descriptor({ opcode: Opcode.MEMMOVE, source: A, destination: B, size: 8 }), { queue: 1 });
    expect(translations).toBeGreaterThan(0);
  });
});

describe("SWERR", () => {
  it("tells of a descriptor without a completion address", () => {
    const rig = new Rig();
    rig.start([{ pasid: 0x1234 }]);
    rig.write32(Register.GENCTRL, GenCtrl.ERROR);
    rig.unit.rights.set((A >> 12) + 1, 0);
    rig.submit(descriptor({ opcode: Opcode.MEMMOVE, source: A, destination: B, size: 8192, flags: Flag.COMPLETION_VALID | Flag.REQUEST_COMPLETION }));
    expect(rig.swerr()).toMatchObject({ error: Status.PAGE_FAULT, queue: 0, operation: Opcode.MEMMOVE, pasid: 0x1234, address: BigInt(A + 4096), batch: false, write: false });
    expect([rig.vectors, rig.read32(Register.INTCAUSE)]).toEqual([[0], IntCause.ERROR]);
    rig.write32(Register.SWERR, 3);
    expect(rig.swerr()).toBeUndefined();
  });

  it("names the descriptor of a batch", () => {
    const rig = new Rig();
    rig.start();
    const silent = Flag.COMPLETION_VALID | Flag.REQUEST_COMPLETION;
    rig.unit.memory.set(descriptor({ opcode: Opcode.NOOP, flags: silent }), A);
    rig.unit.memory.set(descriptor({ opcode: 0x55, flags: silent }), A + 64);
    rig.run({ opcode: Opcode.BATCH, source: A, size: 2 });
    expect(rig.swerr()).toMatchObject({ error: Status.OPCODE, operation: 0x55, batch: true, index: 1 });
  });
});

describe("the event log", () => {
  const lost = 0x3000;

  function logged(entries = 64): Rig {
    const rig = new Rig();
    rig.write32(Register.GENCFG, GENCFG_EVENT_LOG);
    rig.write32(Register.EVLCFG, LOG | 1);
    rig.write32(Register.EVLCFG + 8, entries | (0x5678 << 16));
    rig.write32(Register.EVLCFG + 12, 0x1);
    rig.write32(Register.GENCTRL, GenCtrl.EVENT_LOG);
    rig.start([{ pasid: 9 }]);
    rig.unit.rights.set(lost >> 12, 0);
    return rig;
  }

  const event = (rig: Rig, i: number): DataView => new DataView(rig.unit.memory.buffer, LOG + 64 * i, 64);
  const tail = (rig: Rig): number => rig.read32(Register.EVLSTATUS + 4) & 0xffff;

  it("holds records that could not be stored, for software to store", () => {
    const rig = logged();
    rig.unit.memory[A] = 1;
    rig.submit(descriptor({ opcode: Opcode.COMPARE, source: A, destination: B, size: 64, completion: lost + 32 }));
    const entry = event(rig, 0);
    expect(entry.getUint32(0, true)).toBe(0xac | (Status.COMPLETION_FAULT << 8));
    expect(entry.getUint32(4, true)).toBe(Opcode.COMPARE | (9 << 8));
    expect([entry.getUint16(14, true), entry.getBigUint64(16, true)]).toEqual([4, BigInt(lost + 32)]);
    expect([entry.getUint8(32), entry.getUint8(33)]).toEqual([Status.SUCCESS, 1]);
    expect([tail(rig), rig.read32(Register.EVLSTATUS + 4) >>> 30, rig.read32(Register.INTCAUSE), rig.vectors]).toEqual([1, 1, IntCause.EVENT_LOG, [0]]);
    expect([...rig.unit.seen].sort()).toEqual(["9", `${0x1_5678}`].sort());
    rig.write32(Register.EVLSTATUS + 4, 0x4000_0000);
    expect(rig.read32(Register.EVLSTATUS + 4)).toBe(1);
  });

  it("has those of a batch in a row, the batch behind them, under one identifier", () => {
    const rig = logged();
    for (let i = 0; i < 3; i++) rig.unit.memory.set(descriptor({ opcode: Opcode.NOOP, completion: i === 1 ? COMPLETION + 32 : lost + 32 * i }), A + 64 * i);
    for (let round = 0; round < 2; round++) rig.submit(descriptor({ opcode: Opcode.BATCH, source: A, size: 3 }));
    const entries = Array.from({ length: 6 }, (_, i) => event(rig, i));
    expect(entries.map((entry) => entry.getUint8(1))).toEqual([0x1a, 0x1a, 0x27, 0x1a, 0x1a, 0x27]);
    expect(entries.map((entry) => entry.getUint8(3))).toEqual([0, 0, 0, 1, 1, 1]);
    expect(entries.map((entry) => (entry.getUint16(14, true) >> 3) & 1)).toEqual([1, 0, 0, 1, 0, 0]);
    expect(entries.map((entry) => entry.getUint16(8, true))).toEqual([0, 2, 0, 0, 2, 0]);
    expect([entries[2].getUint8(32), entries[2].getUint32(36, true)]).toEqual([Status.SUCCESS, 3]);
  });

  it("wraps, and leaves the rest to SWERR while it is full", () => {
    const rig = logged();
    const fail = (): boolean => rig.submit(descriptor({ opcode: Opcode.NOOP, completion: lost }));
    for (let i = 0; i < 63; i++) fail();
    expect([tail(rig), rig.swerr()]).toEqual([63, undefined]);
    fail();
    expect([tail(rig), rig.swerr()?.error]).toEqual([63, Status.COMPLETION_FAULT]);
    rig.write32(Register.EVLSTATUS, 10);
    rig.write32(Register.EVLSTATUS, 64);
    for (let i = 0; i < 5; i++) fail();
    expect(tail(rig)).toBe(4);
    expect(rig.read32(Register.EVLSTATUS)).toBe(10);
  });

  it("lets a drain's record go by, once software has taken out those before it", () => {
    const rig = logged();
    rig.submit(descriptor({ opcode: Opcode.NOOP, completion: lost }));
    expect(rig.run({ opcode: Opcode.DRAIN }).status).toBe(Status.NONE);
    expect(event(rig, 1).getUint8(1)).toBe(Status.DRAIN_LOGGED);
    rig.write32(Register.EVLSTATUS, 2);
    expect(rig.run({ opcode: Opcode.DRAIN }).status).toBe(Status.SUCCESS);
  });

  it("that cannot be written leaves its errors to SWERR", () => {
    const rig = logged();
    rig.unit.rights.set(LOG >> 12, 0);
    rig.submit(descriptor({ opcode: Opcode.NOOP, completion: lost }));
    expect([tail(rig), rig.swerr()?.error]).toEqual([0, Status.COMPLETION_FAULT]);
  });
});

describe("work that is large", () => {
  it("lets the event loop have a turn, and ends none the less", async () => {
    const rig = new Rig();
    rig.start();
    // 64 MiB, in moves of 256 KiB.
    for (let i = 0; i < 256; i++) rig.unit.memory.set(descriptor({ opcode: Opcode.MEMMOVE, source: A, destination: B, size: 0x4_0000, flags: Flag.COMPLETION_VALID | Flag.REQUEST_COMPLETION }), 0x2_0000 + 64 * i);
    rig.submit(descriptor({ opcode: Opcode.BATCH, source: 0x2_0000, size: 256 }));
    expect(rig.record().status).toBe(Status.NONE);
    let turns = 0;
    for (; rig.record().status === Status.NONE && turns < 100; turns++) await new Promise((resolve) => setImmediate(resolve));
    expect(rig.record()).toMatchObject({ status: Status.SUCCESS, completed: 256 });
    expect(turns).toBeGreaterThan(3);
  });
});
