/** Virtual DSAs: what a guest's driver sees, and what keeps siblings apart. */
import { describe, expect, it } from "vitest";
import { Command, CommandError } from "../dsa/spec/commands.js";
import { Status } from "../dsa/spec/completion.js";
import { Flag } from "../dsa/spec/descriptor.js";
import { DeviceError } from "../dsa/spec/errors.js";
import { WqMode, WqWord } from "../dsa/spec/queues.js";
import { IntCause, Register, Table } from "../dsa/spec/registers.js";
import { type Adi, adiMachine, Guest, move, recordStatus } from "../rig/adi-rig.js";
import { errno } from "../rig/pasid-rig.js";

const [SOURCE, TARGET, RECORD] = [0x1_0000, 0x2_0000, 0x3_0000];

/** An address space with three pages, for one PASID of a device. */
function space(guest: Guest, adi: Adi, vpasid?: number, queue?: number) {
  const ioas = guest.ioas();
  const [source, target, record] = [SOURCE, TARGET, RECORD].map((iova) => guest.page(ioas, BigInt(iova)));
  adi.attach(adi.table(ioas, queue), vpasid);
  source.fill(0x5a);
  return { ioas, source, target, record };
}

const MOVE = { source: SOURCE, destination: TARGET, size: 4096, completion: RECORD };

describe("types of a DSA", () => {
  it("tell how many are left, and share queues", () => {
    const machine = adiMachine(1, { workQueues: 2 });
    const left = (): number[] => machine.mdev?.types().map(({ available }) => available) ?? [];
    const guest = new Guest(machine);
    expect(left()).toEqual([2, 512]);
    const swq = guest.newAdi("idxd-1swq-v1");
    expect(left()).toEqual([1, 511]);
    const dwq = guest.newAdi("idxd-1dwq-v1");
    expect(left()).toEqual([0, 255]);
    expect(errno(() => guest.newAdi("idxd-1dwq-v1"))).toBe("ENOSPC");
    guest.newAdi("idxd-1swq-v1").remove();
    dwq.remove();
    swq.remove();
    expect(left()).toEqual([2, 512]);
  });

  it("take the parent from who could bind it, and give it back", () => {
    const guest = new Guest(adiMachine());
    const bind = (): string => {
      const fd = guest.client.open("/dev/vfio/devices/vfio0");
      const result = errno(() => guest.ioctl("VFIO_DEVICE_BIND_IOMMUFD", { iommufd: guest.iommufd }, fd));
      guest.client.close(fd);
      return result;
    };
    const adi = guest.newAdi("idxd-1dwq-v1");
    expect(bind()).toBe("EBUSY");
    adi.remove();
    expect(bind()).toBe("none");
    const fd = guest.client.open("/dev/vfio/devices/vfio0");
    guest.ioctl("VFIO_DEVICE_BIND_IOMMUFD", { iommufd: guest.iommufd }, fd);
    expect(errno(() => guest.newAdi("idxd-1dwq-v1"))).toBe("EBUSY");
  });

  it("R20: tell PASID flags and number space in VFIO_DEVICE_GET_INFO", () => {
    const guest = new Guest(adiMachine(2));
    const told = (adi: Adi): number[] => {
      const bytes = new Uint8Array(40);
      new DataView(bytes.buffer).setUint32(0, 40, true);
      guest.client.rawIoctl(adi.fd, 0x3b6b, bytes);
      const view = new DataView(bytes.buffer);
      const at = view.getUint32(16, true);
      return [view.getUint32(4, true) & 0x80, view.getUint16(at, true), view.getUint32(at + 8, true), view.getUint32(at + 12, true)];
    };
    const [a, b, c] = [guest.newAdi("idxd-1dwq-v1"), guest.newAdi("idxd-1swq-v1"), guest.newAdi("idxd-1dwq-v1", 1)].map(told);
    expect([a.slice(0, 3), b.slice(0, 3)]).toEqual([[0x80, 0x4d55, 0], [0x80, 0x4d55, 6]]);
    expect([a[3] === b[3], a[3] === c[3]]).toEqual([true, false]);
  });
});

