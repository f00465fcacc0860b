import { Access, IommuError, NO_PASID } from "@iommukit/core";
import { decodeStruct } from "@iommukit/core/abi";
import { describe, expect, it } from "vitest";
import { PRESETS } from "../presets.js";
import { Board, dirtyPages, map, unmap } from "./board.test-support.js";
import { VtdDriver } from "./driver.js";

const { READ, WRITE } = Access;

function errno(run: () => unknown): string {
  try {
    run();
    return "success";
  } catch (error) {
    if (!(error instanceof IommuError)) throw error;
    return error.errno;
  }
}

describe("attaching", () => {
  it("replaces a domain in one go: old present bit, PASID cache, IOTLB, then the new entry", () => {
    const board = new Board();
    const bench = board.unit();
    const device = bench.device(0x18);
    const [a, b] = [bench.paging(device), bench.paging(device)];
    map(a, 5, 0x100);
    map(b, 5, 0x200);
    bench.driver.attach(device, 0, a);
    expect(bench.dma(device, 5)).toBe(0x100);
    board.invalidations();
    bench.driver.attach(device, 0, b);
    expect(board.invalidations().map((text) => text.split(":")[0])).toEqual(["PASID-cache invalidate descriptor", "PASID-based IOTLB invalidate descriptor"]);
    expect(bench.dma(device, 5)).toBe(0x200);
    bench.driver.detach(device, 0);
    expect(bench.dma(device, 5)).toBe(-1);
  });

  it("leaves the old domain in place when the new one is refused", () => {
    const board = new Board();
    const bench = board.unit("scalable", { FS5LP: 0 });
    const device = bench.device(0x18);
    const domain = bench.paging(device);
    map(domain, 5, 0x100);
    bench.driver.attach(device, 0, domain);
    const tall = board.unit().paging(device);
    expect(errno(() => bench.driver.attach(device, 0, tall))).toBe("EINVAL");
    expect(errno(() => bench.driver.attach(device, 0, { free() {} }))).toBe("EINVAL");
    const wide = board.unit("scalable", { MGAW: 47 });
    expect(errno(() => wide.driver.attach(wide.device(0x20), 0, tall))).toBe("EINVAL");
    const coherent = board.unit("scalable", { FS5LP: 0, SC: 1 }).paging(device);
    expect(errno(() => bench.driver.attach(device, 0, coherent))).toBe("EINVAL");
    expect(bench.dma(device, 5)).toBe(0x100);
  });

  it("serves one domain to devices behind two units, each with a domain-id of its own", () => {
    const board = new Board();
    const [first, second] = [board.unit(), board.unit()];
    const [a, b] = [first.device(0x18), second.device(0x20)];
    const filler = second.paging(b);
    second.driver.attach(b, 0, filler);
    const domain = first.paging(a);
    first.driver.attach(a, 0, domain);
    second.driver.attach(b, 7, domain);
    map(domain, 5, 0x100);
    expect(first.dma(a, 5)).toBe(0x100);
    expect(second.dma(b, 5, READ, 7)).toBe(0x100);
    unmap(domain, 5);
    expect(first.dma(a, 5)).toBe(-1);
    expect(second.dma(b, 5, READ, 7)).toBe(-1);
    const entries = board.events.filter((event) => event.kind === "table-write" && event.structure === "PASID table entry" && /DID=0x3/.test(event.meaning));
    expect(entries.map((event) => event.kind === "table-write" && event.unit)).toContain("vtd1");
  });

  it("gives domain-ids back and uses them again, with nothing left of their last user", () => {
    const board = new Board();
    const bench = board.unit("second-stage", { ND: 0 });
    const device = bench.device(0x18);
    for (let i = 0; i < 40; i++) {
      const domain = bench.paging(device);
      map(domain, 5, 0x100 + i);
      bench.driver.attach(device, 0, domain);
      expect(bench.dma(device, 5)).toBe(0x100 + i);
      bench.driver.detach(device, 0);
      domain.free();
      expect(bench.dma(device, 5)).toBe(-1);
    }
    const inUse = board.frames.inUse;
    const domains = Array.from({ length: 15 }, () => bench.paging(device));
    const attached = domains.map((domain, pasid) => errno(() => bench.driver.attach(device, pasid + 1, domain)));
    expect(attached.filter((result) => result === "success")).toHaveLength(14);
    expect(attached.at(-1)).toBe("ENOSPC");
    for (let pasid = 1; pasid <= 15; pasid++) bench.driver.detach(device, pasid);
    for (const domain of domains) domain.free();
    // One PASID table stays with the device.
    expect(board.frames.inUse).toBeLessThanOrEqual(inUse + 1);
  });

  it("grows the PASID directory under a device that goes on", () => {
    const board = new Board();
    const bench = board.unit();
    const device = bench.device(0x18);
    const before = board.frames.inUse;
    const domain = bench.paging(device);
    map(domain, 5, 0x100);
    for (const pasid of [0, 63, 64, 8191, 8192, 70_000, 2 ** 20 - 1]) {
      bench.driver.attach(device, pasid, domain);
      for (const known of [63, 8191, 8192, 2 ** 20 - 1]) if (known <= pasid) expect(bench.dma(device, 5, READ, known)).toBe(0x100);
      expect(bench.dma(device, 5)).toBe(0x100);
    }
    expect(bench.dma(device, 5, READ, 70_001)).toBe(-1);
    const [narrow, none] = [bench.device(0x20, { pasidBits: 8 }), bench.device(0x28, { pasidBits: 0 })];
    expect([errno(() => bench.driver.attach(device, 2 ** 20, domain)), errno(() => bench.driver.attach(narrow, 256, domain)), errno(() => bench.driver.attach(none, 1, domain))]).toEqual(["EINVAL", "EINVAL", "EINVAL"]);
    bench.driver.removeDevice(narrow);
    bench.driver.removeDevice(none);
    bench.driver.removeDevice(device);
    expect(bench.dma(device, 5)).toBe(-1);
    expect(bench.dma(device, 5, READ, 8192)).toBe(-1);
    domain.free();
    // The context table stays.
    expect(board.frames.inUse).toBe(before - 1);
  });

  it("hands over more invalidations than the queue holds", () => {
    const board = new Board();
    const bench = board.unit();
    const device = bench.device(0x18);
    const domain = bench.paging(device);
    map(domain, 5, 0x100);
    const pasids = Array.from({ length: 600 }, (_, i) => i + 1);
    for (const pasid of pasids) bench.driver.attach(device, pasid, domain);
    expect(pasids.every((pasid) => bench.dma(device, 5, READ, pasid) === 0x100)).toBe(true);
    board.invalidations();
    unmap(domain, 5);
    expect(board.invalidations()).toHaveLength(600);
    expect(pasids.every((pasid) => bench.dma(device, 5, READ, pasid) === -1)).toBe(true);
  });

  it.each(Object.keys(PRESETS))("blocks a device whose domain is detached with everything mapped and cached: %s", (preset) => {
    const board = new Board();
    const bench = board.unit(preset);
    const [device, other] = [bench.device(0x18), bench.device(0x20)];
    const domain = bench.paging(device);
    map(domain, 5, 0x100, 2);
    bench.driver.attach(device, 0, domain);
    bench.driver.attach(other, 0, domain);
    expect([bench.dma(device, 5), bench.dma(other, 5)]).toEqual([0x100, 0x100]);
    bench.driver.detach(device, 0);
    expect([bench.dma(device, 5), bench.dma(device, 6), bench.dma(other, 5)]).toEqual([-1, -1, 0x100]);
  });

  it("adds a device again where one was removed", () => {
    const board = new Board();
    const bench = board.unit();
    const device = bench.device(0x18);
    const domain = bench.paging(device);
    map(domain, 5, 0x100);
    bench.driver.attach(device, 3, domain);
    expect(bench.dma(device, 5, READ, 3)).toBe(0x100);
    bench.driver.removeDevice(device);
    // The new one's directory lies elsewhere.
    board.frames.alloc();
    const again = bench.device(0x18);
    expect(bench.dma(again, 5, READ, 3)).toBe(-1);
    bench.driver.attach(again, 3, domain);
    expect(bench.dma(again, 5, READ, 3)).toBe(0x100);
  });
});

