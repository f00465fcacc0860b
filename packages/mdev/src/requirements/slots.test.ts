/** Requirements of the list's thread on who may tell two mediated devices apart: those about (RID, PASID) and who sits there. */
import { refuse, RequesterSlots } from "@iommukit/core";
import { describe, expect, it, vi } from "vitest";
import { arrived, dma, DmaTestStatus, errno, PasidRig } from "../rig/pasid-rig.js";

describe("R4: each (RID, PASID) holds at most one device", () => {
  it("a second attach fails in the IOMMU layer, and A is undisturbed", () => {
    const rig = new PasidRig();
    const vm = rig.user();
    const [a, b] = [vm.mdev(rig.parents[0], 8), vm.mdev(rig.parents[0], 8)];
    const [ioasA, ioasB] = [vm.ioas(), vm.ioas()];
    const page = vm.page(ioasA, 0x1000n);
    a.attach(vm.table(a, ioasA), 1);
    expect(errno(() => b.attach(vm.table(b, ioasB), 1))).toBe("EBUSY");
    expect(errno(() => b.attach(vm.table(b, ioasA), 1))).toBe("EBUSY");
    expect([a.write(0x1000n, 1), arrived(page)]).toEqual([DmaTestStatus.DONE, true]);
  });

  it("not even with the very same page table", () => {
    const rig = new PasidRig();
    const vm = rig.user();
    const [a, b] = [vm.mdev(rig.parents[0], 8), vm.mdev(rig.parents[0], 8)];
    const table = vm.table(a, vm.ioas());
    a.attach(table, 1);
    expect(errno(() => b.attach(table, 1))).toBe("EBUSY");
  });

  it("the place is free again after the first is detached, or closed", () => {
    const rig = new PasidRig();
    const vm = rig.user();
    const [a, b, c] = [vm.mdev(rig.parents[0], 8), vm.mdev(rig.parents[0], 8), vm.mdev(rig.parents[0], 8)];
    const ioas = vm.ioas();
    a.attach(vm.table(a, ioas), 1);
    a.detach(1);
    b.attach(vm.table(b, ioas), 1);
    b.close();
    expect(errno(() => c.attach(vm.table(c, ioas), 1))).toBe("none");
  });

  it("what the unit refuses takes no place", () => {
    const rig = new PasidRig();
    const vm = rig.user();
    const mdev = vm.mdev(rig.parents[0], 6);
    const table = vm.table(mdev, vm.ioas());
    const { driver } = rig.parents[0].slots.parent;
    vi.spyOn(driver, "attach").mockImplementationOnce(() => refuse("ENOMEM", "no memory for tables is left", { rule: "test" }));
    expect(errno(() => mdev.attach(table))).toBe("ENOMEM");
    expect(rig.parents[0].slots.occupant(mdev.defaultPasid)).toBeUndefined();
    expect(errno(() => mdev.attach(table))).toBe("none");
  });
});

it("R5: a refusal leaves the first device's mappings, faults and answers untouched", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const [a, b] = [vm.mdev(rig.parents[0], 8), vm.mdev(rig.parents[0], 8)];
  const [ioas, queue] = [vm.ioas(), vm.queue()];
  a.attach(vm.table(a, ioas, queue.id), 1);
  expect(a.write(0x5000n, 1)).toBe(DmaTestStatus.WAITING);
  expect(errno(() => b.attach(vm.table(b, vm.ioas(), queue.id), 1))).toBe("EBUSY");
  const [fault] = vm.faults(queue.fd);
  expect(fault).toMatchObject({ dev_id: a.id, pasid: 1, addr: 0x5000n });
  const page = vm.page(ioas, 0x5000n);
  vm.answer(queue.fd, fault.cookie, 0);
  expect([a.status, arrived(page)]).toEqual([DmaTestStatus.DONE, true]);
});