describe("a virtual DSA's registers", () => {
  it("are the parent's, with one queue, one group, one engine, and nothing to configure", () => {
    const guest = new Guest(adiMachine());
    const [dwq, swq] = [guest.newAdi("idxd-1dwq-v1"), guest.newAdi("idxd-1swq-v1")];
    for (const [adi, mode] of [[dwq, 2n], [swq, 1n]] as const) {
      const [general, queues] = [adi.read(Register.GENCAP, 8), adi.read(Register.WQCAP, 8)];
      expect([(general >> 31n) & 1n, (general >> 25n) & 0x3fn, (general >> 4n) & 1n, general & 1n]).toEqual([0n, 0n, 1n, 1n]);
      expect([queues & 0xffffn, (queues >> 16n) & 0xffn, (queues >> 48n) & 3n]).toEqual([16n, 1n, mode]);
      expect([adi.read(Register.GRPCAP, 8), adi.read(Register.ENGCAP, 8)]).toEqual([1n, 1n]);
    }
  });

  it("WQCFG takes PASID, privilege and block on fault alone, while the queue is off", () => {
    const guest = new Guest(adiMachine());
    const adi = guest.newAdi("idxd-1dwq-v1");
    const word = Table.WQCFG + 4 * WqWord.MODE;
    adi.write(Table.WQCFG, 5);
    adi.write(word, 0xffff_fffe);
    expect([adi.read(Table.WQCFG), adi.read(word)]).toEqual([16n, BigInt(((0x3fff_ff02 & ~0xf0 & ~0xc) | 0x10 | WqMode.DEDICATED) >>> 0)]);
    space(guest, adi);
    expect(adi.start()).toBe(0);
    adi.write(word, 0);
    adi.configure({ pasid: 5 });
    expect(adi.read(word) & BigInt(WqMode.PASID_ENABLE)).toBe(0n);
  });

  it.each([
    ["enable the queue of a device that is off", (adi: Adi) => adi.command(Command.ENABLE_WQ, 0), CommandError.DEVICE_NOT_ENABLED],
    ["enable the device twice", (adi: Adi) => adi.start() || adi.command(Command.ENABLE_DEVICE), CommandError.DEVICE_ENABLED],
    ["enable the queue twice", (adi: Adi) => adi.start() || adi.command(Command.ENABLE_WQ, 0), CommandError.WQ_ENABLED],
    ["enable another queue", (adi: Adi) => adi.start() || adi.command(Command.ENABLE_WQ, 1), CommandError.INVALID_WQ],
    ["drain a queue that is off", (adi: Adi) => adi.command(Command.DRAIN_WQ, 1), CommandError.WQ_NOT_ENABLED],
    ["drain another queue", (adi: Adi) => adi.start() || adi.command(Command.DRAIN_WQ, 2), CommandError.INVALID_WQ],
    ["disable a device that is off", (adi: Adi) => adi.command(Command.DISABLE_DEVICE), CommandError.DISABLE_NOT_ENABLED],
    ["a PASID that is not attached", (adi: Adi) => adi.start({ pasid: 9 }), CommandError.WQ_PASID],
    ["a command that is none", (adi: Adi) => adi.command(0), CommandError.INVALID_COMMAND],
    ["a handle of message storage", (adi: Adi) => adi.command(Command.REQUEST_INT_HANDLE, 0x1_0001), CommandError.HANDLE_INDEX],
    ["a handle of a vector that is not there", (adi: Adi) => adi.command(Command.REQUEST_INT_HANDLE, 9), CommandError.HANDLE_INDEX],
    ["a handle that was not asked for", (adi: Adi) => adi.command(Command.RELEASE_INT_HANDLE, 1), CommandError.HANDLE_INDEX],
  ] as const)("%s: an error", (_what, run, error) => expect(run(new Guest(adiMachine()).newAdi("idxd-1dwq-v1"))).toBe(error));

  it("a shared queue is not enabled without PASIDs, nor a device without bus mastering", () => {
    const guest = new Guest(adiMachine());
    expect(guest.newAdi("idxd-1swq-v1").start()).toBe(CommandError.WQ_PASID);
    const adi = guest.newAdi("idxd-1dwq-v1");
    guest.client.pwrite(adi.fd, (7n << 40n) + 4n, Uint8Array.of(2, 0));
    expect(adi.command(Command.ENABLE_DEVICE)).toBe(CommandError.BUS_MASTER);
  });
});