describe("paging domains", () => {
  it("use five levels where the unit has them, and MGAW bounds them", () => {
    const board = new Board();
    const five = board.unit();
    const device = five.device(0x18);
    const domain = five.paging(device);
    expect(domain.aperture.last).toBe(2n ** 56n - 1n);
    map(domain, 2 ** 43, 0x100);
    five.driver.attach(device, 0, domain);
    expect(five.dma(device, 2 ** 43)).toBe(0x100);
    unmap(domain, 2 ** 43);
    expect(five.dma(device, 2 ** 43)).toBe(-1);
    const parent = board.unit("scalable", { NEST: 1 });
    expect(parent.paging(device, { nestParent: true }).aperture.last).toBe(2n ** 57n - 1n);
    expect(board.unit("scalable", { FS5LP: 0 }).paging(device).aperture.last).toBe(2n ** 47n - 1n);
    expect(board.unit("legacy").paging(device).aperture.last).toBe(2n ** 48n - 1n);
    expect(board.unit("legacy", { SAGAW: 2, MGAW: 38 }).paging(device).aperture.last).toBe(2n ** 39n - 1n);
  });

  it("enforce coherency with snoop control, and only where it is", () => {
    const board = new Board();
    const bench = board.unit("second-stage", { SC: 1 });
    const device = bench.device(0x18);
    const domain = bench.paging(device);
    expect(domain.enforcesCoherency).toBe(true);
    map(domain, 5, 0x100);
    bench.driver.attach(device, 0, domain);
    expect(bench.dma(device, 5, WRITE)).toBe(0x100);
    const plain = board.unit("second-stage");
    expect(plain.paging(device).enforcesCoherency).toBe(false);
    expect(errno(() => plain.driver.attach(plain.device(0x20), 0, domain))).toBe("EINVAL");
  });

  it.each([
    ["a unit without page-selective invalidation", { PSI: 0 }, "G=domain"],
    ["a range beyond MAMV", { MAMV: 0 }, "G=domain"],
    ["a range within MAMV", {}, "G=page"],
  ])("invalidate what an unmap takes away: %s", (_name, fields, granularity) => {
    const board = new Board();
    const bench = board.unit("second-stage", fields);
    const device = bench.device(0x18);
    const domain = bench.paging(device);
    map(domain, 4, 0x100, 4);
    bench.driver.attach(device, 0, domain);
    for (let page = 4; page < 8; page++) expect(bench.dma(device, page)).toBe(0xfc + page);
    board.invalidations();
    unmap(domain, 4, 4);
    expect(board.invalidations()).toEqual([expect.stringContaining(granularity)]);
    for (let page = 4; page < 8; page++) expect(bench.dma(device, page)).toBe(-1);
  });

  it("keep what caches know of tables when no table has gone (IH), and only then", () => {
    const board = new Board();
    const bench = board.unit("second-stage");
    const device = bench.device(0x18);
    const domain = bench.paging(device);
    map(domain, 4, 0x100, 4);
    bench.driver.attach(device, 0, domain);
    expect([4, 5, 6, 7].map((page) => bench.dma(device, page))).toEqual([0x100, 0x101, 0x102, 0x103]);
    board.invalidations();
    unmap(domain, 4);
    expect(board.invalidations()).toEqual([expect.stringMatching(/IH=/)]);
    unmap(domain, 5, 3);
    expect(board.invalidations()).toEqual([expect.not.stringMatching(/IH=/)]);
    // The freed tables serve another page, elsewhere.
    map(domain, 0x8000_0005, 0x200);
    map(domain, 6, 0x300);
    expect([4, 5, 6, 7, 0x8000_0005].map((page) => bench.dma(device, page))).toEqual([-1, -1, 0x300, -1, 0x200]);
  });

  it("need an invalidation for what appears only with caching mode, and for second stage only (6.1)", () => {
    const board = new Board();
    for (const [preset, fields, count] of [["second-stage", { CM: 1 }, 1], ["scalable", { CM: 1 }, 0], ["second-stage", {}, 0], ["legacy", { CM: 1 }, 1]] as const) {
      const bench = board.unit(preset, fields);
      board.invalidations();
      const device = bench.device(0x18);
      expect(board.invalidations()).toHaveLength("CM" in fields && preset !== "legacy" ? 2 : 0);
      const domain = bench.paging(device);
      bench.driver.attach(device, 0, domain);
      expect(board.invalidations()).toHaveLength("CM" in fields ? 2 : 0);
      map(domain, 5, 0x100);
      expect(board.invalidations()).toHaveLength(count);
      expect(bench.dma(device, 5)).toBe(0x100);
    }
  });

  it("flush the write buffer of a unit that has one (CAP.RWBF)", () => {
    const board = new Board();
    const bench = board.unit("legacy", { RWBF: 1 });
    const device = bench.device(0x18);
    const domain = bench.paging(device);
    const flushes = (): number => board.events.splice(0).filter((event) => event.kind === "register" && event.name === "GCMD" && (event.value & 0x800_0000n) !== 0n).length;
    flushes();
    bench.driver.attach(device, 0, domain);
    expect(flushes()).toBe(1);
    map(domain, 5, 0x100);
    expect(flushes()).toBe(1);
    expect(bench.dma(device, 5)).toBe(0x100);
  });

  it("are refused where the unit lacks what they need", () => {
    const board = new Board();
    const device = { rid: 1, name: "d", pasidBits: 0, ats: false };
    const alloc = (preset: string, fields: Record<string, number>, options: Record<string, boolean>): string => errno(() => board.unit(preset, fields).paging(device, options));
    expect(alloc("scalable", {}, { nestParent: true })).toBe("EOPNOTSUPP");
    expect(alloc("scalable", { NEST: 1 }, { nestParent: true })).toBe("success");
    expect(alloc("scalable", {}, { dirtyTracking: true })).toBe("success");
    expect(alloc("scalable", { SSADS: 0 }, { dirtyTracking: true })).toBe("EOPNOTSUPP");
    expect(alloc("legacy", { SSADS: 1 }, { dirtyTracking: true })).toBe("EOPNOTSUPP");
    expect(alloc("second-stage", { SSTS: 0 }, {})).toBe("EOPNOTSUPP");
  });
});

