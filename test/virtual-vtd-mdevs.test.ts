/** RFC v2's list, R13 to R20, from a guest's driver to the host's hardware: two mediated devices of one parent behind a virtual VT-d. */
import { Prot } from "@iommukit/core";
import { VirtualCommand, VirtualCommandReg, VirtualCommandStatus } from "@iommukit/viommu/vtd";
import { describe, expect, it } from "vitest";
import { virtualDsa } from "../packages/mdev/src/adi/index.js";
import { VirtualMachine } from "../packages/mdev/src/pasid/index.js";
import { adiMachine } from "../packages/mdev/src/rig/adi-rig.js";
import { MdevGuest, type MdevOptions, TARGET } from "./guest-mdevs.js";
import { REGISTERS } from "./guest-vtd.js";
import { errno } from "./host-program.js";

const SHARED = "idxd-1swq-v1";
const DEDICATED = "idxd-1dwq-v1";
/** Of the guest's unit: ECAP.VCS says that it has virtual commands. */
const ECAP = 0x10;
const VCS_SHIFT = 44n;
const { ALLOCATE_PASID, FREE_PASID } = VirtualCommand;
/** Devices that fail where they would ask for a page. */
const machine = (parents = 1) => adiMachine(parents, { pri: false });
/** Two of one parent at two places of the guest, by a monitor that does not look at PASID number spaces. */
const pair = (options: MdevOptions = {}): MdevGuest => new MdevGuest(machine(), SHARED, options);

describe.each(["nested", "shadowed"] as const)("two mdevs of one parent in one guest, %s", (mode) => {
  it("R16: a bind's table entry is there before the host is asked, and stays; what the host refuses is a fault of the guest's unit", () => {
    const guest = pair({ mode });
    const [one, other] = [guest.process(), guest.process()];
    guest.bind(0, 1, one);
    expect([guest.copies(0, 1, one), guest.takeFaults()]).toEqual([true, []]);
    const kinds: string[] = [];
    guest.asked = (name, { pasid }) => void (name === "VFIO_DEVICE_ATTACH_IOMMUFD_PT" && pasid === 1 && kinds.push(guest.system.unit.look(0x30, 1).kind));
    expect(() => guest.bind(1, 1, other)).not.toThrow();
    expect([...kinds, guest.system.unit.look(0x30, 1).kind]).toEqual(mode === "nested" ? ["first-stage", "first-stage"] : ["second-stage", "second-stage"]);
    expect(guest.takeFaults()).toEqual([expect.stringMatching(/by 00:06\.0 PASID 0x1 was blocked/)]);
    expect([guest.copies(1, 1, other), guest.copies(0, 1, one)]).toEqual([false, true]);
  });

  it("R18: the guest takes a fresh PASID for the second one, and that works; so does the first, once its place is free", () => {
    const guest = pair({ mode });
    const [one, other] = [guest.process(), guest.process()];
    const pasid = guest.command(ALLOCATE_PASID).pasid;
    guest.bind(0, pasid, one);
    guest.bind(1, pasid, other);
    expect(guest.takeFaults()).toHaveLength(1);
    guest.unbind(1, pasid);
    const fresh = guest.command(ALLOCATE_PASID).pasid;
    expect(fresh).not.toBe(pasid);
    guest.bind(1, fresh, other);
    expect([guest.copies(1, fresh, other), guest.copies(0, pasid, one)]).toEqual([true, true]);
    guest.unbind(0, pasid);
    guest.bind(1, pasid, one);
    expect([guest.copies(1, pasid, one), guest.copies(0, pasid, one), guest.takeFaults()]).toEqual([true, false, []]);
  });

  it("R17: PASIDs are allocated by VCMD and VCRSP, without the host: to have a number is not to have a place", () => {
    const guest = pair({ mode });
    const { memory } = guest.system;
    expect([(memory.readMmio(REGISTERS + ECAP, 8) >> VCS_SHIFT) & 1n, memory.readMmio(REGISTERS + VirtualCommandReg.VCCAP, 8)]).toEqual([1n, 6n]);
    const before = guest.calls.length;
    const { status, pasid } = guest.command(ALLOCATE_PASID);
    expect([status, guest.calls.length]).toEqual([VirtualCommandStatus.SUCCESS, before]);
    // Whoever binds first has the place, and freeing the number does not take it away.
    const [one, other] = [guest.process(), guest.process()];
    guest.bind(1, pasid, other);
    guest.bind(0, pasid, one);
    expect(guest.takeFaults()).toEqual([expect.stringMatching(/by 00:05\.0 PASID 0x1 was blocked/)]);
    expect([guest.command(FREE_PASID, pasid).status, guest.command(FREE_PASID, pasid).status]).toEqual([VirtualCommandStatus.SUCCESS, VirtualCommandStatus.REFUSED]);
    expect([guest.copies(1, pasid, other), guest.copies(0, pasid, one)]).toEqual([true, false]);
  });

  it("R14: with numbers of their own on the wire they take one PASID of the guest both, in address spaces of their own", () => {
    const guest = new MdevGuest(machine(), DEDICATED, { mode });
    const spaces = [0, 1].map((device) => {
      const process = guest.process();
      guest.bind(device, 1, process);
      return process;
    });
    expect([...spaces.map((process, device) => guest.copies(device, 1, process)), ...guest.takeFaults()]).toEqual([true, true]);
    guest.unbind(0, 1);
    expect(spaces.map((process, device) => guest.copies(device, 1, process))).toEqual([false, true]);
  });
});