describe("work", () => {
  it("of a dedicated queue is marked by the default PASID", () => {
    const guest = new Guest(adiMachine());
    const adi = guest.newAdi("idxd-1dwq-v1");
    const { target, record } = space(guest, adi);
    expect(adi.start()).toBe(0);
    expect(adi.submit(move(MOVE), false)).toBe(true);
    expect([recordStatus(record), target[4095]]).toEqual([Status.SUCCESS, 0x5a]);
  });

  it("with a PASID of the guest's goes to that space, whatever the descriptor says", () => {
    const guest = new Guest(adiMachine());
    const adi = guest.newAdi("idxd-1dwq-v1");
    const own = space(guest, adi);
    const other = space(guest, adi, 5);
    expect(adi.start({ pasid: 5 })).toBe(0);
    adi.submit(move({ ...MOVE, pasid: 77 }), false);
    expect([recordStatus(other.record), other.target[0], own.target[0]]).toEqual([Status.SUCCESS, 0x5a, 0]);
  });

  it("of a shared queue goes by each descriptor's PASID, which is translated", () => {
    const guest = new Guest(adiMachine());
    const adi = guest.newAdi("idxd-1swq-v1");
    const spaces = [3, 4].map((vpasid) => space(guest, adi, vpasid));
    expect(adi.start({ pasid: 1 })).toBe(0);
    expect(adi.submit(move({ ...MOVE, pasid: 4 }), true)).toBe(true);
    expect(spaces.map(({ target }) => target[0])).toEqual([0, 0x5a]);
    expect(adi.submit(move({ ...MOVE, pasid: 9 }), true)).toBe(false);
    expect(adi.swerr).toMatchObject({ error: DeviceError.PORTAL_PASID, queue: 0 });
  });

  it("a store to a portal of a queue that is off is lost, with an error and a cause", () => {
    const guest = new Guest(adiMachine());
    const adi = guest.newAdi("idxd-1dwq-v1");
    adi.write(Register.GENCTRL, 1);
    expect(adi.submit(move(MOVE), false)).toBe(false);
    expect([adi.swerr?.error, adi.read(Register.INTCAUSE)]).toEqual([DeviceError.PORTAL_DISABLED, BigInt(IntCause.ERROR)]);
    adi.write(Register.SWERR, 3);
    adi.write(Register.INTCAUSE, IntCause.ERROR);
    expect([adi.swerr, adi.read(Register.INTCAUSE)]).toEqual([undefined, 0n]);
  });

  it("an error of one is told to it, in its numbers, and to no sibling", () => {
    const guest = new Guest(adiMachine());
    const [a, b] = [guest.newAdi("idxd-1swq-v1"), guest.newAdi("idxd-1swq-v1")];
    for (const [i, adi] of [a, b].entries()) {
      space(guest, adi, 6 + i);
      adi.start({ pasid: 1 });
    }
    a.submit(move({ ...MOVE, pasid: 6, completion: 0x9_0000 }), true);
    expect(a.swerr).toEqual({ error: Status.COMPLETION_FAULT, queue: 0, pasid: 6 });
    expect(b.swerr).toBeUndefined();
  });

  it("a handle is good for its own device alone, and its interrupt is the device's", () => {
    const guest = new Guest(adiMachine());
    const [a, b] = [guest.newAdi("idxd-1dwq-v1"), guest.newAdi("idxd-1dwq-v1")];
    const spaces = [a, b].map((adi) => space(guest, adi));
    for (const adi of [a, b]) adi.start();
    const events = [a, b].map((adi) => {
      const fds = Array.from({ length: 9 }, () => guest.client.eventfd());
      const request = new Uint8Array(20 + 36);
      new Uint32Array(request.buffer).set([56, 0x24, 2, 0, 9, ...fds]);
      guest.client.rawIoctl(adi.fd, 0x3b6e, request);
      return fds;
    });
    expect(a.command(Command.REQUEST_INT_HANDLE, 3)).toBe(0);
    const handle = a.result;
    for (const adi of [a, b]) adi.submit(move({ ...MOVE, flags: Flag.REQUEST_INTERRUPT, handle }), false);
    expect(spaces.map(({ record }) => recordStatus(record))).toEqual([Status.SUCCESS, Status.INTERRUPT_HANDLE]);
    expect(events.map((fds) => fds.map((fd) => guest.client.eventCount(fd)))).toEqual([[0, 0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0]]);
  });
});