describe("reserved memory", () => {
  const rmrr = [
    { devices: ["00:03.0"], start: "0x8000", end: "0xa000" },
    { devices: ["00:03.0", "00:04.0"], start: "0x20000", end: "0x21000", relaxable: true },
  ];

  it.each(Object.keys(PRESETS))("is there for its devices whenever nothing else is: %s", (preset) => {
    const board = new Board();
    const bench = board.unit(preset, {}, { rmrr });
    const before = board.frames.inUse;
    const [device, other] = [bench.device(0x18), bench.device(0x28)];
    const reach = (): number[] => [7, 8, 9, 10, 0x20].map((page) => bench.dma(device, page, WRITE));
    expect(reach()).toEqual([-1, 8, 9, -1, 0x20]);
    expect(bench.dma(other, 8)).toBe(-1);
    const domain = bench.paging(device);
    map(domain, 7, 0x100);
    bench.driver.attach(device, 0, domain);
    expect(reach()).toEqual([0x100, -1, -1, -1, -1]);
    bench.driver.detach(device, 0);
    expect(reach()).toEqual([-1, 8, 9, -1, 0x20]);
    bench.driver.removeDevice(device);
    expect(reach()).toEqual([-1, -1, -1, -1, -1]);
    domain.free();
    bench.driver.removeDevice(other);
    // The context table stays.
    expect(board.frames.inUse).toBe(before + 1);
  });

  it("is told of, in order", () => {
    const bench = new Board().unit("scalable", {}, { rmrr });
    expect(bench.driver.reservedRegions(bench.device(0x18)).map(({ start, last, kind }) => [start, last, kind])).toEqual([
      [0x8000n, 0x9fffn, "direct"], [0x2_0000n, 0x2_0fffn, "direct-relaxable"], [0xfee0_0000n, 0xfeef_ffffn, "msi"],
    ]);
    expect(bench.driver.reservedRegions(bench.device(0x20))).toHaveLength(2);
  });

  it.each([[{}], [[7]], [[{ devices: [], start: "0x1000", end: "0x2000" }]], [[{ devices: ["x"], start: "0x1000", end: "0x2000" }]], [[{ devices: ["00:03.0"], start: "0x1001", end: "0x2000" }]],
    [[{ devices: ["00:03.0"], start: "0x2000", end: "0x2000" }]], [[{ devices: ["00:03.0"], end: "0x2000" }]], [[{ devices: ["00:03.0"], start: "0x1000", end: "0x2000", size: 1 }]]])(
    "is refused when it makes no sense: %j",
    (wrong) => {
      expect(errno(() => new Board().unit("scalable", {}, { rmrr: wrong }))).toBe("EINVAL");
    },
  );
});

