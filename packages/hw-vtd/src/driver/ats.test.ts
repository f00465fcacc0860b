/** Devices that keep translations, and ask for pages. */
import { type AtsInvalidation, type PageFault, type PageFaultSink, PageTable, TranslationCompletion } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import { readCapabilities } from "../spec/capabilities.js";
import { FirstStage, firstStageFormat } from "../spec/formats.js";
import { type AtsDevice, type Bench, Board, dirtyPages, invalidationEntries, map, unmap, userData } from "./board.test-support.js";

const ATS = { DT: 1, NEST: 1, PRS: 1, PDS: 1 };
const FRAMES = 2 ** 25 / 4096;

/** Page n of memory holds n. */
function mark(board: Board): void {
  for (let page = 0x100; page < 0x200; page++) board.memory.write(page * 4096, Uint8Array.of(page & 0xff));
}

describe("device-TLBs", () => {
  let board: Board;
  let bench: Bench;
  let device: AtsDevice;
  let other: AtsDevice;

  beforeEach(() => {
    board = new Board();
    mark(board);
    bench = board.unit("scalable", ATS);
    [device, other] = [bench.atsDevice(0x18), bench.atsDevice(0x20)];
  });

  it.each([["first stage", {}], ["second stage", { dirtyTracking: true }]])("forget what an unmap takes away, with and without PASID: %s", (_name, options) => {
    const domain = bench.paging(device.device, options);
    map(domain, 4, 0x104, 4);
    bench.driver.attach(device.device, 0, domain);
    bench.driver.attach(device.device, 7, domain);
    bench.driver.attach(other.device, 7, domain);
    const look = (page: number): unknown[] => [device.move("read", page), device.move("read", page, { pasid: 7 }), other.move("read", page, { pasid: 7 })];
    expect([look(4), look(5), look(6)]).toEqual([[4, 4, 4], [5, 5, 5], [6, 6, 6]]);
    expect(device.tlb.cached).toBeGreaterThan(0);
    unmap(domain, 4, 2);
    expect([look(4), look(5), look(6)]).toEqual([["refused", "refused", "refused"], ["refused", "refused", "refused"], [6, 6, 6]]);
  });

  it("have the queue depth of their own function where the unit throttles (ECAP.DIT)", () => {
    const local = board.unit("scalable", { ...ATS, DIT: 1 });
    const ats = local.atsDevice(0x128);
    const domain = local.paging(ats.device);
    map(domain, 4, 0x104);
    local.driver.attach(ats.device, 0, domain);
    local.driver.attach(ats.device, 3, domain);
    ats.move("read", 4, { pasid: 3 });
    board.invalidations();
    unmap(domain, 4);
    const told = board.invalidations().filter((text) => /device-TLB|Device-TLB/.test(text));
    expect(told).toHaveLength(2);
    for (const text of told) expect(text).toMatch(/PFSID_LOW=0x8.*PFSID_HIGH=0x12/);
    expect(ats.move("read", 4, { pasid: 3 })).toBe("refused");
  });

  it("are told after the IOTLB, in one go", () => {
    const domain = bench.paging(device.device);
    map(domain, 4, 0x104);
    bench.driver.attach(device.device, 0, domain);
    bench.driver.attach(device.device, 7, domain);
    board.invalidations();
    unmap(domain, 4);
    expect(board.invalidations().map((text) => text.split(":")[0])).toEqual([
      "PASID-based IOTLB invalidate descriptor", "PASID-based IOTLB invalidate descriptor", "Device-TLB invalidate descriptor", "PASID-based device-TLB invalidate descriptor",
    ]);
  });

  it.each([["scalable", 0], ["scalable", 7], ["second-stage", 7], ["legacy", 0]])("are empty when a domain is detached or replaced: %s, PASID %i", (preset, pasid) => {
    const local = board.unit(preset, { DT: 1 });
    const ats = local.atsDevice(0x28);
    const options = pasid === 0 ? {} : { pasid };
    const [a, b] = [local.paging(ats.device), local.paging(ats.device)];
    map(a, 4, 0x104, 2);
    map(b, 4, 0x114);
    local.driver.attach(ats.device, pasid, a);
    expect([ats.move("read", 4, options), ats.move("read", 5, options)]).toEqual([4, 5]);
    local.driver.attach(ats.device, pasid, b);
    expect([ats.move("read", 4, options), ats.move("read", 5, options)]).toEqual([0x14, "refused"]);
    local.driver.detach(ats.device, pasid);
    expect(ats.tlb.cached).toBe(0);
    expect(ats.move("read", 4, options)).toBe("refused");
  });

  it("write what is dirty", () => {
    const domain = bench.paging(device.device, { dirtyTracking: true });
    map(domain, 4, 0x104, 4);
    bench.driver.attach(device.device, 0, domain);
    device.move("write", 4, {}, 4);
    domain.dirty?.set(true);
    for (let round = 0; round < 3; round++) {
      expect(device.move("write", 4, {}, 4)).toBe(4);
      expect(dirtyPages(domain, 4, 4)).toEqual([4]);
    }
  });

  it("hold a guest's translations until the guest, or what lies below it, changes", () => {
    const parent = bench.paging(device.device, { nestParent: true });
    map(parent, FRAMES, FRAMES, FRAMES);
    map(parent, 0x10, 0x110, 8);
    const guest = new PageTable(board.memory, board.frames, firstStageFormat(readCapabilities(0x70, 0n, 0n, 48)), 3);
    guest.map(4, 0x10, 4, FirstStage.P | FirstStage.RW | FirstStage.US);
    const data = userData("iommu_hwpt_vtd_s1", { pgtbl_addr: BigInt(guest.root), addr_width: 48 });
    const nested = bench.driver.allocNested?.(device.device, parent, { pasid: true }, data) ?? expect.fail("no nested domain");
    bench.driver.attach(device.device, 0, nested);
    bench.driver.attach(other.device, 9, nested);
    const look = (): unknown[] => [4, 5, 6].flatMap((page) => [device.move("read", page), other.move("read", page, { pasid: 9 })]);
    expect(look()).toEqual([0x10, 0x10, 0x11, 0x11, 0x12, 0x12]);
    guest.unmap(4, 1);
    nested.invalidate?.(invalidationEntries([{ addr: 0x4000n, npages: 1n, flags: 1 }]));
    expect(look()).toEqual(["refused", "refused", 0x11, 0x11, 0x12, 0x12]);
    unmap(parent, 0x11);
    expect(look()).toEqual(["refused", "refused", "refused", "refused", 0x12, 0x12]);
  });

  it("that do not answer any more are shut out: what they hold is of no use", () => {
    const port = board.bus.connect(0x30, bench.unit.hardware);
    const silent = bench.device(0x30, { ats: true });
    const asked: AtsInvalidation[] = [];
    port.ats?.connect({ invalidate: (request) => asked.push(request), respond: () => undefined });
    const domain = bench.paging(silent);
    map(domain, 4, 0x104, 2);
    bench.driver.attach(silent, 0, domain);
    const out = new TranslationCompletion();
    port.ats?.translate(-1, 4, 1, out);
    expect(out.page).toBe(0x104);
    const byte = new Uint8Array(1);
    expect(port.ats?.access(-1, 0x10_4000, byte, 1)).toBe(true);
    unmap(domain, 4);
    expect(asked).toHaveLength(1);
    expect(board.reports()).toEqual([expect.stringContaining("00:06.0 does not answer")]);
    expect(port.ats?.access(-1, 0x10_4000, byte, 1)).toBe(false);
    expect([bench.dma(silent, 4), bench.dma(silent, 5)]).toEqual([-1, 0x105]);
  });
});