it("R13: in two guests they never clash, though both guests use one number", () => {
  const host = machine();
  const guests = [0, 1].map(() => new MdevGuest(host, SHARED, { rids: [0x28] }));
  const spaces = guests.map((guest) => guest.process());
  guests.forEach((guest, i) => guest.bind(0, 1, spaces[i]));
  expect(guests.map((guest, i) => guest.copies(0, 1, spaces[i]))).toEqual([true, true]);
  expect(guests.flatMap((guest) => guest.takeFaults())).toEqual([]);
});

it("R15: one process is one PASID on devices of several parents", () => {
  const guest = new MdevGuest(machine(2), SHARED, { parents: [0, 1], looks: true });
  const process = guest.process();
  for (const device of [0, 1]) guest.bind(device, 1, process);
  expect([guest.copies(0, 1, process), guest.copies(1, 1, process), ...guest.takeFaults()]).toEqual([true, true]);
});

describe("R19, R20: a monitor that looks at PASID number spaces", () => {
  const shown = (parents: number[], options: MdevOptions): string => errno(() => new MdevGuest(machine(2), SHARED, { parents, looks: true, ...options }));

  it.each([
    ["one requester of the host as two", [0, 0], {}, "EINVAL"],
    ["one as one", [0, 0], { rids: [0x28, 0x28] }, "none"],
    ["two as two", [0, 1], {}, "none"],
    ["one as two, to a guest without PASID tables", [0, 0], { mode: "legacy" }, "none"],
  ] as const)("shows %s: %s", (_what, parents, options, expected) => expect(shown([...parents], options)).toBe(expected));

  it("is refused by the names of both, before the host was asked for anything", () => {
    const host = machine();
    const refused = (): MdevGuest => new MdevGuest(host, SHARED, { looks: true });
    expect(refused).toThrow(/device \d+ is 00:05\.0 to the guest, device \d+ is 00:06\.0, and both use PASID number space 1/);
  });

  it("at one place an entry is for both: those with numbers of their own take it, the second of those that share is refused", () => {
    const one = { rids: [0x28, 0x28], looks: true };
    for (const [type, second] of [[DEDICATED, true], [SHARED, false]] as const) {
      const guest = new MdevGuest(machine(), type, one);
      const process = guest.process();
      guest.bind(0, 1, process);
      expect([guest.copies(0, 1, process), guest.copies(1, 1, process), guest.takeFaults().length]).toEqual([true, second, second ? 0 : 1]);
    }
  });
});

it("a page request of an mdev goes to the guest, by its place and its PASID there, and the answer back (R8, R26)", () => {
  const guest = new MdevGuest(adiMachine(), SHARED, { pageRequests: true });
  const { driver, devices, page } = guest.system;
  const [one, other] = [guest.process(), guest.process()];
  guest.bind(0, 1, one);
  guest.bind(1, 2, other);
  other.domain.unmap(TARGET, 4096);
  const asked: unknown[] = [];
  devices.forEach((device, i) => {
    driver.reportPageFaults(device, {
      report({ address, pasid, group }) {
        asked.push([i, address, pasid]);
        other.domain.map(TARGET, page(9), 4096, Prot.READ | Prot.WRITE);
        driver.respondToPageFault(device, { pasid, group, code: "success" });
      },
      discardPartial: () => undefined,
    });
  });
  const written = guest.system.ram.subarray(page(9));
  expect([guest.submit(1, 2), asked, written[0], guest.copies(0, 1, one)]).toEqual([true, [[1, TARGET, 2]], 0x5a, true]);
});

it("a PASID that the guest's CPUs still translate to is emptied when the guest takes it away; its place is free when they no longer do", () => {
  const host = machine();
  const guest = new MdevGuest(host, SHARED);
  const [one, other] = [guest.process(), guest.process()];
  const vm = new VirtualMachine(host.memory, host.frames);
  vm.enablePasidTranslation();
  const { shared } = virtualDsa(host, guest.adis[0].uuid) ?? {};
  guest.bind(0, 1, one);
  vm.mapPasid(1, shared ?? expect.fail("it is bound"));
  expect(() => guest.unbind(0, 1)).not.toThrow();
  expect(guest.copies(0, 1, one)).toBe(false);
  guest.bind(0, 1, other);
  expect(guest.copies(0, 1, other)).toBe(true);
  guest.unbind(0, 1);
  guest.bind(1, 1, one);
  expect([guest.copies(1, 1, one), guest.takeFaults().length]).toEqual([false, 1]);
  vm.unmapPasid(1);
  guest.bind(1, 1, one);
  expect([guest.copies(1, 1, one), guest.takeFaults()]).toEqual([true, []]);
});