describe("dirty tracking", () => {
  const tracked = (): ReturnType<typeof setup> => setup();
  function setup() {
    const board = new Board();
    const bench = board.unit();
    const device = bench.device(0x18);
    const domain = bench.paging(device, { dirtyTracking: true });
    map(domain, 0x200, 0x1000, 1024);
    map(domain, 0x1000, 0x800, 8);
    return { board, bench, device, domain };
  }

  it("reports what devices wrote while it was on, by the RID and by PASIDs", () => {
    const { bench, device, domain } = tracked();
    bench.driver.attach(device, 0, domain);
    bench.driver.attach(device, 9, domain);
    bench.dma(device, 0x1000, WRITE);
    expect(dirtyPages(domain, 0x1000, 8)).toEqual([]);
    domain.dirty?.set(true);
    bench.dma(device, 0x1001, READ);
    bench.dma(device, 0x1002, WRITE);
    bench.dma(device, 0x1004, WRITE, 9);
    expect(dirtyPages(domain, 0x1000, 8, false)).toEqual([0x1002, 0x1004]);
    expect(dirtyPages(domain, 0x1000, 8)).toEqual([0x1002, 0x1004]);
    expect(dirtyPages(domain, 0x1000, 8)).toEqual([]);
    domain.dirty?.set(false);
    bench.dma(device, 0x1002, WRITE);
    expect(dirtyPages(domain, 0x1000, 8)).toEqual([]);
  });

  it("tracks pages whose translation was cached before it was turned on", () => {
    const { bench, device, domain } = tracked();
    bench.driver.attach(device, 0, domain);
    expect(bench.dma(device, 0x1002, WRITE)).toBe(0x802);
    domain.dirty?.set(true);
    expect(bench.dma(device, 0x1002, WRITE)).toBe(0x802);
    expect(dirtyPages(domain, 0x1000, 8)).toEqual([0x1002]);
  });

  it("sees a write after a clear, although the translation was cached as dirty", () => {
    const { bench, device, domain } = tracked();
    domain.dirty?.set(true);
    bench.driver.attach(device, 0, domain);
    for (let round = 0; round < 3; round++) {
      expect(bench.dma(device, 0x1003, WRITE)).toBe(0x803);
      expect(dirtyPages(domain, 0x1000, 8)).toEqual([0x1003]);
    }
  });

  it("reports a large page as a whole, from where it was asked for, and stops at a hole", () => {
    const { bench, device, domain } = tracked();
    domain.dirty?.set(true);
    bench.driver.attach(device, 0, domain);
    bench.dma(device, 0x3ff, WRITE);
    bench.dma(device, 0x1000, WRITE);
    const pages = dirtyPages(domain, 0x300, 0x1000);
    expect([pages[0], pages.at(-1), pages.length]).toEqual([0x300, 0x3ff, 0x100]);
    expect(dirtyPages(domain, 0x200, 0x200)).toEqual([]);
    expect(dirtyPages(domain, 0x1000, 8)).toEqual([0x1000]);
  });

  it("is refused behind a unit without dirty flags", () => {
    const { board, domain } = tracked();
    const plain = board.unit("second-stage", { SAGAW: 14, MGAW: 56 });
    expect(errno(() => plain.driver.attach(plain.device(0x20), 0, domain))).toBe("EINVAL");
  });
});