describe("page requests", () => {
  let board: Board;
  let bench: Bench;
  let device: AtsDevice;
  let faults: PageFault[];
  let discarded: number;
  const sink: PageFaultSink = { report: (fault) => faults.push(fault), discardPartial: () => discarded++ };

  beforeEach(() => {
    board = new Board();
    mark(board);
    bench = board.unit("scalable", ATS);
    device = bench.atsDevice(0x18, { pageRequests: true });
    [faults, discarded] = [[], 0];
  });

  const answer = (code: "success" | "invalid", fault = faults[0]): void =>
    bench.driver.respondToPageFault?.(device.device, { pasid: fault.pasid, group: fault.group, code });
  const request = (more: Partial<{ pasid: number; page: number; access: number; group: number; last: boolean }> = {}): void =>
    device.port.ats?.requestPage({ pasid: -1, page: 4, access: 1, group: 0, last: true, ...more });
  /** What the device was answered: group and code. */
  const answers = (): number[][] => {
    const got: number[][] = [];
    device.port.ats?.connect({ invalidate: ({ tag }) => device.port.ats?.completeInvalidation(1 << tag, 1), respond: ({ group, code }) => got.push([group, code]) });
    return got;
  };

  it("bring a page, and the transfer goes on", () => {
    const domain = bench.paging(device.device);
    bench.driver.reportPageFaults?.(device.device, sink);
    bench.driver.attach(device.device, 7, domain);
    const bytes = new Uint8Array(1);
    let done = false;
    device.tlb.transfer("write", 0x4000n, bytes, { pasid: 7 }, () => (done = true));
    expect(faults).toEqual([{ pasid: 7, group: faults[0].group, permissions: 2, address: 0x4000n, last: true }]);
    map(domain, 4, 0x104);
    expect(done).toBe(false);
    answer("success");
    expect(done).toBe(true);
    expect(device.move("read", 5, { pasid: 7 })).toBe("waiting");
    let refused = false;
    device.tlb.transfer("read", 0x6000n, bytes, { pasid: 7 }, ({ ok }) => (refused = !ok));
    answer("invalid", faults[2]);
    expect(refused).toBe(true);
  });

  it("are answered INVALID when nobody takes them, or they are not what a device may ask", () => {
    const got = answers();
    bench.driver.attach(device.device, 0, bench.paging(device.device));
    request({ group: 1 });
    bench.driver.reportPageFaults?.(device.device, sink);
    request({ group: 2, page: 2 ** 51 });
    request({ group: 3, access: 1 | 8 });
    request({ group: 4, access: 1 | 4 });
    request({ group: 5, access: 8, last: false });
    expect(got).toEqual([[1, 1], [2, 1], [3, 1], [4, 1]]);
    expect(faults).toEqual([]);
    request({ group: 6 });
    bench.driver.reportPageFaults?.(device.device, undefined);
    request({ group: 7 });
    expect(faults.map((fault) => fault.group)).toEqual([6]);
    expect(got.slice(4)).toEqual([[7, 1]]);
  });

  it("end with a stop marker that nobody answers", () => {
    const got = answers();
    bench.driver.attach(device.device, 0, bench.paging(device.device));
    bench.driver.reportPageFaults?.(device.device, sink);
    request({ access: 0, group: 3 });
    expect([faults, got]).toEqual([[], []]);
  });

  it("are lost when the queue overflows, and the queue goes on", () => {
    const got = answers();
    bench.driver.attach(device.device, 0, bench.paging(device.device));
    // While the handler is busy with the first request, the device fills the queue.
    const flood: PageFaultSink = {
      report: (fault) => {
        faults.push(fault);
        if (faults.length === 1) for (let i = 0; i < 3000; i++) request({ group: i % 512 });
      },
      discardPartial: () => discarded++,
    };
    bench.driver.reportPageFaults?.(device.device, flood);
    request();
    expect(faults.length).toBe(2048);
    expect(got.every(([, code]) => code === 0)).toBe(true);
    expect(faults.length + got.length).toBe(3001);
    expect(discarded).toBe(1);
    request({ group: 9 });
    expect(faults.length).toBe(2049);
  });

  it("that are under way when a domain is detached are handled before its entry is given up", () => {
    const domain = bench.paging(device.device);
    bench.driver.reportPageFaults?.(device.device, sink);
    bench.driver.attach(device.device, 7, domain);
    board.invalidations();
    board.events.length = 0;
    bench.driver.detach(device.device, 7);
    const queue = board.events.flatMap((event) => (event.kind === "invalidation" ? [event.descriptor] : []));
    expect(queue[0]).toMatch(/^Invalidation wait descriptor.*FN=/);
    expect(queue.at(-1)).toMatch(/^Invalidation wait descriptor.*SW=.*PD=/);
    expect(queue.slice(1, -1).map((text) => text.split(":")[0])).toEqual([
      "PASID-cache invalidate descriptor", "PASID-based IOTLB invalidate descriptor", "PASID-based device-TLB invalidate descriptor",
    ]);
    expect(device.move("read", 4, { pasid: 7 })).toBe("refused");
  });
});
