/** Interrupts: handles, who owns them, message storage; and what a parent's user is given. */
import { describe, expect, it } from "vitest";
import { COMPLETION, descriptor, Rig } from "./rig.test-support.js";
import { Command, CommandError, OPERAND_IMS } from "./spec/commands.js";
import { Status } from "./spec/completion.js";
import { Flag, Opcode } from "./spec/descriptor.js";
import { Owner } from "./spec/queues.js";
import { Portal, Register, Table } from "./spec/registers.js";
import { type DeviceErrorRecord, dsaParent } from "./parent.js";

const INTERRUPT = Flag.REQUEST_INTERRUPT;
const PASID = 5;

function started(): Rig {
  const rig = new Rig();
  rig.start([{ dedicated: false, pasid: 0, blockOnFault: true }]);
  return rig;
}

const noop = (handle: number, pasid = PASID, completion = COMPLETION): Uint8Array => descriptor({ opcode: Opcode.NOOP, flags: INTERRUPT, handle, pasid, completion });

/** Status of a no-op with an interrupt. */
function ring(rig: Rig, handle: number, { pasid = PASID, portal = Portal.UNLIMITED_MSIX as number } = {}): number {
  rig.unit.memory[COMPLETION] = 0;
  rig.submit(noop(handle, pasid), { deferrable: true, portal });
  return rig.record().status;
}

describe("interrupt handles", () => {
  it("are asked for, and given back", () => {
    const rig = started();
    expect(rig.command(Command.REQUEST_INT_HANDLE, 3)).toBe(0);
    expect(rig.read32(Register.CMDSTS) >>> 8).toBe(3);
    expect(rig.command(Command.REQUEST_INT_HANDLE, 3)).toBe(CommandError.NO_HANDLE);
    expect(rig.command(Command.REQUEST_INT_HANDLE, 9)).toBe(CommandError.HANDLE_INDEX);
    expect(rig.command(Command.REQUEST_INT_HANDLE, OPERAND_IMS | 2048)).toBe(CommandError.HANDLE_INDEX);
    expect(rig.command(Command.RELEASE_INT_HANDLE, 3)).toBe(0);
    expect(rig.command(Command.RELEASE_INT_HANDLE, 3)).toBe(CommandError.HANDLE_INDEX);
  });

  it("are the entries' numbers on a device that does not have them asked for", () => {
    const rig = new Rig({ interruptHandles: false });
    rig.start([{ dedicated: false, pasid: 0 }]);
    const [requests, releases] = [Command.REQUEST_INT_HANDLE, Command.RELEASE_INT_HANDLE];
    expect([(rig.read32(Register.CMDCAP) >>> requests) & 3, rig.command(requests, 3), rig.command(releases, 3)]).toEqual([0, CommandError.INVALID_COMMAND, CommandError.INVALID_COMMAND]);
    rig.write32(Table.MSIX_PERM + 16, Owner.PASID_ENABLE | (PASID << Owner.PASID_SHIFT));
    expect([ring(rig, 2), ring(rig, 3), ring(rig, 9), rig.vectors]).toEqual([Status.SUCCESS, Status.INTERRUPT_HANDLE, Status.INTERRUPT_HANDLE, [2]]);
  });

  it("of the MSI-X table belong to the PASID that MSIX_PERM names", () => {
    const rig = started();
    rig.command(Command.REQUEST_INT_HANDLE, 2);
    const permit = (word: number): void => rig.write32(Table.MSIX_PERM + 16, word);
    expect(ring(rig, 2)).toBe(Status.INTERRUPT_HANDLE);
    permit(Owner.PASID_ENABLE | (6 << Owner.PASID_SHIFT));
    expect(ring(rig, 2)).toBe(Status.INTERRUPT_HANDLE);
    permit(Owner.PASID_ENABLE | (PASID << Owner.PASID_SHIFT));
    expect(ring(rig, 2)).toBe(Status.SUCCESS);
    expect(ring(rig, 2, { pasid: 6 })).toBe(Status.INTERRUPT_HANDLE);
    permit(Owner.IGNORE_PASID);
    expect(ring(rig, 2, { pasid: 6 })).toBe(Status.SUCCESS);
    expect(ring(rig, 2, { portal: Portal.UNLIMITED_IMS })).toBe(Status.INTERRUPT_HANDLE);
    expect(rig.vectors).toEqual([2, 2]);
  });

  it("of message storage send the message there, when it is not masked", () => {
    const rig = started();
    rig.command(Command.REQUEST_INT_HANDLE, OPERAND_IMS | 7);
    const entry = Table.IMS + 16 * 7;
    const owner = Owner.PASID_ENABLE | (PASID << Owner.PASID_SHIFT);
    [0xfee0_1000, 1, 0x42, owner | Owner.MASKED].forEach((word, i) => rig.write32(entry + 4 * i, word));
    expect(ring(rig, 7, { portal: Portal.LIMITED_IMS })).toBe(Status.SUCCESS);
    expect(rig.unit.messages).toEqual([]);
    expect(rig.read32(entry + 12) & Owner.PENDING).toBe(Owner.PENDING);
    rig.write32(entry + 12, owner);
    expect(rig.unit.messages).toEqual([[0x1_fee0_1000n, 0x42]]);
    expect(rig.read32(entry + 12)).toBe(owner);
    ring(rig, 7, { portal: Portal.LIMITED_IMS });
    expect(rig.unit.messages).toHaveLength(2);
    expect(ring(rig, 7)).toBe(Status.INTERRUPT_HANDLE);
  });

  it("given back before the descriptor has ended are silent", () => {
    const rig = started();
    const heard: number[] = [];
    const handle = rig.device.requestInterrupt(PASID, () => void heard.push(1)) ?? -1;
    rig.unit.rights.set(0x100, 0);
    rig.device.submit(0, descriptor({ opcode: Opcode.FILL, pasid: PASID, destination: 0x10_0000, size: 8, flags: INTERRUPT | Flag.BLOCK_ON_FAULT, handle }), true);
    rig.device.releaseInterrupt(handle);
    rig.unit.respond();
    expect([rig.record().status, heard, rig.unit.messages]).toEqual([Status.SUCCESS, [], []]);
  });

  it("fire after the record is in place, for failures too, and not for a handle that is not owned", () => {
    const rig = started();
    rig.command(Command.REQUEST_INT_HANDLE, 1);
    rig.write32(Table.MSIX_PERM + 8, Owner.IGNORE_PASID);
    rig.submit(descriptor({ opcode: 0x7f, flags: INTERRUPT, handle: 1 }), { deferrable: true });
    expect([rig.record().status, rig.vectors]).toEqual([Status.OPCODE, [1]]);
    rig.submit(noop(4), { deferrable: true });
    expect(rig.vectors).toEqual([1]);
  });
});