describe("siblings", () => {
  it("two ADIs of one RID, one IOVA: different memory", () => {
    const guest = new Guest(adiMachine());
    const adis = [guest.newAdi("idxd-1dwq-v1"), guest.newAdi("idxd-1dwq-v1")];
    const spaces = adis.map((adi) => space(guest, adi));
    for (const adi of adis) adi.start();
    adis[1].submit(move(MOVE), false);
    expect(spaces.map(({ target }) => target[0])).toEqual([0, 0x5a]);
  });

  it("a fault of one is told by its own PASID, and is the other's nothing", () => {
    const guest = new Guest(adiMachine());
    const adis = [guest.newAdi("idxd-1dwq-v1"), guest.newAdi("idxd-1dwq-v1")];
    const queues = adis.map(() => guest.queue());
    const spaces = adis.map((adi, i) => space(guest, adi, undefined, queues[i].id));
    for (const adi of adis) adi.start({ blockOnFault: true });
    adis[0].submit(move({ ...MOVE, destination: 0x8_0000, flags: Flag.BLOCK_ON_FAULT }), false);
    adis[1].submit(move(MOVE), false);
    expect(spaces.map(({ record }) => recordStatus(record))).toEqual([0, Status.SUCCESS]);
    expect(guest.faults(queues[1].fd)).toEqual([]);
    const [fault] = guest.faults(queues[0].fd);
    expect(fault).toMatchObject({ dev_id: adis[0].id, addr: 0x8_0000n, pasid: undefined });
    const page = guest.page(spaces[0].ioas, 0x8_0000n);
    guest.answer(queues[0].fd, fault.cookie, 0);
    expect([recordStatus(spaces[0].record), page[4095]]).toEqual([Status.SUCCESS, 0x5a]);
  });

  it("a reset of one leaves what the other waits for running", () => {
    const guest = new Guest(adiMachine());
    const adis = [guest.newAdi("idxd-1swq-v1"), guest.newAdi("idxd-1swq-v1")];
    const queues = adis.map(() => guest.queue());
    const spaces = adis.map((adi, i) => space(guest, adi, 1 + i, queues[i].id));
    for (const [i, adi] of adis.entries()) {
      adi.start({ pasid: 1 });
      adi.submit(move({ ...MOVE, destination: 0x8_0000, pasid: 1 + i, flags: Flag.BLOCK_ON_FAULT }), true);
    }
    const [[dropped], [kept]] = queues.map(({ fd }) => guest.faults(fd));
    adis[0].reset();
    guest.page(spaces[1].ioas, 0x8_0000n);
    guest.answer(queues[1].fd, kept.cookie, 0);
    guest.page(spaces[0].ioas, 0x8_0000n);
    guest.answer(queues[0].fd, dropped.cookie, 0);
    expect(spaces.map(({ record }) => recordStatus(record))).toEqual([0, Status.SUCCESS]);
    expect(adis[0].read(Register.GENSTS)).toBe(0n);
  });

  it("a drain waits for its own work alone", () => {
    const guest = new Guest(adiMachine());
    const adis = [guest.newAdi("idxd-1swq-v1"), guest.newAdi("idxd-1swq-v1")];
    const queues = adis.map(() => guest.queue());
    const spaces = adis.map((adi, i) => space(guest, adi, 1 + i, queues[i].id));
    for (const [i, adi] of adis.entries()) adi.start({ pasid: 1 + i });
    adis[0].submit(move({ ...MOVE, destination: 0x8_0000, pasid: 1, flags: Flag.BLOCK_ON_FAULT }), true);
    expect(adis[1].command(Command.DRAIN_WQ, 1)).toBe(0);
    expect(adis[0].command(Command.DRAIN_PASID, 2)).toBe(0);
    expect(adis[0].command(Command.DRAIN_WQ, 1)).toBe(-1);
    adis[0].write(Register.CMD, Command.ABORT_ALL << 20);
    expect(adis[0].swerr?.error).toBe(DeviceError.COMMAND);
    const [fault] = guest.faults(queues[0].fd);
    guest.page(spaces[0].ioas, 0x8_0000n);
    guest.answer(queues[0].fd, fault.cookie, 0);
    expect([adis[0].commandError, recordStatus(spaces[0].record)]).toEqual([0, Status.SUCCESS]);
  });

  it("closing one ends its work; its PASIDs are nobody's then", () => {
    const guest = new Guest(adiMachine());
    const adi = guest.newAdi("idxd-1dwq-v1");
    const queue = guest.queue();
    const { record } = space(guest, adi, undefined, queue.id);
    adi.start({ blockOnFault: true });
    adi.submit(move({ ...MOVE, destination: 0x8_0000, flags: Flag.BLOCK_ON_FAULT }), false);
    adi.close();
    expect(guest.faults(queue.fd)).toEqual([]);
    expect(recordStatus(record)).toBe(0);
    const again = guest.open(adi.uuid);
    const fresh = space(guest, again);
    expect(again.start()).toBe(0);
    again.submit(move(MOVE), false);
    expect(recordStatus(fresh.record)).toBe(Status.SUCCESS);
  });
});