it("R8: two PASID mdevs with different pPASIDs: each fault names its own device", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const [a, b] = [vm.mdev(rig.parents[0], 6), vm.mdev(rig.parents[0], 6)];
  const queue = vm.queue();
  for (const mdev of [a, b]) mdev.attach(vm.table(mdev, vm.ioas(), queue.id), 7);
  expect(a.wire(7)).not.toBe(b.wire(7));
  for (const mdev of [b, a]) {
    expect(mdev.write(0x9000n, 7)).toBe(DmaTestStatus.WAITING);
    const [fault] = vm.faults(queue.fd);
    expect(fault).toMatchObject({ dev_id: mdev.id, pasid: 7, addr: 0x9000n });
    vm.answer(queue.fd, fault.cookie, 1);
    expect(mdev.status).toBe(DmaTestStatus.REFUSED);
  }
});

it("R9: the default space of each PASID mdev is unambiguous: a fault there names it", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const mdevs = [3, 6, 8].map((type) => vm.mdev(rig.parents[0], type as 3 | 6 | 8));
  const queue = vm.queue();
  for (const mdev of mdevs) mdev.attach(vm.table(mdev, vm.ioas(), queue.id));
  expect(new Set(mdevs.map((mdev) => mdev.wire())).size).toBe(3);
  for (const mdev of mdevs) {
    expect(mdev.write(0x9000n)).toBe(DmaTestStatus.WAITING);
    const [fault] = vm.faults(queue.fd);
    expect(fault).toMatchObject({ dev_id: mdev.id, pasid: undefined, addr: 0x9000n });
    vm.answer(queue.fd, fault.cookie, 1);
  }
});

describe("R10: ambiguity if and only if same parent and same VM-wide pPASID", () => {
  const cases = [0, 1].flatMap((parent) => [0, 1].flatMap((vm) => [1, 2].flatMap((vpasid) => [6, 8].map((type) => ({ parent, vm, vpasid, type: type as 6 | 8 })))));
  it.each(cases)("beside an mdev of type 8 of parent 0 in VM 0 at vPASID 1: %o", ({ parent, vm, vpasid, type }) => {
    const rig = new PasidRig(2);
    const vms = [rig.user(), rig.user()];
    const first = vms[0].mdev(rig.parents[0], 8);
    first.attach(vms[0].table(first, vms[0].ioas()), 1);
    const second = vms[vm].mdev(rig.parents[parent], type);
    const clash = parent === 0 && vm === 0 && vpasid === 1 && type === 8;
    expect(errno(() => second.attach(vms[vm].table(second, vms[vm].ioas()), vpasid))).toBe(clash ? "EBUSY" : "none");
  });
});

describe("R11: reporting on the first match and letting the second retry is not acceptable", () => {
  /** R4, asked of a host: is the second of two mdevs at one (RID, PASID) refused, and has it nothing there? */
  function holdsR4(rig: PasidRig): boolean {
    const vm = rig.user();
    const [a, b] = [vm.mdev(rig.parents[0], 8), vm.mdev(rig.parents[0], 8)];
    a.attach(vm.table(a, vm.ioas()), 1);
    const refused = errno(() => b.attach(vm.table(b, vm.ioas()), 1)) === "EBUSY";
    return refused && b.pasids.users.length === 0 && rig.parents[0].slots.occupant(a.wire(1)) === a.name;
  }

  it("ours does not", () => expect(holdsR4(new PasidRig())).toBe(true));

  it("a host that lets the second in is found to break R4", () => {
    class FirstMatch extends RequesterSlots {
      override claim(pasid: number, occupant: string): void {
        if (this.occupant(pasid) === undefined) super.claim(pasid, occupant);
      }
    }
    expect(holdsR4(new PasidRig(1, FirstMatch))).toBe(false);
  });
});

