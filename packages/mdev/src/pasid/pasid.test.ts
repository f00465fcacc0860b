import { FrameAllocator, PhysicalMemory } from "@iommukit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DevicePasids, enqcmd, enqcmds, PASID_KINDS, PasidFlag, pasidFlags, pasidKind, PasidNumberSpace, SharedPasids, translateGuestPasid, VirtualMachine } from "./index.js";
import { PasidTables } from "./cpu-translation.js";

const GLOBAL_FIRST = 2 ** 19;

function machine() {
  const memory = new PhysicalMemory();
  memory.addRam(0, 64 * 2 ** 20);
  const frames = new FrameAllocator(memory, 0x10_0000, 64 * 2 ** 20);
  return { memory, frames };
}

function scopes(shared = new SharedPasids(new PasidNumberSpace(0, "the machine", 20, GLOBAL_FIRST))) {
  return { rid: new PasidNumberSpace(1, "00:05.0", 19), shared };
}

const attached = (wire: number): number => wire;

describe("kinds of devices (RFC v2, 1.4)", () => {
  it("has the eight rows in order", () => expect(PASID_KINDS.map(({ type }) => type)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]));

  it.each([
    [1, undefined],
    [2, undefined],
    [3, undefined],
    [4, PasidFlag.DELEGATED],
    [5, 0],
    [6, 0],
    [7, PasidFlag.CPU],
    [8, PasidFlag.CPU | PasidFlag.CPU_VIRT],
  ] as const)("type %i tells flags %s", (type, flags) => expect(pasidFlags(pasidKind(type))).toBe(flags));

  it.each([1, 2, 3] as const)("type %i takes no vPASID", (type) => {
    expect(() => new DevicePasids(pasidKind(type), scopes()).attach(1, attached)).toThrow(/EOPNOTSUPP.*one address space/);
  });

  it("type 4 takes the user's table instead", () => {
    expect(() => new DevicePasids(pasidKind(4), scopes()).attach(1, attached)).toThrow(/EINVAL.*PASID table is the user's/);
  });

  it.each([5, 7] as const)("type %i sends the user's number", (type) => expect(new DevicePasids(pasidKind(type), scopes()).attach(77, attached)).toBe(77));

  it("type 6: siblings get numbers of their own for one vPASID", () => {
    const both = scopes();
    const [a, b] = [new DevicePasids(pasidKind(6), both), new DevicePasids(pasidKind(6), both)];
    expect(a.attach(1, attached)).not.toBe(b.attach(1, attached));
  });

  it("type 8: one number for a vPASID, whatever the parent", () => {
    const shared = scopes().shared;
    const [a, b] = [new DevicePasids(pasidKind(8), scopes(shared)), new DevicePasids(pasidKind(8), scopes(shared))];
    expect(a.attach(1, attached)).toBe(b.attach(1, attached));
    expect(a.toUser(a.toWire(1) ?? -1)).toBe(1);
    b.detach(1, () => undefined);
    expect(a.attach(2, attached)).not.toBe(a.toWire(1));
    expect(new DevicePasids(pasidKind(8), scopes(shared)).attach(1, attached)).toBe(a.toWire(1));
  });

  it("types 7 and 8 do not mix, in either order; when one is gone the other may come", () => {
    const both = scopes();
    const seven = new DevicePasids(pasidKind(7), both);
    expect(() => new DevicePasids(pasidKind(8), both)).toThrow(/EINVAL.*not translated/);
    seven.close();
    const eight = new DevicePasids(pasidKind(8), both);
    expect(() => new DevicePasids(pasidKind(7), both)).toThrow(/EINVAL.*translated/);
    expect(() => new DevicePasids(pasidKind(6), both)).not.toThrow();
    eight.close();
  });

  it("what the IOMMU refuses leaves no number taken", () => {
    for (const type of [6, 8] as const) {
      const both = scopes();
      const device = new DevicePasids(pasidKind(type), both);
      const refusing = (): never => {
        throw new Error("taken");
      };
      expect(() => device.attach(1, refusing)).toThrow("taken");
      expect(device.users).toEqual([]);
      const first = device.attach(2, attached);
      expect(first).toBe(type === 8 ? GLOBAL_FIRST : 1);
    }
  });
});

