/** Work queues and portals: who gets in, and who comes first. */
import { describe, expect, it } from "vitest";
import { COMPLETION, descriptor, Rig } from "./rig.test-support.js";
import { Status } from "./spec/completion.js";
import { Opcode } from "./spec/descriptor.js";
import { DeviceError } from "./spec/errors.js";
import { WqWord } from "./spec/queues.js";

const noop = descriptor({ opcode: Opcode.NOOP });
const MANUAL = { engine: "manual", pri: true };
const SHARED = { dedicated: false, pasid: 0 };
const LIMITED = 1;
const UNLIMITED = 0;

describe("a dedicated queue", () => {
  it("takes as many as it has room for, and loses the next with an error", () => {
    const rig = new Rig(MANUAL);
    rig.start([{ size: 3 }]);
    for (let i = 0; i < 3; i++) expect(rig.submit(noop)).toBe(true);
    expect(rig.swerr()).toBeUndefined();
    rig.submit(noop);
    expect(rig.swerr()).toMatchObject({ error: DeviceError.PORTAL_FULL, queue: 0, overflow: false });
    rig.submit(noop);
    expect(rig.swerr()).toMatchObject({ overflow: true });
    expect(rig.read32(rig.wqWord(0, WqWord.OCCUPANCY)) & 0xffff).toBe(3);
    rig.device.engines[0].step();
    expect(rig.read32(rig.wqWord(0, WqWord.OCCUPANCY)) & 0xffff).toBe(2);
    expect(rig.submit(noop)).toBe(true);
  });

  it("does not look at its threshold, and turns ENQCMD away without an error", () => {
    const rig = new Rig(MANUAL);
    rig.start([{ size: 3, threshold: 1 }]);
    expect([1, 2, 3].map(() => rig.submit(noop, { portal: LIMITED }))).toEqual([true, true, true]);
    expect(rig.submit(noop, { deferrable: true })).toBe(false);
    expect(rig.swerr()).toBeUndefined();
  });

  it("sends its own PASID and privilege, whatever the descriptor says", () => {
    const rig = new Rig();
    rig.start([{ pasid: 77, privileged: true }]);
    rig.run({ opcode: Opcode.MEMMOVE, pasid: 5, source: 0x10_0000, destination: 0x11_0000, size: 8 });
    expect([...rig.unit.seen]).toEqual(["77 privileged"]);
  });

  it("sends none without one", () => {
    const rig = new Rig();
    rig.start([{}]);
    rig.run({ opcode: Opcode.MEMMOVE, pasid: 5, source: 0x10_0000, destination: 0x11_0000, size: 8 });
    expect([...rig.unit.seen]).toEqual(["-1"]);
  });
});

describe("a shared queue", () => {
  it("takes up to its threshold through the limited portal, up to its size through the other, and says to try again", () => {
    const rig = new Rig(MANUAL);
    rig.start([{ ...SHARED, size: 4, threshold: 2 }]);
    const enqcmd = (portal: number): boolean => rig.submit(noop, { portal, deferrable: true });
    expect([enqcmd(LIMITED), enqcmd(LIMITED), enqcmd(LIMITED)]).toEqual([true, true, false]);
    expect([enqcmd(UNLIMITED), enqcmd(UNLIMITED), enqcmd(UNLIMITED)]).toEqual([true, true, false]);
    expect(rig.swerr()).toBeUndefined();
    for (let i = 0; i < 3; i++) rig.device.engines[0].step();
    expect([enqcmd(LIMITED), enqcmd(LIMITED)]).toEqual([true, false]);
  });

  it("loses a posted write, with an error", () => {
    const rig = new Rig();
    rig.start([SHARED]);
    rig.submit(noop);
    expect(rig.swerr()).toMatchObject({ error: DeviceError.PORTAL_MODE });
  });

  it("sends the PASID and privilege that each descriptor carries", () => {
    const rig = new Rig();
    rig.start([{ ...SHARED, privileged: true }]);
    const move = (pasid: number): void => void rig.submit(descriptor({ opcode: Opcode.MEMMOVE, pasid, source: 0x10_0000, destination: 0x11_0000, size: 8 }), { deferrable: true });
    move(9);
    move(0x8000_000a);
    expect([...rig.unit.seen].sort()).toEqual(["10 privileged", "9"]);
  });
});

describe("a portal", () => {
  it.each([1, 2, 4, 8])("loses a write of %i bytes, with an error: eight of 8 are no descriptor", (size) => {
    const rig = new Rig();
    rig.start();
    for (let at = 0; at < 64; at += size) rig.device.writeBar(2, at, size, 0n);
    expect(rig.swerr()).toMatchObject({ error: DeviceError.PORTAL_WRITE, overflow: true });
    expect(rig.record().status).toBe(Status.NONE);
    expect(rig.device.readBar(2, 0, 8)).toBe(0n);
  });

  it("of a queue that is off takes nothing", () => {
    const rig = new Rig();
    rig.submit(noop);
    expect(rig.swerr()).toMatchObject({ error: DeviceError.PORTAL_DISABLED });
    expect(rig.submit(noop, { deferrable: true })).toBe(false);
    expect(rig.submit(noop, { queue: 60 })).toBe(false);
  });

  it("takes descriptors anywhere in its page", () => {
    const rig = new Rig();
    rig.start();
    rig.device.writeBlock(2, 4096 - 64, noop, false);
    expect(rig.record(COMPLETION).status).toBe(Status.SUCCESS);
  });
});

describe("queues of a group", () => {
  it("take turns, as often as their priorities say", () => {
    const rig = new Rig(MANUAL);
    rig.start([{ priority: 3, size: 16 }, { priority: 1, size: 16 }]);
    for (let i = 0; i < 8; i++) for (const queue of [0, 1]) rig.submit(descriptor({ opcode: Opcode.NOOP, completion: 0x1000 + queue * 0x1000 }), { queue });
    const order: number[] = [];
    for (let i = 0; i < 8; i++) {
      rig.device.engines[0].step();
      order.push(rig.record(0x1000).status === Status.SUCCESS ? 0 : 1);
      rig.unit.memory.fill(0, 0x1000, 0x3000);
    }
    expect(order).toEqual([0, 0, 0, 1, 0, 0, 0, 1]);
  });

  it("are served in the order of submission, each", () => {
    const rig = new Rig(MANUAL);
    rig.start([{ size: 5 }]);
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 5; i++) rig.submit(descriptor({ opcode: Opcode.FILL, source: round * 5 + i, destination: 0x10_0000, size: 8 }));
      for (let i = 0; i < 5; i++) {
        rig.device.engines[0].step();
        expect(rig.unit.memory[0x10_0000]).toBe((round * 5 + i) & 0xff);
      }
    }
  });
});