describe("recorded faults", () => {
  it("are taken out of the unit, told of and counted, however many come", () => {
    const board = new Board();
    const bench = board.unit();
    const device = bench.device(0x18);
    const domain = bench.paging(device);
    map(domain, 4, 0x100, 1, 1);
    bench.driver.attach(device, 0, domain);
    for (let i = 0; i < 100; i++) expect(bench.dma(device, 0x1234_5000 + i, WRITE)).toBe(-1);
    bench.dma(device, 4, WRITE);
    bench.dma(device, 5, READ, 77);
    const { driver } = bench;
    expect(driver instanceof VtdDriver && driver.faults.count).toBe(102);
    const reports = board.reports();
    expect(reports[0]).toMatch(/write of 0x12345000000 by 00:03\.0 was blocked: SFS\.2/);
    expect(reports[100]).toMatch(/write of 0x4000 by 00:03\.0 was blocked: SGN\.6/);
    expect(reports[101]).toMatch(/read of 0x5000 by 00:03\.0 PASID 0x4d was blocked: SPD\.2|SPT\.2/);
  });
});

describe("interrupt remapping", () => {
  function routed() {
    const board = new Board();
    const bench = board.unit("scalable", { IR: 1, MHMV: 15 });
    const device = bench.device(0x18);
    const arrived: number[] = [];
    const route = (n: number) => {
      const message = bench.driver.routeInterrupt?.(device, board.interrupts.allocate(() => arrived.push(n)));
      if (message === undefined) throw new Error("not routed");
      return message;
    };
    return { board, bench, device, arrived, route };
  }

  it("brings a device's message to its handler, and nobody else's", () => {
    const { bench, device, arrived, route } = routed();
    const [a, b] = [route(1), route(2)];
    expect(bench.unit.hardware.interrupt?.(device.rid, a.address, a.data)).toBe(true);
    expect(bench.unit.hardware.interrupt?.(device.rid, b.address, b.data)).toBe(true);
    expect(bench.unit.hardware.interrupt?.(0x20, a.address, a.data)).toBe(false);
    expect(bench.unit.hardware.interrupt?.(device.rid, 0xfee0_0000n, 0x30)).toBe(false);
    expect(arrived).toEqual([1, 2]);
  });

  it("blocks a message that was freed, whatever is cached of it", () => {
    const { bench, device, arrived, route } = routed();
    const a = route(1);
    bench.unit.hardware.interrupt?.(device.rid, a.address, a.data);
    a.free();
    expect(bench.unit.hardware.interrupt?.(device.rid, a.address, a.data)).toBe(false);
    const b = route(2);
    expect(b.address).toBe(a.address);
    expect(bench.unit.hardware.interrupt?.(device.rid, b.address, b.data)).toBe(true);
    expect(arrived).toEqual([1, 2]);
  });

  it("grows its table under messages that go on", () => {
    const { bench, device, arrived, route, board } = routed();
    const messages = Array.from({ length: 700 }, (_, n) => route(n));
    for (const { address, data } of messages) expect(bench.unit.hardware.interrupt?.(device.rid, address, data)).toBe(true);
    expect(arrived).toEqual(messages.map((_, n) => n));
    for (const message of messages) message.free();
    expect(bench.unit.hardware.interrupt?.(device.rid, messages[600].address, 0)).toBe(false);
    expect(board.frames.inUse).toBeLessThan(60);
  });

  it("tells the entry cache of a new table, and with caching mode of every new entry", () => {
    const board = new Board();
    const entries = (): number => board.invalidations().filter((text) => text.startsWith("Interrupt entry")).length;
    const bench = board.unit("scalable", { IR: 1, ESIRTPS: 0, CM: 1 });
    const device = bench.device(0x18);
    expect(entries()).toBe(1);
    bench.driver.routeInterrupt?.(device, board.interrupts.allocate(() => undefined));
    expect(entries()).toBe(1);
    board.unit("scalable", { IR: 1, ESIRTPS: 1 });
    expect(entries()).toBe(0);
  });

  it("is absent in a unit without it: messages pass as they are", () => {
    expect(new Board().unit().driver.routeInterrupt).toBeUndefined();
  });
});

