/** Requirements about what a guest, and who runs it, learn. R16, R18 and R19 need a guest's IOMMU: test/virtual-vtd-mdevs.test.ts. */
import { RequesterSlots } from "@iommukit/core";
import { decodeStruct, structLayout } from "@iommukit/core/abi";
import { describe, expect, it, vi } from "vitest";
import { pasidFlags, VirtualMachine } from "../pasid/index.js";
import { dma, errno, type Mdev, PasidRig, type User } from "../rig/pasid-rig.js";

const RECORD = structLayout("iommukit_device_fault").size;
const PASID_VALID = 1;

/** Two mdevs of type 8 of one parent in one guest: the case that the thread began with. */
function twoInOne(pri = true): { vm: User; a: Mdev; b: Mdev; tables: number[] } {
  const rig = new PasidRig(1, RequesterSlots, pri);
  const vm = rig.user();
  const [a, b] = [vm.mdev(rig.parents[0], 8), vm.mdev(rig.parents[0], 8)];
  return { vm, a, b, tables: [a, b].map((mdev) => vm.table(mdev, vm.ioas())) };
}

describe("accesses that were blocked (IOMMUKIT_DEVICE_FAULTS)", () => {
  const records = (vm: User, fd: number): readonly unknown[] => {
    const bytes = vm.client.read(fd, 4 * RECORD);
    return Array.from({ length: bytes.length / RECORD }, (_, i) => decodeStruct("iommukit_device_fault", bytes.subarray(i * RECORD, (i + 1) * RECORD)));
  };
  const open = (vm: User, { id }: Mdev): number => Number(vm.ioctl("IOMMUKIT_DEVICE_FAULTS", { dev_id: id }).out_faults_fd);

  it("are told of the mdev that made them, by its vPASID, and of no sibling", () => {
    const { vm, a, b, tables } = twoInOne(false);
    const files = [a, b].map((mdev) => open(vm, mdev));
    const told = (): readonly unknown[] => files.map((fd) => records(vm, fd));
    a.attach(tables[0], 1);
    b.attach(tables[1], 2);
    a.write(0x1000n);
    expect(told()).toMatchObject([[{ dev_id: a.id, flags: 0, perm: 2, addr: 0x1000n }], []]);
    a.write(0x2000n, 1);
    expect(told()).toMatchObject([[{ dev_id: a.id, flags: PASID_VALID, pasid: 1, perm: 2, addr: 0x2000n }], []]);
    b.write(0x3000n, 2);
    expect(told()).toMatchObject([[], [{ dev_id: b.id, flags: PASID_VALID, pasid: 2, perm: 2, addr: 0x3000n }]]);
    const heard = vi.spyOn(a.parent.slots.parent.driver, "reportFaults");
    vm.client.close(files[0]);
    for (const mdev of [a, b]) mdev.write(0x4000n);
    expect(records(vm, files[1])).toMatchObject([{ dev_id: b.id, flags: 0, addr: 0x4000n }]);
    expect(heard).not.toHaveBeenCalled();
    vm.client.close(files[1]);
    expect(heard.mock.calls.map(([, sink]) => sink)).toEqual([undefined]);
  });

  it("are nobody's once the mdev has left its place", () => {
    const { vm, a, tables } = twoInOne(false);
    const fd = open(vm, a);
    a.attach(tables[0], 1);
    const wire = a.wire(1);
    a.detach(1);
    dma(a.parent, wire, 0x1000n);
    expect(records(vm, fd)).toEqual([]);
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
