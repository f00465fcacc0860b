/** Requirements about what a guest, and who runs it, learn. */
import { describe, expect, it } from "vitest";
import { pasidFlags, PasidNumberSpace, VirtualMachine } from "../pasid/index.js";
import { arrived, DmaTestStatus, errno, type Mdev, PasidRig, type User } from "../rig/pasid-rig.js";
import { checkTopology, GuestBinds } from "../vmm/index.js";

/** Two mdevs of type 8 of one parent in one guest: the case that the thread began with. */
function twoInOne(): { vm: User; a: Mdev; b: Mdev; binds: GuestBinds; tables: number[]; pages: Uint8Array[] } {
  const rig = new PasidRig();
  const vm = rig.user();
  const [a, b] = [vm.mdev(rig.parents[0], 8), vm.mdev(rig.parents[0], 8)];
  const spaces = [vm.ioas(), vm.ioas()];
  const tables = [a, b].map((mdev, i) => vm.table(mdev, spaces[i]));
  const pages = spaces.map((space) => vm.page(space, 0x1000n));
  const host = (mdev: Mdev) => ({ attach: (vpasid: number, table: number) => mdev.attach(table, vpasid), detach: (vpasid: number) => mdev.detach(vpasid) });
  return { vm, a, b, tables, pages, binds: new GuestBinds(new Map([[8, host(a)], [9, host(b)]])) };
}

describe("R16: a bind is a write of a table, and an invalidation", () => {
  it("the write cannot fail; what the host refuses surfaces on the invalidation, as an event", () => {
    const { binds, tables } = twoInOne();
    binds.write(8, 1, tables[0]);
    binds.invalidate(8, 1);
    expect(() => binds.write(9, 1, tables[1])).not.toThrow();
    expect(binds.events).toEqual([]);
    expect(() => binds.invalidate(9, 1)).not.toThrow();
    expect(binds.events).toMatchObject([{ guestRid: 9, vpasid: 1, errno: "EBUSY" }]);
  });

  it("an entry that is taken away, and an invalidation of nothing new, are quiet", () => {
    const { binds, tables, a } = twoInOne();
    binds.write(8, 1, tables[0]);
    binds.invalidate(8, 1);
    binds.invalidate(8, 1);
    binds.write(8, 1, undefined);
    binds.invalidate(8, 1);
    binds.invalidate(7, 1);
    expect([binds.events, a.pasids.users]).toEqual([[], []]);
  });
});

it("R18: after a refusal the guest learns it, the process takes a fresh PASID, and that works", () => {
  const { binds, tables, a, b, pages } = twoInOne();
  binds.write(8, 1, tables[0]);
  binds.invalidate(8, 1);
  binds.write(9, 1, tables[1]);
  binds.invalidate(9, 1);
  const [event] = binds.events.splice(0);
  expect(event.reason).toContain(`${a.name}'s`);
  binds.write(9, 1, undefined);
  binds.write(9, 2, tables[1]);
  binds.invalidate(9, 1);
  binds.invalidate(9, 2);
  expect(binds.events).toEqual([]);
  expect([b.write(0x1000n, 2), arrived(pages[1]), a.write(0x1000n, 1), arrived(pages[0])]).toEqual([DmaTestStatus.DONE, true, DmaTestStatus.DONE, true]);
});

describe("R19: one requester of the host is not shown as two", () => {
  const [one, other] = [1, 2].map((id) => new PasidNumberSpace(id, "a parent", 19).id);
  const check = (...devices: (readonly [guestRid: number, pasidSpace: number | undefined])[]): string =>
    errno(() => checkTopology(devices.map(([guestRid, pasidSpace], i) => ({ name: `mdev${i}`, guestRid, pasidSpace }))));

  it.each([
    ["two of one parent at two places", [[8, one], [16, one]], "EINVAL"],
    ["two of one parent at one place", [[8, one], [8, one]], "none"],
    ["of two parents at two places", [[8, one], [16, other]], "none"],
    ["of two parents at one place", [[8, one], [8, other]], "none"],
    ["without PASIDs anywhere", [[8, undefined], [16, undefined]], "none"],
  ] as const)("%s: %s", (_what, devices, expected) => expect(check(...devices)).toBe(expected));

  it("and the refusal names both", () => {
    const devices = [8, 16].map((guestRid, i) => ({ name: `mdev${i}`, guestRid, pasidSpace: 1 }));
    expect(() => checkTopology(devices)).toThrow(/mdev0 is 00:01\.0 to the guest, mdev1 is 00:02\.0, and both use PASID number space 1|mdev0 is 00:01\.0 to the guest, mdev1 is 00:02\.0 to the guest/);
  });
});

describe("R21 (open): inform rather than hide", () => {
  // The choice: the second mdev of a parent tells its vPASID abilities like the first, and says by the number space's id what clashes. To hide
  // them would bar a virtual IOMMU that knows how to use both, and nobody could lift that later (Jason Gunthorpe, 16 July 2021).
  it("both mdevs of one parent in one guest tell the same flags", () => {
    const { a, b } = twoInOne();
    expect(pasidFlags(a.pasids.kind)).toBe(pasidFlags(b.pasids.kind));
    expect(pasidFlags(b.pasids.kind)).toBeDefined();
  });
});

describe("R22 (open): to find out that one process has opened both", () => {
  // The choice: nobody looks who opened what. Two programs may be one virtual machine and one program two of them; what clashes is decided where it
  // clashes, at the (RID, PASID), and by who shares numbers: the iommufd.
  it("one process with an iommufd for each mdev has no clash", () => {
    const rig = new PasidRig();
    const [one, two] = [rig.user(), rig.user()];
    const [a, b] = [one.mdev(rig.parents[0], 8), two.mdev(rig.parents[0], 8)];
    a.attach(one.table(a, one.ioas()), 1);
    expect(errno(() => b.attach(two.table(b, two.ioas()), 1))).toBe("none");
  });
});

describe("the CPU's translation, with devices", () => {
  it("follows the attach, and is gone before the place is", () => {
    const { vm, a, b, tables } = twoInOne();
    const guest = new VirtualMachine(vm.machine.memory, vm.machine.frames);
    guest.enablePasidTranslation();
    expect(errno(() => guest.mapPasid(1, vm.shared))).toBe("ENOENT");
    a.attach(tables[0], 1);
    guest.mapPasid(1, vm.shared);
    expect(guest.cpu(0).translation?.(1)).toBe(a.wire(1));
    expect(errno(() => a.detach(1))).toBe("EBUSY");
    expect(errno(() => b.attach(tables[1], 1))).toBe("EBUSY");
    expect(guest.cpu(0).translation?.(1)).toBe(a.wire(1));
    a.close();
    expect(guest.cpu(0).translation?.(1)).toBeUndefined();
    expect(() => b.attach(tables[1], 1)).not.toThrow();
  });
});