describe("a device that does not answer an invalidation", () => {
  it("loses its ATS, and nobody waits for it again", () => {
    const board = new Board();
    const bench = board.unit("scalable", { DT: 1 });
    const [device, other] = [bench.device(0x18, { ats: true }), bench.device(0x20)];
    expect(bench.driver.capabilities(device).ats).toBe(true);
    const domain = bench.paging(device);
    map(domain, 5, 0x100, 2);
    bench.driver.attach(device, 0, domain);
    bench.driver.attach(other, 0, domain);
    expect([bench.dma(device, 5), bench.dma(other, 5), bench.dma(other, 6)]).toEqual([0x100, 0x100, 0x101]);
    // Nothing is connected as the device's endpoint.
    unmap(domain, 5);
    expect(board.reports()).toEqual([expect.stringContaining("00:03.0 does not answer")]);
    expect([bench.dma(device, 5), bench.dma(other, 5), bench.dma(other, 6)]).toEqual([-1, -1, 0x101]);
    board.invalidations();
    unmap(domain, 6);
    expect(board.invalidations()).toHaveLength(1);
    expect(bench.dma(other, 6)).toBe(-1);
    bench.driver.detach(device, 0);
    bench.driver.removeDevice(device);
  });

  it("is dealt with in legacy mode, too", () => {
    const board = new Board();
    const bench = board.unit("legacy", { DT: 1 });
    const device = bench.device(0x18, { ats: true });
    const domain = bench.paging(device);
    map(domain, 5, 0x100, 2);
    bench.driver.attach(device, 0, domain);
    expect(bench.dma(device, 5)).toBe(0x100);
    unmap(domain, 5);
    expect(board.reports()).toHaveLength(1);
    expect([bench.dma(device, 5), bench.dma(device, 6)]).toEqual([-1, 0x101]);
  });
});