describe("random devices of one user", () => {
  it("a pPASID stands for one address space: of one device, or of one vPASID of all of type 8", () => {
    const step = fc.record({ device: fc.nat(3), user: fc.integer({ min: 1, max: 4 }), attach: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const shared = scopes().shared;
        const parents = [scopes(shared), scopes(shared)];
        const devices = [0, 1, 2, 3].map((i) => new DevicePasids(pasidKind(i < 2 ? 6 : 8), parents[i % 2]));
        const model = new Map<string, number>();
        for (const { device, user, attach } of steps) {
          const key = `${device} ${user}`;
          if (attach && !model.has(key)) model.set(key, devices[device].attach(user, attached));
          if (!attach) {
            devices[device].detach(user, (wire) => expect(wire).toBe(model.get(key)));
            model.delete(key);
          }
        }
        const owners = new Map<string, string>();
        for (const [key, wire] of model) {
          const [device, user] = key.split(" ").map(Number);
          const owner = device < 2 ? key : `shared ${user}`;
          const number = device < 2 ? `${device % 2} ${wire}` : `global ${wire}`;
          expect(owners.get(number) ?? owner).toBe(owner);
          owners.set(number, owner);
          expect(devices[device].toWire(user)).toBe(wire);
          expect(wire >= GLOBAL_FIRST).toBe(device >= 2);
        }
      }),
    );
  });
});

