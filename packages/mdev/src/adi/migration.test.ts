/** Virtual DSAs on their way to another machine: vPASIDs and registers go, the host's numbers stay. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Status } from "../dsa/spec/completion.js";
import { Flag } from "../dsa/spec/descriptor.js";
import { IntCause, Register } from "../dsa/spec/registers.js";
import { type Adi, adiMachine, Guest, move, recordStatus } from "../rig/adi-rig.js";
import { errno } from "../rig/pasid-rig.js";

const FEATURE = 0x3b75;
const [GET, SET, PROBE] = [1 << 16, 1 << 17, 1 << 18];
const [MIGRATION, DEVICE_STATE] = [1, 2];
const State = { ERROR: 0, STOP: 1, RUNNING: 2, STOP_COPY: 3, RESUMING: 4 } as const;
const [SOURCE, TARGET, RECORD] = [0x1_0000, 0x2_0000, 0x3_0000];
const MOVE = { source: SOURCE, destination: TARGET, size: 64, completion: RECORD };

/** VFIO_DEVICE_FEATURE: its two payload words. */
function feature(adi: Adi, flags: number, first = 0): [number, number] {
  const bytes = new Uint8Array(16);
  new Uint32Array(bytes.buffer).set([16, flags, first, 0]);
  adi.guest.client.rawIoctl(adi.fd, FEATURE, bytes);
  return [new Uint32Array(bytes.buffer)[2], new Int32Array(bytes.buffer)[3]];
}

/** Goes to a state; its stream's descriptor, or -1. */
const go = (adi: Adi, state: number): number => feature(adi, DEVICE_STATE | SET, state)[1];
const where = (adi: Adi): number => feature(adi, DEVICE_STATE | GET)[0];

function stream(adi: Adi): Uint8Array {
  const fd = go(adi, State.STOP_COPY);
  const parts: number[] = [];
  for (let part = adi.guest.client.read(fd, 100); part.length > 0; part = adi.guest.client.read(fd, 100)) parts.push(...part);
  return Uint8Array.from(parts);
}

function space(guest: Guest, adi: Adi, vpasid?: number) {
  const ioas = guest.ioas();
  const [source, target, record] = [SOURCE, TARGET, RECORD].map((iova) => guest.page(ioas, BigInt(iova)));
  adi.attach(adi.table(ioas), vpasid);
  source.fill(0x5a);
  return { ioas, target, record };
}

describe("a virtual DSA that migrates", () => {
  it("offers STOP_COPY, begins as RUNNING, and goes from state to state through STOP", () => {
    const adi = new Guest(adiMachine()).newAdi("idxd-1dwq-v1");
    feature(adi, MIGRATION | PROBE | GET);
    expect([feature(adi, MIGRATION | GET)[0], where(adi)]).toEqual([1, State.RUNNING]);
    for (const state of [State.STOP_COPY, State.RESUMING]) {
      const fd = go(adi, state);
      expect([fd > 0, where(adi)]).toEqual([true, state]);
      if (state === State.STOP_COPY) expect(adi.guest.client.read(fd, 4).length).toBe(4);
    }
    expect(errno(() => go(adi, State.STOP))).toBe("EINVAL");
    adi.reset();
    expect(where(adi)).toBe(State.RUNNING);
    for (const state of [State.ERROR, 5, 9]) expect(errno(() => go(adi, state))).toBe("EINVAL");
  });

  it.each(["idxd-1dwq-v1", "idxd-1swq-v1"] as const)("%s: takes vPASIDs along, and finds other numbers on the other side", (type) => {
    const [one, two] = [new Guest(adiMachine()), new Guest(adiMachine())];
    const before = one.newAdi(type);
    space(one, before, 5);
    expect(before.start({ pasid: 5 })).toBe(0);
    before.write(Register.GENCTRL, 1);
    go(before, State.STOP);
    expect(before.submit(move({ ...MOVE, pasid: 5 }), type === "idxd-1swq-v1")).toBe(true);
    const bytes = stream(before);

    for (const other of ["idxd-1dwq-v1", "idxd-1swq-v1"] as const) space(two, two.newAdi(other), 9);
    const after = two.newAdi(type);
    const there = space(two, after, 5);
    const fd = go(after, State.RESUMING);
    for (let at = 0; at < bytes.length; at += 77) two.client.write(fd, bytes.subarray(at, at + 77));
    go(after, State.RUNNING);
    expect([recordStatus(there.record), there.target[63]]).toEqual([Status.SUCCESS, 0x5a]);
    expect([after.read(Register.GENSTS), Number(after.read(Register.INTCAUSE)) >>> 0]).toEqual([1n, IntCause.HANDLES_REVOKED]);
    there.record.fill(0);
    expect(after.submit(move({ ...MOVE, pasid: 5 }), type === "idxd-1swq-v1")).toBe(true);
    expect(recordStatus(there.record)).toBe(Status.SUCCESS);
  });

  it("does not stop while a descriptor waits for a page, nor run without its vPASIDs", () => {
    const [one, two] = [new Guest(adiMachine()), new Guest(adiMachine())];
    const adi = one.newAdi("idxd-1dwq-v1");
    const queue = one.queue();
    const ioas = one.ioas();
    one.page(ioas, BigInt(SOURCE));
    one.page(ioas, BigInt(RECORD));
    adi.attach(adi.table(ioas, queue.id), 5);
    adi.start({ pasid: 5, blockOnFault: true });
    adi.submit(move({ ...MOVE, flags: Flag.BLOCK_ON_FAULT }), false);
    expect([errno(() => go(adi, State.STOP_COPY)), where(adi)]).toEqual(["EBUSY", State.RUNNING]);
    const [fault] = one.faults(queue.fd);
    one.answer(queue.fd, fault.cookie, 1);
    const bytes = stream(adi);
    const after = two.newAdi("idxd-1dwq-v1");
    two.client.write(go(after, State.RESUMING), bytes);
    expect([errno(() => go(after, State.RUNNING)), where(after)]).toEqual(["EINVAL", State.STOP]);
    space(two, after, 5);
    expect([errno(() => go(after, State.RUNNING)), where(after)]).toEqual(["none", State.RUNNING]);
  });

  it("refuses bytes that no such device has written, and takes nothing of them", () => {
    const guest = new Guest(adiMachine());
    const [adi, other] = [guest.newAdi("idxd-1dwq-v1"), guest.newAdi("idxd-1swq-v1")];
    space(guest, adi);
    adi.start();
    const bytes = stream(adi);
    const tryLoad = (target: Adi, state: Uint8Array): string => {
      guest.client.write(go(target, State.RESUMING), state);
      const result = errno(() => go(target, State.STOP));
      target.reset();
      return result;
    };
    expect([tryLoad(other, bytes), tryLoad(adi, bytes)]).toEqual(["EINVAL", "none"]);
    fc.assert(
      fc.property(fc.nat(bytes.length), fc.nat(19), fc.integer({ min: 1, max: 255 }), (length, at, change) => {
        expect(tryLoad(adi, bytes.slice(0, length))).toBe(length === bytes.length ? "none" : "EINVAL");
        const changed = bytes.slice();
        changed[at] ^= change;
        expect(tryLoad(adi, changed)).toBe("EINVAL");
      }),
      { numRuns: 40 },
    );
  });
});
