/** The driver of a machine's virtio-iommu, with the device behind its registers. */
import { Access, FrameAllocator, InterruptController, IommuError, NO_PASID, PhysicalMemory, Prot, Tracer } from "@iommukit/core";
import { errnoOf } from "@iommukit/core/testing";
import { beforeEach, describe, expect, it } from "vitest";
import { createVirtioUnit, MapFlag, MmioReg } from "./index.js";
import type { HostDomain } from "./domains.js";

const REGISTERS = 0x9000_0000;
const IOVA = 0x40_0000n;
const READ_WRITE = Prot.READ | Prot.WRITE;
const [first, second] = [0x18, 0x20].map((rid) => ({ rid, name: `device ${rid}`, pasidBits: 0, ats: false }));

let made: string[];
let refuses: (what: string) => boolean;
let requests: string[];

/** A host that keeps a list. */
const host = {
  create: (id: number): HostDomain => {
    const note = (what: string): void => {
      if (refuses(what)) throw new IommuError("ENOMEM", { message: "no room", rule: "test" });
      made.push(what);
    };
    return {
      attach: (endpoint) => note(`${id} attach ${endpoint}`),
      detach: (endpoint) => void made.push(`${id} detach ${endpoint}`),
      map: (start, last, physical, flags) => note(`${id} map ${start.toString(16)}-${last.toString(16)} ${physical.toString(16)} ${flags}`),
      unmap: (start, last) => note(`${id} unmap ${start.toString(16)}-${last.toString(16)}`),
      free: () => undefined,
    };
  },
};

function boot(options: Readonly<Record<string, unknown>> = {}) {
  const memory = new PhysicalMemory();
  memory.addRam(0, 0x100_0000);
  const tracer = new Tracer();
  tracer.listen((event) => {
    if (event.kind === "request") requests.push(`${event.request} = ${event.status}`);
  });
  const unit = createVirtioUnit({ name: "virtio-iommu0", memory, frames: new FrameAllocator(memory, 0x10_0000, 0x80_0000), registerBase: REGISTERS, interrupts: new InterruptController(), tracer }, options, { host, endpoints: [first.rid, second.rid] });
  for (const device of [first, second]) unit.driver.addDevice(device);
  return { ...unit, memory, at: (rid: number, iova: bigint, access: number = Access.READ) => unit.hardware.translate(rid, NO_PASID, Number(iova >> 12n), access) };
}

beforeEach(() => {
  made = [];
  requests = [];
  refuses = () => false;
});