describe("the CPU's translation (Intel SDM, PASID translation)", () => {
  it("agrees with a map, over both directories", () => {
    const guest = fc.oneof(fc.nat(2 ** 20 - 1), fc.constantFrom(0, 1023, 1024, 2 ** 18, 2 ** 18 + 1023, 2 ** 19 - 1, 2 ** 19, 2 ** 20 - 1));
    fc.assert(
      fc.property(fc.array(fc.tuple(guest, fc.nat(2 ** 20 - 1), fc.integer({ max: 3, min: 0 }).map((n) => n > 0)), { maxLength: 40 }), fc.array(guest), (changes, asked) => {
        const { memory, frames } = machine();
        const tables = new PasidTables(memory, frames);
        const model = new Map<number, number>();
        for (const [user, host, map] of changes) {
          if (!map) tables.unmap(user);
          else if (!model.has(user)) tables.map(user, host);
          if (map) model.set(user, model.get(user) ?? host);
          else model.delete(user);
        }
        for (const user of [...asked, ...changes.map(([user]) => user)]) expect(translateGuestPasid(memory, tables.directories, user)).toBe(model.get(user));
        tables.free();
        expect(frames.inUse).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it("stops at reserved bits, absent entries and tables that are not in memory", () => {
    const { memory, frames } = machine();
    const tables = new PasidTables(memory, frames);
    tables.map(5, 9);
    const { low } = tables.directories;
    const entry = memory.readU64(low) ?? 0n;
    for (const wrong of [entry & ~1n, entry | 2n, entry | (1n << 63n), (1n << 51n) | 1n]) {
      memory.writeU64(low, wrong);
      expect(translateGuestPasid(memory, tables.directories, 5)).toBeUndefined();
    }
    memory.writeU64(low, entry);
    expect(translateGuestPasid(memory, tables.directories, 5)).toBe(9);
    const table = Number(entry & ~0xfffn);
    memory.write(table + 4 * 5, new Uint8Array(Uint32Array.of(0x8010_0009).buffer));
    expect(translateGuestPasid(memory, tables.directories, 5)).toBeUndefined();
    for (const user of [-1, 2 ** 20, 1.5]) expect(() => tables.map(user, 1)).toThrow(/EINVAL/);
  });
});

describe("ENQCMD and ENQCMDS (Intel ISE, enqueue stores)", () => {
  const command = (word: number): Uint8Array => {
    const bytes = new Uint8Array(64).fill(7);
    new DataView(bytes.buffer).setUint32(0, word, true);
    return bytes;
  };
  const word = (bytes: Uint8Array): number => new DataView(bytes.buffer).getUint32(0, true);

  it("takes the PASID from IA32_PASID and clears the privilege bit", () => {
    let sent: Uint8Array | undefined;
    const portal = (bytes: Uint8Array): boolean => ((sent = bytes), true);
    expect(enqcmd({ ia32Pasid: 0x8000_0003 }, command(0xffff_ffff), portal)).toEqual({ kind: "accepted" });
    expect(word(sent ?? new Uint8Array(4))).toBe(3);
    expect(sent?.subarray(4)).toEqual(new Uint8Array(60).fill(7));
  });

  it("is refused without a valid IA32_PASID: nothing is sent", () => {
    expect(enqcmd({ ia32Pasid: 3 }, command(0), () => expect.unreachable())).toMatchObject({ kind: "general-protection" });
  });

  it("says retry when the device does", () => expect(enqcmd({ ia32Pasid: 0x8000_0001 }, command(0), () => false)).toEqual({ kind: "retry" }));

  it("ENQCMDS sends its own PASID and privilege bit, and refuses reserved bits", () => {
    let sent = 0;
    const portal = (bytes: Uint8Array): boolean => ((sent = word(bytes)), true);
    expect(enqcmds({ ia32Pasid: 0 }, command(0x8000_0005), portal)).toEqual({ kind: "accepted" });
    expect(sent).toBe(0x8000_0005);
    expect(enqcmds({ ia32Pasid: 0 }, command(0x0010_0005), portal)).toMatchObject({ kind: "general-protection" });
  });

  it("leaves the virtual machine where there is no translation: exits 72 and 73", () => {
    const cpu = { ia32Pasid: 0x8000_0004, translation: (guest: number) => (guest === 5 ? 99 : undefined) };
    expect(enqcmd(cpu, command(0), () => expect.unreachable())).toEqual({ kind: "vm-exit", exit: 72, guestPasid: 4 });
    expect(enqcmds(cpu, command(6), () => expect.unreachable())).toEqual({ kind: "vm-exit", exit: 73, guestPasid: 6 });
    let sent = 0;
    enqcmds(cpu, command(5), (bytes) => ((sent = word(bytes)), true));
    expect(sent).toBe(99);
  });
});

describe("a virtual machine (RFC v2, 2.3)", () => {
  function guest() {
    const { memory, frames } = machine();
    const all = scopes();
    return { vm: new VirtualMachine(memory, frames), device: new DevicePasids(pasidKind(8), all), shared: all.shared, frames };
  }

  it("maps after the attach, and translates what its CPU sends", () => {
    const { vm, device, shared } = guest();
    expect(() => vm.mapPasid(1, shared)).toThrow(/EINVAL.*does not translate/);
    vm.enablePasidTranslation();
    expect(() => vm.mapPasid(1, shared)).toThrow(/ENOENT.*no device is attached/);
    const wire = device.attach(1, attached);
    vm.mapPasid(1, shared);
    expect(() => vm.mapPasid(1, shared)).toThrow(/EEXIST/);
    expect(vm.cpu(0x8000_0001).translation?.(1)).toBe(wire);
    expect(vm.cpu(0x8000_0001).translation?.(2)).toBeUndefined();
  });

  it("one pPASID never serves two virtual machines or two numbers", () => {
    const { vm, device, shared, frames } = guest();
    const other = new VirtualMachine(machine().memory, frames);
    vm.enablePasidTranslation();
    other.enablePasidTranslation();
    device.attach(1, attached);
    vm.mapPasid(1, shared);
    expect(() => other.mapPasid(1, shared)).toThrow(/EEXIST/);
  });

  it("unmaps before the last detach; a device that is closed takes its mapping along", () => {
    const { vm, device, shared } = guest();
    vm.enablePasidTranslation();
    const wire = device.attach(1, attached);
    vm.mapPasid(1, shared);
    expect(() => device.mayDetach(1)).toThrow(/EBUSY.*still mapped/);
    vm.unmapPasid(1);
    expect(vm.cpu(0).translation?.(1)).toBeUndefined();
    expect(() => vm.unmapPasid(1)).toThrow(/ENOENT/);
    vm.mapPasid(1, shared);
    device.close();
    device.detach(1, (pasid) => expect(pasid).toBe(wire));
    expect(vm.cpu(0).translation?.(1)).toBeUndefined();
  });

  it("opens portals only once its CPUs translate", () => {
    const { vm } = guest();
    let open = 0;
    vm.link(() => open++);
    expect(open).toBe(0);
    vm.enablePasidTranslation();
    expect(open).toBe(1);
    vm.link(() => open++);
    expect(open).toBe(2);
  });

  it("gives everything back", () => {
    const { vm, device, shared, frames } = guest();
    vm.enablePasidTranslation();
    device.attach(1, attached);
    vm.mapPasid(1, shared);
    vm.free();
    expect(frames.inUse).toBe(0);
    expect(() => shared.translate(1, () => undefined)).not.toThrow();
  });
});
