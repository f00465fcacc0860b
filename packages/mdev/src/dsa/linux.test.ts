/** What Linux's idxd driver and its users rely on, from finding the tables to closing a file. */
import { describe, expect, it } from "vitest";
import { descriptor, type DescriptorFields, Rig } from "./rig.test-support.js";
import { Command } from "./spec/commands.js";
import { Status } from "./spec/completion.js";
import { Flag, Opcode } from "./spec/descriptor.js";
import { DeviceState, Portal, Register } from "./spec/registers.js";

const UNIT = 256;
const [A, B] = [0x10_0000, 0x14_0000];

/** The driver's way: it resets what it finds, and takes places and sizes from the registers. */
class Driver {
  readonly rig = new Rig();
  readonly grpcfg: number;
  readonly wqcfg: number;
  readonly permissions: number;
  readonly wqcfgBytes: number;

  constructor() {
    const { rig } = this;
    expect(rig.command(Command.RESET_DEVICE)).toBe(0);
    const offsets = rig.read64(Register.OFFSETS);
    [this.grpcfg, this.wqcfg, this.permissions] = [0n, 16n, 32n].map((shift) => Number((offsets >> shift) & 0xffffn) * UNIT);
    const queues = rig.read64(Register.WQCAP);
    this.wqcfgBytes = 1 << (5 + Number((queues >> 24n) & 15n));
    expect([Number(queues & 0xffffn), Number((queues >> 16n) & 0xffn)]).toEqual([128, 8]);
  }

  wq = (queue: number, word: number): number => this.wqcfg + queue * this.wqcfgBytes + 4 * word;

  /** Every word of a queue's configuration is written, those that do not take it included. */
  configure(queue: number, words: readonly number[]): void {
    for (let word = 0; word < this.wqcfgBytes / 4; word++) this.rig.write32(this.wq(queue, word), words[word] ?? this.rig.read32(this.wq(queue, word)));
  }

  state = (): number => this.rig.read32(Register.GENSTS) & 3;
  /** Each vector but the first gets a handle, and MSIX_PERM lets the driver's own PASID use it. */
  vectors(pasid: number): number[] {
    return Array.from({ length: 8 }, (_, i) => {
      this.rig.write32(this.permissions + 8 * (i + 1), 8 | (pasid << 12));
      expect(this.rig.command(Command.REQUEST_INT_HANDLE, i + 1)).toBe(0);
      return (this.rig.read32(Register.CMDSTS) >>> 8) & 0xffff;
    });
  }
}

const LIMITS = 21 | (5 << 5);

describe("the driver", () => {
  it("brings a device up, submits with an interrupt, and takes it down, configuration and all", () => {
    const driver = new Driver();
    const { rig } = driver;
    const SUPERVISOR = 0x3e8;
    const mode = 0x11 | (SUPERVISOR << 8) | 0x3000_0000;
    driver.configure(0, [16, 16, mode, LIMITS]);
    rig.device.writeBar(0, driver.grpcfg, 8, 1n);
    rig.device.writeBar(0, driver.grpcfg + 32, 8, 0xfn);
    const [handle] = driver.vectors(SUPERVISOR);
    expect(driver.state()).toBe(DeviceState.DISABLED);
    expect([rig.command(Command.ENABLE_DEVICE), driver.state(), rig.command(Command.ENABLE_WQ, 0)]).toEqual([0, DeviceState.ENABLED, 0]);
    expect(rig.read32(driver.wq(0, 6)) >>> 30).toBe(1);

    rig.paint(A, 4096);
    rig.submit(descriptor({ opcode: Opcode.MEMMOVE, pasid: SUPERVISOR | 0x8000_0000, source: A, destination: B, size: 4096, flags: Flag.REQUEST_INTERRUPT | Flag.CACHE_CONTROL, handle }));
    expect([rig.record().status, rig.vectors]).toEqual([Status.SUCCESS, [handle]]);

    // Disabling is: drain, reset, and the configuration written again.
    expect([rig.command(Command.DRAIN_WQ, 1), rig.command(Command.RESET_WQ, 1)]).toEqual([0, 0]);
    expect(rig.read32(driver.wq(0, 2))).toBe(0);
    driver.configure(0, [16, 16, mode, LIMITS]);
    expect(rig.command(Command.ENABLE_WQ, 0)).toBe(0);
    expect([rig.command(Command.DISABLE_WQ, 1), rig.command(Command.DISABLE_DEVICE), driver.state()]).toEqual([0, 0, DeviceState.DISABLED]);
    expect(rig.command(Command.ENABLE_DEVICE)).toBe(0);
  });
});

describe("a user's file", () => {
  it("on a shared queue has its PASID drained when it closes, while others go on", () => {
    const { rig } = new Driver();
    rig.start([{ dedicated: false, pasid: 0, threshold: 8, blockOnFault: true }]);
    rig.unit.rights.set(B >> 12, 0);
    const fill = (pasid: number, completion: number): boolean =>
      rig.submit(descriptor({ opcode: Opcode.FILL, pasid, source: 1, destination: B + pasid * 8, size: 8, flags: Flag.BLOCK_ON_FAULT, completion }), { deferrable: true, portal: Portal.LIMITED_MSIX });
    expect([fill(2, 0x1000), fill(3, 0x2000)]).toEqual([true, true]);
    expect(rig.command(Command.DRAIN_PASID, 2)).toBe(-1);
    rig.unit.respond();
    expect([rig.commandError(), rig.record(0x1000).status, rig.record(0x2000).status]).toEqual([0, Status.SUCCESS, Status.NONE]);
  });

  it("gets no privilege, whatever it writes", () => {
    const { rig } = new Driver();
    rig.start([{ dedicated: false, pasid: 0 }]);
    rig.submit(descriptor({ opcode: Opcode.NOOP, pasid: 0x8000_0002 }), { deferrable: true });
    expect(rig.record().status).toBe(Status.PRIVILEGE);
  });
});

/** Resubmits by the rules for each operation until it is done, touching pages as the record says. */
describe("a user without block on fault", () => {
  const touch = (rig: Rig, fields: DescriptorFields): { status: number; rounds: number } => {
    for (let rounds = 0, now = fields; ; rounds++) {
      const { status, completed, result, faultAddress } = rig.run(now);
      if ((status & 0x7f) !== Status.PAGE_FAULT) return { status, rounds };
      rig.unit.rights.set(Number(faultAddress >> 12n), (status & 0x80) !== 0 ? 3 : 1);
      const [source, destination] = [Number(now.source), Number(now.destination)];
      now = { ...now, size: (now.size ?? 0) - completed, ...(result === 0 && { source: source + completed, destination: destination + completed }) };
    }
  };

  it.each([[0x4_0000, "forwards"], [0x1800, "backwards"]])("moves by %i, %s, a page a round", (distance) => {
    const rig = new Rig();
    rig.start();
    const before = rig.paint(A, 0x4000).slice();
    for (let page = A >> 12; page < (A >> 12) + 0x60; page++) rig.unit.rights.set(page, 0);
    const { status, rounds } = touch(rig, { opcode: Opcode.MEMMOVE, source: A, destination: A + distance, size: 0x4000 });
    expect(status).toBe(Status.SUCCESS);
    expect(rounds).toBeGreaterThanOrEqual(6);
    expect(Buffer.from(rig.unit.memory.subarray(A + distance, A + distance + 0x4000)).equals(before)).toBe(true);
  });
});
