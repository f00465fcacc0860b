/** Device commands: each error, each state, draining and aborting. */
import { CompletionStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { descriptor, Rig } from "./rig.test-support.js";
import { Command, CommandError } from "./spec/commands.js";
import { Status } from "./spec/completion.js";
import { Flag, Opcode } from "./spec/descriptor.js";
import { DeviceError } from "./spec/errors.js";
import { GrpWord, WqWord } from "./spec/queues.js";
import { DeviceState, GENCFG_EVENT_LOG, IntCause, Register, ResetNeeded } from "./spec/registers.js";

const ACTIVE = -1;
const FAULT_PAGE = 0x100;
const A = FAULT_PAGE * 4096;

/** Configured, not enabled: one group of queue 0 and engine 0. */
function configured(options: Readonly<Record<string, unknown>> = {}, ats = true): Rig {
  const rig = new Rig(options, ats);
  rig.configure(0, {});
  rig.write32(rig.grpWord(0, GrpWord.QUEUES), 1);
  rig.write32(rig.grpWord(0, GrpWord.ENGINES), 1);
  return rig;
}

const ENABLE_DEVICE: readonly [name: string, error: number, setup: (rig: Rig) => void][] = [
  ["is enabled", CommandError.DEVICE_ENABLED, (rig) => rig.command(Command.ENABLE_DEVICE)],
  ["may not master the bus", CommandError.BUS_MASTER, (rig) => (rig.busMaster = false)],
  ["has more in its queues than there is", CommandError.WQ_SIZE_SUM, (rig) => rig.write32(rig.wqWord(0, WqWord.SIZE), 129)],
  ["has a queue in two groups", CommandError.GROUP_QUEUE_TWICE, (rig) => rig.write32(rig.grpWord(1, GrpWord.QUEUES), 1)],
  ["has an engine in two groups", CommandError.GROUP_ENGINE_TWICE, (rig) => rig.write32(rig.grpWord(1, GrpWord.ENGINES), 1)],
  ["has a queue that no engine serves", CommandError.GROUP_QUEUE_LOST, (rig) => rig.write32(rig.grpWord(0, GrpWord.ENGINES), 0)],
  ["has a queue in no group", CommandError.GROUP_QUEUE_LOST, (rig) => rig.write32(rig.grpWord(0, GrpWord.QUEUES), 0)],
  ["names an engine that is not there", CommandError.GROUP_RANGE, (rig) => rig.write32(rig.grpWord(0, GrpWord.ENGINES), 0x11)],
  ["has an event log of too few entries", CommandError.DEVICE_CONFIG, (rig) => {
    rig.write32(Register.GENCFG, GENCFG_EVENT_LOG);
    rig.write32(Register.EVLCFG + 8, 63);
  }],
];

describe("ENABLE_DEVICE", () => {
  it("succeeds", () => {
    const rig = configured();
    expect(rig.command(Command.ENABLE_DEVICE)).toBe(0);
    expect(rig.read32(Register.GENSTS)).toBe(DeviceState.ENABLED);
  });

  it.each(ENABLE_DEVICE)("fails where it %s", (_name, error, setup) => {
    const rig = configured();
    setup(rig);
    expect(rig.command(Command.ENABLE_DEVICE)).toBe(error);
  });

  it("fails where PASIDs are on, and the unit has ended ATS", () => {
    const rig = configured();
    rig.unit.status = () => CompletionStatus.UNSUPPORTED_REQUEST;
    expect([rig.command(Command.ENABLE_DEVICE), rig.command(Command.ENABLE_WQ)]).toEqual([0, 0]);
    rig.run({ opcode: Opcode.MEMMOVE, source: 0x2000, destination: 0x3000, size: 8 });
    expect([rig.command(Command.DISABLE_DEVICE), rig.command(Command.ENABLE_DEVICE)]).toEqual([0, CommandError.PASID_COMBINATION]);
  });

  it("needs neither where the unit has no ATS: then PASIDs stay off", () => {
    const rig = configured({}, false);
    expect(rig.command(Command.ENABLE_DEVICE)).toBe(0);
    rig.write32(rig.wqWord(0, WqWord.MODE), 0x1000_0011);
    expect(rig.command(Command.ENABLE_WQ)).toBe(CommandError.WQ_PASID);
  });
});

const ENABLE_WQ: readonly [name: string, error: number, mode: number, extra?: (rig: Rig) => void][] = [
  ["has no entries", CommandError.WQ_SIZE, 0x11, (rig) => rig.write32(rig.wqWord(0, WqWord.SIZE), 0)],
  ["has no priority", CommandError.WQ_PRIORITY, 1],
  ["is shared without PASIDs", CommandError.WQ_PASID, 0x10],
  ["has batches that are too large", CommandError.WQ_MAX_BATCH, 0x11, (rig) => rig.write32(rig.wqWord(0, WqWord.LIMITS), 11 << 5)],
];

describe("ENABLE_WQ", () => {
  it.each(ENABLE_WQ)("fails where the queue %s", (_name, error, mode, extra) => {
    const rig = configured();
    rig.write32(rig.wqWord(0, WqWord.MODE), mode);
    extra?.(rig);
    rig.command(Command.ENABLE_DEVICE);
    expect(rig.command(Command.ENABLE_WQ)).toBe(error);
  });

  it("fails where the device cannot do what is wanted", () => {
    const rig = configured({ ats: false, pri: false, pasid: false, maxTransferShift: 20 });
    rig.command(Command.ENABLE_DEVICE);
    const withMode = (mode: number, limits = 0): number => {
      rig.write32(rig.wqWord(0, WqWord.MODE), mode);
      rig.write32(rig.wqWord(0, WqWord.LIMITS), limits);
      return rig.command(Command.ENABLE_WQ);
    };
    expect(withMode(0x13)).toBe(CommandError.WQ_BLOCK_ON_FAULT);
    expect(withMode(0x1000_0011)).toBe(CommandError.WQ_PASID);
    expect(withMode(0x11, 21)).toBe(CommandError.WQ_MAX_TRANSFER);
    expect(withMode(0x11, 20)).toBe(0);
  });

  it("fails on a device or a queue that is not to be enabled", () => {
    const rig = configured();
    expect(rig.command(Command.ENABLE_WQ)).toBe(CommandError.DEVICE_NOT_ENABLED);
    rig.command(Command.ENABLE_DEVICE);
    expect(rig.command(Command.ENABLE_WQ, 8)).toBe(CommandError.INVALID_WQ);
    expect(rig.command(Command.ENABLE_WQ)).toBe(0);
    expect(rig.command(Command.ENABLE_WQ)).toBe(CommandError.WQ_ENABLED);
    expect(rig.read32(rig.wqWord(0, WqWord.OCCUPANCY)) >>> 30).toBe(1);
  });
});

describe("commands on queues", () => {
  it.each([Command.DISABLE_WQ, Command.DRAIN_WQ, Command.ABORT_WQ, Command.RESET_WQ])("%i needs queues that are there, and on", (command) => {
    const rig = new Rig();
    rig.start();
    expect(rig.command(command, 0)).toBe(CommandError.INVALID_WQ);
    expect(rig.command(command, 0x100)).toBe(CommandError.INVALID_WQ);
    expect(rig.command(command, 0x1_0001)).toBe(CommandError.INVALID_WQ);
    expect(rig.command(command, 3)).toBe(CommandError.WQ_NOT_ENABLED);
    expect(rig.command(command, 1)).toBe(0);
  });

  it.each([Command.DISABLE_DEVICE, Command.DRAIN_ALL, Command.ABORT_ALL, Command.DRAIN_PASID, Command.ABORT_PASID])("%i needs a device that is on", (command) => {
    expect(new Rig().command(command)).toBe(CommandError.DISABLE_NOT_ENABLED);
  });

  it.each([0, 15, 31])("%i is no command", (command) => expect(new Rig().command(command)).toBe(CommandError.INVALID_COMMAND));

  it("keep the configuration when a queue is disabled, and only its size when it is reset", () => {
    const rig = new Rig();
    rig.start([{ size: 5, threshold: 4 }]);
    const words = (): number[] => [WqWord.SIZE, WqWord.THRESHOLD, WqWord.MODE].map((word) => rig.read32(rig.wqWord(0, word)));
    rig.write32(rig.wqWord(0, WqWord.MODE), 0);
    expect(words()).toEqual([5, 4, 0x11]);
    rig.command(Command.DISABLE_WQ, 1);
    expect(words()).toEqual([5, 4, 0x11]);
    rig.write32(rig.wqWord(0, WqWord.SIZE), 6);
    expect(words()).toEqual([5, 4, 0x11]);
    rig.command(Command.ENABLE_WQ);
    rig.command(Command.RESET_WQ, 1);
    expect(words()).toEqual([5, 0, 0]);
  });
});

/** Two queues of two PASIDs, each with one descriptor that waits for the same page, and one that has ended. */
function waiting(): Rig {
  const rig = new Rig({}, true);
  rig.start([{ blockOnFault: true, pasid: 1 }, { blockOnFault: true, pasid: 2 }]);
  rig.unit.rights.set(FAULT_PAGE, 0);
  for (const queue of [0, 1]) {
    rig.submit(descriptor({ opcode: Opcode.FILL, source: 7, destination: A + 64 * queue, size: 8, flags: Flag.BLOCK_ON_FAULT, completion: 0x1000 + 0x1000 * queue }), { queue });
  }
  expect(rig.unit.questions).toHaveLength(2);
  return rig;
}

const statuses = (rig: Rig): number[] => [rig.record(0x1000).status, rig.record(0x2000).status];

const DRAINS: readonly [name: string, command: number, operand: number, answers: number][] = [
  ["DRAIN_ALL", Command.DRAIN_ALL, 0, 2],
  ["DRAIN_WQ 0", Command.DRAIN_WQ, 1, 1],
  ["DRAIN_WQ both", Command.DRAIN_WQ, 3, 2],
  ["DRAIN_PASID 1", Command.DRAIN_PASID, 1, 1],
  ["DISABLE_WQ 0", Command.DISABLE_WQ, 1, 1],
  ["DISABLE_DEVICE", Command.DISABLE_DEVICE, 0, 2],
];

describe("draining", () => {
  it.each(DRAINS)("%s waits for what is there, and for no other", (_name, command, operand, answers) => {
    const rig = waiting();
    expect(rig.command(command, operand)).toBe(ACTIVE);
    for (let i = 0; i < answers; i++) {
      expect(rig.commandError()).toBe(ACTIVE);
      rig.unit.rights.set(FAULT_PAGE, 3);
      rig.unit.respond();
    }
    expect(rig.commandError()).toBe(0);
    expect(statuses(rig).filter((status) => status === Status.SUCCESS)).toHaveLength(answers);
  });

  it("of a PASID that nobody uses is over at once", () => expect(waiting().command(Command.DRAIN_PASID, 9)).toBe(0));

  it("lets nothing new into what is being disabled, and makes other commands wait with an error", () => {
    const rig = waiting();
    rig.command(Command.DISABLE_DEVICE);
    expect(rig.read32(Register.GENSTS)).toBe(DeviceState.DRAIN);
    rig.submit(descriptor({ opcode: Opcode.NOOP }));
    expect(rig.swerr()).toMatchObject({ error: DeviceError.PORTAL_DISABLED });
    rig.write32(Register.SWERR, 3);
    expect(rig.command(Command.DRAIN_ALL)).toBe(ACTIVE);
    expect(rig.swerr()).toMatchObject({ error: DeviceError.COMMAND });
    rig.unit.respond();
    rig.unit.respond();
    expect([rig.commandError(), rig.read32(Register.GENSTS)]).toEqual([0, DeviceState.DISABLED]);
  });

  it("does not wait for what came after it", () => {
    const rig = waiting();
    rig.command(Command.DRAIN_WQ, 1);
    rig.submit(descriptor({ opcode: Opcode.FILL, destination: A + 128, size: 8, flags: Flag.BLOCK_ON_FAULT, completion: 0x3000 }));
    rig.unit.respond();
    expect(rig.commandError()).toBe(0);
  });

  it("interrupts when it is over, if it was asked to", () => {
    const rig = waiting();
    rig.write32(Register.CMD, 0x8000_0000 + (Command.DRAIN_WQ << 20) + 1);
    expect(rig.vectors).toEqual([]);
    rig.unit.respond();
    expect(rig.vectors).toEqual([0]);
    expect(rig.read32(Register.INTCAUSE)).toBe(IntCause.COMMAND);
    rig.write32(Register.INTCAUSE, IntCause.COMMAND);
    expect(rig.read32(Register.INTCAUSE)).toBe(0);
  });

  it("by a descriptor waits for earlier ones of the same queue and PASID", () => {
    const rig = new Rig();
    rig.start([{ dedicated: false, pasid: 0, blockOnFault: true }], 4);
    rig.unit.rights.set(FAULT_PAGE, 0);
    const submit = (opcode: number, pasid: number, completion: number): boolean =>
      rig.submit(descriptor({ opcode, pasid, destination: opcode === Opcode.FILL ? A : 0, size: opcode === Opcode.FILL ? 8 : 0, flags: opcode === Opcode.FILL ? Flag.BLOCK_ON_FAULT : 0, completion }), { deferrable: true });
    submit(Opcode.FILL, 5, 0x1000);
    submit(Opcode.DRAIN, 5, 0x2000);
    submit(Opcode.DRAIN, 6, 0x3000);
    submit(Opcode.NOOP, 5, 0x4000);
    const seen = (): number[] => [0x1000, 0x2000, 0x3000, 0x4000].map((at) => rig.record(at).status);
    expect(seen()).toEqual([0, 0, 1, 1]);
    rig.unit.respond();
    expect(seen()).toEqual([1, 1, 1, 1]);
  });
});

const ABORTS: readonly [name: string, command: number, operand: number, left: readonly number[]][] = [
  ["ABORT_ALL", Command.ABORT_ALL, 0, []],
  ["ABORT_WQ 0", Command.ABORT_WQ, 1, [1]],
  ["ABORT_PASID 2", Command.ABORT_PASID, 2, [0]],
  ["RESET_WQ 1", Command.RESET_WQ, 2, [0]],
  ["RESET_DEVICE", Command.RESET_DEVICE, 0, []],
];

describe("aborting", () => {
  it.each(ABORTS)("%s drops what it names, without a record, and leaves the others", (_name, command, operand, left) => {
    const rig = waiting();
    expect(rig.command(command, operand)).toBe(0);
    rig.unit.respond();
    rig.unit.respond();
    expect(statuses(rig)).toEqual([0, 1].map((queue) => (left.includes(queue) ? Status.SUCCESS : Status.NONE)));
    expect([rig.unit.memory[A], rig.unit.memory[A + 64]]).toEqual([0, 1].map((queue) => (left.includes(queue) ? 7 : 0)));
    expect(rig.device.queueState(0).inFlight + rig.device.queueState(1).inFlight).toBe(0);
  });

  it("drops what has not left the queue, keeps the order of the rest, and ends drains that waited for it", () => {
    const rig = new Rig({ engine: "manual" });
    rig.start([{ dedicated: false, pasid: 0, size: 12 }]);
    for (let i = 0; i < 12; i++) rig.submit(descriptor({ opcode: Opcode.NOOP, pasid: 1 + (i % 3), completion: 0x1000 + 32 * i }), { deferrable: true });
    let drained = false;
    rig.device.drainPasid(2, () => (drained = true));
    rig.device.abortPasid(2);
    expect(drained).toBe(true);
    const order: number[] = [];
    while (rig.device.engines[0].step()) {
      for (let i = 0; i < 12; i++) if (rig.record(0x1000 + 32 * i).status !== 0 && !order.includes(i)) order.push(i);
    }
    expect(order).toEqual([0, 2, 3, 5, 6, 8, 9, 11]);
  });
});

it("a drain does not take what was submitted after it for what it waits for, though an abort moved it up in the queue", () => {
  const rig = new Rig({ engine: "manual" });
  rig.start([{ dedicated: false, pasid: 0, blockOnFault: true }]);
  rig.unit.rights.set(FAULT_PAGE, 0);
  const submit = (opcode: number, pasid: number): boolean =>
    rig.submit(descriptor({ opcode, pasid, ...(opcode === Opcode.FILL && { destination: A, size: 8, flags: Flag.BLOCK_ON_FAULT }) }), { deferrable: true });
  for (let i = 0; i < 3; i++) submit(Opcode.NOOP, 1);
  submit(Opcode.FILL, 2);
  let drained = false;
  rig.device.drainPasid(2, () => (drained = true));
  submit(Opcode.NOOP, 2);
  rig.device.abortPasid(1);
  while (rig.device.engines[0].step());
  expect([rig.device.queueState(0).inFlight, drained]).toEqual([1, false]);
  rig.unit.respond();
  rig.device.engines[0].step();
  expect(drained).toBe(true);
});

describe("reset", () => {
  it("by command or function gives every register its default", () => {
    /** All but most of interrupt message storage. */
    const image = (rig: Rig): bigint[] => Array.from({ length: 0x1010 }, (_, i) => rig.read64(8 * i));
    const fresh = image(new Rig());
    for (const reset of [(rig: Rig): unknown => rig.command(Command.RESET_DEVICE), (rig: Rig): unknown => rig.device.reset()]) {
      const rig = waiting();
      rig.write32(Register.GENCTRL, 7);
      rig.write32(0x6008, 0x5008);
      rig.write32(0x8000, 0xfee0_0000);
      rig.command(Command.REQUEST_INT_HANDLE, 1);
      reset(rig);
      // CMD reads back what was last written to it.
      const different = image(rig).flatMap((word, i) => (word === fresh[i] || 8 * i === Register.CMD ? [] : [8 * i]));
      expect(different).toEqual([]);
      rig.start([{ blockOnFault: true, pasid: 1 }]);
      expect(rig.run({ opcode: Opcode.NOOP }).status).toBe(Status.SUCCESS);
    }
  });

  it("of the function ends a command that does not end", () => {
    const rig = waiting();
    rig.write32(Register.CMD, 0x8000_0000 + (Command.DRAIN_ALL << 20));
    expect(rig.commandError()).toBe(ACTIVE);
    rig.device.reset();
    expect([rig.commandError(), rig.vectors]).toEqual([0, []]);
    rig.unit.questions.length = 0;
    rig.start();
    expect(rig.command(Command.DRAIN_ALL)).toBe(0);
  });
});

describe("a halt", () => {
  it.each([[ResetNeeded.SOFTWARE, 0], [ResetNeeded.FUNCTION, CommandError.HARDWARE], [ResetNeeded.WARM, CommandError.HARDWARE]])("that needs reset %i stops everything, and RESET_DEVICE answers %i", (needed, error) => {
    const rig = waiting();
    rig.write32(Register.GENCTRL, 2);
    rig.device.halt(needed);
    expect(rig.read32(Register.GENSTS)).toBe(DeviceState.HALT | (needed << 2));
    expect([rig.read32(Register.INTCAUSE), rig.vectors]).toEqual([IntCause.HALT, [0]]);
    rig.unit.respond();
    expect(statuses(rig)).toEqual([0, 0]);
    expect(rig.command(Command.ENABLE_DEVICE)).toBe(CommandError.HARDWARE);
    rig.submit(descriptor({ opcode: Opcode.NOOP }));
    expect(rig.record().status).toBe(Status.NONE);
    expect(rig.command(Command.RESET_DEVICE)).toBe(error);
    expect(rig.read32(Register.GENSTS) & 3).toBe(error === 0 ? DeviceState.DISABLED : DeviceState.HALT);
  });
});

describe("configuration", () => {
  const PLACES = [Register.GENCFG, Register.EVLCFG, Register.EVLCFG + 8, 0x4000, 0x5000];

  it("can be written while the device is disabled, and then no more", () => {
    const rig = new Rig();
    rig.start();
    const before = PLACES.map((at) => rig.read32(at));
    for (const at of PLACES) rig.write32(at, 0xffff_ffff);
    expect(PLACES.map((at) => rig.read32(at))).toEqual(before);
    rig.command(Command.DISABLE_DEVICE);
    for (const at of PLACES) rig.write32(at, 0xffff_ffff);
    expect(PLACES.map((at) => rig.read32(at))).toEqual([GENCFG_EVENT_LOG, 0xffff_f003, 0xffff_ffff, 0xffff_ffff, 0xffff]);
  });

  it("ignores what is smaller than a register, or out of line", () => {
    const rig = new Rig();
    rig.device.writeBar(0, Register.EVLCFG, 2, 0xffffn);
    rig.device.writeBar(0, Register.EVLCFG + 2, 4, 0xffff_ffffn);
    rig.device.writeBar(0, 0xfffc, 8, 1n);
    expect([rig.read32(Register.EVLCFG), rig.device.readBar(0, Register.VERSION + 1, 1), rig.device.readBar(0, Register.VERSION, 2)]).toEqual([0, 2n, 0x200n]);
  });
});

describe("capabilities", () => {
  it("say what there is", () => {
    const rig = new Rig({ workQueues: 3, entries: 50, engines: 2, groups: 5, maxTransferShift: 25, maxBatchShift: 7 });
    expect(rig.read32(Register.VERSION)).toBe(0x200);
    const general = rig.read64(Register.GENCAP);
    expect([general & 0x1fn, (general >> 16n) & 31n, (general >> 21n) & 15n, (general >> 25n) & 63n, general >> 31n]).toEqual([0x1fn, 25n, 7n, 8n, 1n]);
    expect(rig.read64(Register.WQCAP) & 0xfff_ffffn).toBe(50n + (3n << 16n) + (1n << 24n));
    expect([rig.read64(Register.GRPCAP), rig.read64(Register.ENGCAP)]).toEqual([5n, 2n]);
    expect([rig.read64(Register.OPCAP), rig.read64(Register.OPCAP + 8)]).toEqual([0x1_00bf_07ffn, 0n]);
    expect(rig.read64(Register.OFFSETS)).toBe(0x0080_0060_0050_0040n);
    expect(rig.read32(Register.CMDCAP)).toBe(0x7ffe);
    expect(rig.device.extendedCapabilities.map(({ id }) => id)).toEqual([0x0f, 0x13, 0x1b]);
    expect(new Rig({ pasid: false, pri: false }).device.extendedCapabilities.map(({ id }) => id)).toEqual([0x0f]);
  });

  it.each([["workQueues", 0], ["entries", 70_000], ["engine", "often"], ["ats", 1], ["colour", "blue"], ["ats", false]])("refuse option %s = %j", (name, value) => {
    expect(() => new Rig({ [name]: value })).toThrow(RangeError);
  });
});