it("R12: two mdevs of one parent may be given to one guest: with different pPASIDs both work", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const mdevs = [vm.mdev(rig.parents[0], 6), vm.mdev(rig.parents[0], 8)];
  const pages = mdevs.map((mdev) => {
    const ioas = vm.ioas();
    mdev.attach(vm.table(mdev, ioas), 1);
    return vm.page(ioas, 0x3000n);
  });
  expect(mdevs[0].write(0x3000n, 1)).toBe(DmaTestStatus.DONE);
  expect(pages.map((page) => arrived(page))).toEqual([true, false]);
  expect(mdevs[1].write(0x3000n, 1)).toBe(DmaTestStatus.DONE);
  expect(arrived(pages[1])).toBe(true);
});

it("R13: two mdevs of one parent in different VMs never clash, even with equal vPASIDs", () => {
  const rig = new PasidRig();
  const vms = [rig.user(), rig.user()];
  const mdevs = vms.map((vm) => vm.mdev(rig.parents[0], 8));
  const pages = vms.map((vm, i) => {
    const ioas = vm.ioas();
    mdevs[i].attach(vm.table(mdevs[i], ioas), 1);
    return vm.page(ioas, 0x3000n);
  });
  expect(mdevs[0].wire(1)).not.toBe(mdevs[1].wire(1));
  expect(mdevs[1].write(0x3000n, 1)).toBe(DmaTestStatus.DONE);
  expect(pages.map((page) => arrived(page))).toEqual([false, true]);
});

it("R14: a pair of type 6 passes, a pair of type 8 is refused on the second attach", () => {
  const rig = new PasidRig();
  for (const [type, expected] of [[6, "none"], [8, "EBUSY"]] as const) {
    const vm = rig.user();
    const [a, b] = [vm.mdev(rig.parents[0], type), vm.mdev(rig.parents[0], type)];
    a.attach(vm.table(a, vm.ioas()), 1);
    expect(errno(() => b.attach(vm.table(b, vm.ioas()), 1))).toBe(expected);
  }
});

it("R15: one process, one PASID, many accelerators: one vPASID on devices of different parents", () => {
  const rig = new PasidRig(3);
  const vm = rig.user();
  const ioas = vm.ioas();
  const page = vm.page(ioas, 0x3000n);
  const mdevs = rig.parents.map((parent) => vm.mdev(parent, 8));
  for (const mdev of mdevs) mdev.attach(vm.table(mdev, ioas), 5);
  expect(new Set(mdevs.map((mdev) => mdev.wire(5))).size).toBe(1);
  for (const mdev of mdevs) {
    page.fill(0);
    expect([mdev.write(0x3000n, 5), arrived(page)]).toEqual([DmaTestStatus.DONE, true]);
  }
});

it("R17: to allocate a PASID reserves no place: the bind to the second mdev is refused later", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const [a, b] = [vm.mdev(rig.parents[0], 8), vm.mdev(rig.parents[0], 8)];
  const number = vm.shared.acquire(1);
  expect(rig.parents[0].slots.occupant(number)).toBeUndefined();
  a.attach(vm.table(a, vm.ioas()), 1);
  expect(a.wire(1)).toBe(number);
  expect(errno(() => b.attach(vm.table(b, vm.ioas()), 1))).toBe("EBUSY");
});

it("R20: mdevs of one parent have equal PASID number spaces, of two parents different ones", () => {
  const rig = new PasidRig(2);
  const vm = rig.user();
  const [a, b, c] = [vm.mdev(rig.parents[0], 6), vm.mdev(rig.parents[0], 8), vm.mdev(rig.parents[1], 6)];
  expect(a.parent.space.id).toBe(b.parent.space.id);
  expect(a.parent.space.id).not.toBe(c.parent.space.id);
});

it("R24: binding a PASID mdev leaves the parent as it was, and the mdev is secure while its PASID entries are absent", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const mdev = vm.mdev(rig.parents[0], 6);
  expect(dma(rig.parents[0], mdev.wire(), 0x1000n)).toBe(DmaTestStatus.REFUSED);
  const ioas = vm.ioas();
  vm.page(ioas, 0x1000n);
  mdev.attach(vm.table(mdev, ioas));
  expect(mdev.write(0x1000n)).toBe(DmaTestStatus.DONE);
  mdev.detach();
  expect(mdev.write(0x1000n)).toBe(DmaTestStatus.REFUSED);
});