describe("the driver of a virtio-iommu", () => {
  it("blocks devices until they are attached, and finds where messages go", () => {
    const { driver, at } = boot();
    expect(at(first.rid, IOVA)).toBe(-1);
    expect(driver.reservedRegions(first)).toEqual([{ start: 0xfee0_0000n, last: 0xfeef_ffffn, kind: "msi" }]);
    expect(at(first.rid, 0xfee0_1000n, Access.WRITE)).toBe(-1);
    driver.attach(first, 0, driver.allocPaging(first, {}));
    expect(at(first.rid, 0xfee0_1000n, Access.WRITE)).toBe(0xfee01);
  });

  it("tells the device of mappings with the first endpoint, and again when all had left", () => {
    const { driver, at } = boot();
    const domain = driver.allocPaging(first, {});
    domain.map(IOVA, 0x80_0000, 0x2000, READ_WRITE);
    expect(requests.filter((line) => line.startsWith("MAP"))).toEqual([]);
    driver.attach(first, 0, domain);
    driver.attach(second, 0, domain);
    expect([at(first.rid, IOVA), at(second.rid, IOVA + 0x1000n)]).toEqual([0x800, 0x801]);
    driver.detach(first, 0);
    driver.detach(second, 0);
    expect(at(second.rid, IOVA)).toBe(-1);
    driver.attach(second, 0, domain);
    expect([at(second.rid, IOVA), requests.filter((line) => line.startsWith("MAP"))]).toEqual([0x800, [`MAP domain 0 0x400000-0x401fff -> 0x800000 read write = OK`, `MAP domain 0 0x400000-0x401fff -> 0x800000 read write = OK`]]);
  });

  it("moves a device from one domain to another without a moment in neither", () => {
    const { driver, at } = boot();
    const [one, two] = [driver.allocPaging(first, {}), driver.allocPaging(first, {})];
    one.map(IOVA, 0x80_0000, 4096, Prot.READ);
    two.map(IOVA, 0x80_1000, 4096, Prot.READ);
    driver.attach(first, 0, one);
    requests.length = 0;
    driver.attach(first, 0, two);
    expect([at(first.rid, IOVA), requests.map((line) => line.split(" ")[0])]).toEqual([0x801, ["ATTACH", "MAP"]]);
  });

  it("of a mapping that is cut, the rest stays", () => {
    const { driver, at } = boot();
    const domain = driver.allocPaging(first, {});
    driver.attach(first, 0, domain);
    domain.map(IOVA, 0x80_0000, 0x4000, READ_WRITE);
    domain.unmap(IOVA + 0x1000n, 0x1000);
    expect([0n, 1n, 2n, 3n].map((page) => at(first.rid, IOVA + page * 4096n))).toEqual([0x800, -1, 0x802, 0x803]);
    expect([domain.iovaToPa(IOVA + 0x2008n), domain.iovaToPa(IOVA + 0x1000n)]).toEqual([0x80_2008, undefined]);
    expect(made).toEqual(["0 attach 24", `0 map 400000-403fff 800000 ${MapFlag.READ | MapFlag.WRITE}`, "0 unmap 400000-403fff", `0 map 400000-400fff 800000 3`, `0 map 402000-403fff 802000 3`]);
  });

  it.each([
    ["an attach", "0 attach 24", "ENOMEM"],
    ["a mapping", "0 map", "ENOMEM"],
    ["a mapping of one that joins", "1 map", "ENOMEM"],
  ])("what the device refuses is an errno, and nothing is half done: %s", (_what, refused, wanted) => {
    const { driver, at } = boot();
    const [one, two] = [driver.allocPaging(first, {}), driver.allocPaging(first, {})];
    two.map(IOVA, 0x80_1000, 4096, Prot.READ);
    refuses = (what) => what.startsWith(refused);
    const results = [errnoOf(() => driver.attach(first, 0, one)), errnoOf(() => one.map(IOVA, 0x80_0000, 4096, Prot.READ)), errnoOf(() => driver.attach(first, 0, two))];
    expect(results.filter((result) => result !== "none")).toEqual([wanted]);
    refuses = () => false;
    for (const domain of [one, two]) driver.attach(second, 0, domain);
    expect(at(second.rid, IOVA)).toBe(0x801);
    driver.detach(first, 0);
    expect(at(first.rid, IOVA)).toBe(-1);
  });

  it.each([["its attach", "1 attach"], ["its mapping", "1 map"]])("a domain that the device refuses leaves the device in the one before: %s", (_what, refused) => {
    const { driver, at } = boot();
    const [one, two] = [driver.allocPaging(first, {}), driver.allocPaging(first, {})];
    one.map(IOVA, 0x80_0000, 4096, Prot.READ);
    two.map(IOVA, 0x80_1000, 4096, Prot.READ);
    driver.attach(first, 0, one);
    refuses = (what) => what.startsWith(refused);
    expect(() => driver.attach(first, 0, two)).toThrow("ENOMEM");
    expect(at(first.rid, IOVA)).toBe(0x800);
    one.unmap(IOVA, 4096);
    expect(at(first.rid, IOVA)).toBe(-1);
  });

  it.each([
    ["nested translation", { nestParent: true }],
    ["dirty tracking", { dirtyTracking: true }],
    ["PASIDs", { pasid: true }],
  ])("refuses what the protocol has not: %s", (what, options) => {
    const { driver } = boot();
    expect(() => driver.allocPaging(first, options)).toThrow(what);
    expect(() => driver.attach(first, 5, driver.allocPaging(first, {}))).toThrow("PASIDs");
  });

  it("tells of faults: who, where, how", () => {
    const { driver, at, hardware } = boot();
    const faults: unknown[] = [];
    driver.reportFaults?.(second, (fault) => faults.push(fault));
    at(first.rid, IOVA);
    hardware.translate(second.rid, NO_PASID, Number(IOVA >> 12n), Access.WRITE, 0x123);
    expect(faults).toEqual([{ pasid: undefined, permissions: 2, address: IOVA + 0x123n }]);
    expect(hardware.lostEvents).toBe(0);
  });

  it("says so when the device has broken down", () => {
    const { driver, memory } = boot();
    // A queue that nobody described.
    memory.writeMmio(REGISTERS + MmioReg.CONFIG + 36, 1, 7n);
    expect(() => driver.attach(first, 0, driver.allocPaging(first, {}))).toThrow("does not answer");
  });

  it("knows its options", () => {
    expect(() => boot({ mode: "lenient" })).toThrow('neither "strict" nor "qemu"');
  });
});