describe("a unit that keeps its caches when it gets a root table (ESRTPS=0)", () => {
  it("is told to empty them before translation is turned on", () => {
    const board = new Board();
    board.unit("scalable", { ESRTPS: 0 });
    expect(board.invalidations().map((text) => text.split(":")[0])).toEqual(["Context-cache invalidate descriptor", "PASID-cache invalidate descriptor", "IOTLB invalidate descriptor"]);
  });
});

describe("GET_HW_INFO", () => {
  it("tells the words of the unit and what device and unit can do together", () => {
    const board = new Board();
    const bench = board.unit("scalable", { DT: 1 });
    const device = bench.device(0x18, { ats: true, pasidBits: 12 });
    expect(bench.driver.capabilities(device)).toEqual({ dirtyTracking: true, maxPasidLog2: 12, ats: true, pageRequests: false, pasidLimit: 4096 });
    const info = bench.driver.hwInfo?.(device, 1);
    expect(decodeStruct("iommu_hw_info_vtd", info?.data ?? new Uint8Array(24))).toMatchObject({ flags: 1 });
    expect(errno(() => bench.driver.hwInfo?.(device, 2))).toBe("EOPNOTSUPP");
    const legacy = board.unit("legacy");
    expect(legacy.driver.capabilities(legacy.device(0x18))).toEqual({ dirtyTracking: false, maxPasidLog2: 0, ats: false, pageRequests: false });
    expect(legacy.dma(device, 1, READ, NO_PASID)).toBe(-1);
  });
});