describe("a parent of mediated devices", () => {
  it("configures, enables, states and disables one queue", () => {
    const rig = new Rig();
    rig.start([{ pasid: 1 }, { size: 8 }]);
    const { device } = rig;
    expect(() => device.configureQueue(1, { dedicated: false })).toThrow(RangeError);
    expect(() => device.queueState(99)).toThrow(RangeError);
    let disabled = false;
    expect(device.disableQueue(1, () => (disabled = true))).toBe(0);
    expect(disabled).toBe(true);
    expect(device.disableQueue(1, () => {})).toBe(CommandError.WQ_NOT_ENABLED);
    expect(() => device.configureQueue(1, { size: 9 })).toThrow(RangeError);
    device.configureQueue(1, { dedicated: false, threshold: 5, pasid: 0, privileged: true, priority: 4, blockOnFault: true, maxBatchShift: 3, maxTransferShift: 20 });
    expect(rig.read32(rig.wqWord(1, 2))).toBe(0x3000_0042);
    expect(rig.read32(rig.wqWord(1, 3))).toBe(20 | (3 << 5));
    expect(device.enableQueue(1)).toBe(0);
    expect(device.queueState(1)).toEqual({ enabled: true, dedicated: false, size: 8, threshold: 5, occupancy: 0, inFlight: 0, pasid: 0 });
    expect(device.submit(1, noop(0, 3), true)).toBe(true);
    expect(device.resetQueue(1)).toBe(0);
    device.configureQueue(1, { dedicated: true, priority: 1, pasid: null });
    expect([device.enableQueue(1), device.queueState(1).pasid]).toEqual([0, undefined]);
  });

  it("is set up without a register", () => {
    const { device } = new Rig();
    device.configureQueue(3, { size: 4, dedicated: true, priority: 1, pasid: 8 });
    expect(device.enableDevice()).toBe(CommandError.GROUP_QUEUE_LOST);
    device.configureGroup(2, { queues: [3], engines: [0, 1] });
    expect(() => device.configureGroup(4, { queues: [], engines: [] })).toThrow(RangeError);
    expect([device.enableDevice(), device.enabled, device.enableQueue(3)]).toEqual([0, true, 0]);
    expect(() => device.configureGroup(2, { queues: [], engines: [] })).toThrow(RangeError);
    expect(device.submit(3, noop(0), false)).toBe(true);
    expect(dsaParent(device)).toBe(device);
    expect(dsaParent({})).toBeUndefined();
  });

  it("gives interrupts of its own to each PASID", () => {
    const rig = started();
    const heard: string[] = [];
    const [five, six] = [5, 6].map((pasid) => rig.device.requestInterrupt(pasid, () => void heard.push(`${pasid}`)) ?? -1);
    const submit = (handle: number, pasid: number): number => {
      rig.unit.memory[COMPLETION] = 0;
      rig.device.submit(0, noop(handle, pasid), true);
      return rig.record().status;
    };
    expect([submit(five, 5), submit(six, 6), submit(five, 6), submit(six, 5)]).toEqual([Status.SUCCESS, Status.SUCCESS, Status.INTERRUPT_HANDLE, Status.INTERRUPT_HANDLE]);
    expect(heard).toEqual(["5", "6"]);
    rig.device.releaseInterrupt(five);
    expect(submit(five, 5)).toBe(Status.INTERRUPT_HANDLE);
    let count = 1;
    while (rig.device.requestInterrupt(1, () => {}) !== undefined) count++;
    expect(count).toBe(2048);
  });

  it("tells errors of a queue and PASID to whoever listens, and the rest to SWERR", () => {
    const rig = started();
    const heard: DeviceErrorRecord[] = [];
    const stop = rig.device.onError(0, 5, (error) => void heard.push(error));
    rig.unit.rights.set(3, 0);
    const lose = (pasid: number): boolean => rig.device.submit(0, descriptor({ opcode: Opcode.NOOP, pasid, completion: 0x3020 }), true);
    lose(5);
    expect(heard).toMatchObject([{ error: Status.COMPLETION_FAULT, queue: 0, pasid: 5, faultPage: 3, faultOffset: 0x20, operation: Opcode.NOOP }]);
    expect(heard[0].record?.[0]).toBe(Status.SUCCESS);
    expect(rig.swerr()).toBeUndefined();
    lose(6);
    expect(rig.swerr()).toMatchObject({ pasid: 6 });
    stop();
    lose(5);
    expect([heard.length, rig.swerr()?.overflow]).toEqual([1, true]);
  });

  it("drains one PASID while another waits, and aborts one while another goes on", () => {
    const rig = started();
    rig.unit.rights.set(0x100, 0);
    const wait = (pasid: number): boolean =>
      rig.device.submit(0, descriptor({ opcode: Opcode.FILL, pasid, destination: 0x10_0000 + 8 * pasid, size: 8, source: 1, flags: Flag.BLOCK_ON_FAULT, completion: COMPLETION + 32 * pasid }), true);
    wait(5);
    wait(6);
    const drained: number[] = [];
    for (const pasid of [4, 5, 6]) rig.device.drainPasid(pasid, () => void drained.push(pasid));
    expect(drained).toEqual([4]);
    rig.device.abortPasid(5);
    expect(drained).toEqual([4, 5]);
    rig.unit.respond();
    rig.unit.respond();
    expect(drained).toEqual([4, 5, 6]);
    expect([5, 6].map((pasid) => rig.record(COMPLETION + 32 * pasid).status)).toEqual([Status.NONE, Status.SUCCESS]);
  });

  it("may be called from within an interrupt: what is at hand is dropped, and nothing else breaks", () => {
    const rig = started();
    const handle = rig.device.requestInterrupt(PASID, () => rig.device.abortPasid(PASID)) ?? -1;
    for (let i = 0; i < 5; i++) rig.device.submit(0, noop(handle, PASID, COMPLETION + 32 * i), true);
    expect(rig.device.queueState(0)).toMatchObject({ inFlight: 0, occupancy: 0 });
    rig.unit.rights.set(0x100, 0);
    for (const i of [0, 1]) rig.device.submit(0, descriptor({ opcode: Opcode.FILL, pasid: 6, source: 3 + i, destination: 0x10_0000 + 8 * i, size: 8, flags: Flag.BLOCK_ON_FAULT, completion: 0x2000 + 32 * i }), true);
    rig.unit.respond();
    rig.unit.respond();
    expect([0, 1].map((i) => [rig.record(0x2000 + 32 * i).status, rig.unit.memory[0x10_0000 + 8 * i]])).toEqual([[Status.SUCCESS, 3], [Status.SUCCESS, 4]]);
  });
});