it("R25: to have the parent itself, and its PASID mdevs, exclude each other", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const fd = vm.client.open("/dev/vfio/devices/vfio0");
  const bind = (): string => errno(() => vm.ioctl("VFIO_DEVICE_BIND_IOMMUFD", { iommufd: vm.iommufd }, fd));
  expect(bind()).toBe("EBUSY");
  rig.parents[0].slots.close();
  expect(bind()).toBe("none");
  expect(errno(() => new RequesterSlots(rig.parents[0].slots.parent))).toBe("EBUSY");
});

it("R26: an answer goes to the (RID, PASID, group) that asked, whatever else the guest answers", () => {
  const rig = new PasidRig(2);
  const vms = [rig.user(), rig.user()];
  const mdevs = vms.map((vm, i) => vm.mdev(rig.parents[i], 6));
  const queues = vms.map((vm) => vm.queue());
  vms.forEach((vm, i) => mdevs[i].attach(vm.table(mdevs[i], vm.ioas(), queues[i].id), 3));
  for (const mdev of mdevs) expect(mdev.write(0x7000n, 3)).toBe(DmaTestStatus.WAITING);
  const [[mine], [other]] = vms.map((vm, i) => vm.faults(queues[i].fd));
  expect(mine.cookie).toBe(other.cookie);
  expect(errno(() => vms[0].answer(queues[0].fd, 99, 0))).toBe("EINVAL");
  vms[0].answer(queues[0].fd, mine.cookie, 1);
  expect(mdevs.map((mdev) => mdev.status)).toEqual([DmaTestStatus.REFUSED, DmaTestStatus.WAITING]);
  expect(errno(() => vms[0].answer(queues[0].fd, mine.cookie, 0))).toBe("EINVAL");
});

it("R28: a request for which nobody is there is answered as failed, and does not hang", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const [a, b] = [vm.mdev(rig.parents[0], 6), vm.mdev(rig.parents[0], 6)];
  a.attach(vm.table(a, vm.ioas(), vm.queue().id), 1);
  b.attach(vm.table(b, vm.ioas()), 1);
  expect(a.write(0x1000n, 1)).toBe(DmaTestStatus.WAITING);
  a.detach(1);
  expect(a.status).toBe(DmaTestStatus.REFUSED);
  expect(b.write(0x1000n, 1)).toBe(DmaTestStatus.REFUSED);
});

it("R29: what one mdev does to its spaces has no effect on a sibling's", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const [a, b] = [vm.mdev(rig.parents[0], 6), vm.mdev(rig.parents[0], 6)];
  const [ioasA, ioasB] = [vm.ioas(), vm.ioas()];
  const [tableA, tableB] = [vm.table(a, ioasA), vm.table(b, ioasB)];
  for (const [mdev, table] of [[a, tableA], [b, tableB]] as const) {
    mdev.attach(table);
    mdev.attach(table, 1);
  }
  vm.page(ioasA, 0x2000n);
  const page = vm.page(ioasB, 0x2000n);
  const works = (): boolean => {
    page.fill(0);
    return b.write(0x2000n, 1) === DmaTestStatus.DONE && arrived(page) && b.write(0x2000n) === DmaTestStatus.DONE;
  };
  expect(works()).toBe(true);
  vm.ioctl("IOMMU_IOAS_UNMAP", { ioas_id: ioasA, iova: 0x2000n, length: 4096 });
  expect(works()).toBe(true);
  a.attach(vm.table(a, ioasA), 1);
  expect(works()).toBe(true);
  a.detach(1);
  a.detach();
  expect(works()).toBe(true);
  a.close();
  expect(works()).toBe(true);
});
