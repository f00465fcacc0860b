/** Guests' first stages on top of a second stage of ours. */
import { Access, IommuError, type NestedDomain, NO_PASID, PageTable } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import { readCapabilities } from "../spec/capabilities.js";
import { FirstStage, firstStageFormat } from "../spec/formats.js";
import type { Bench } from "./board.test-support.js";
import { Board, dirtyPages, invalidationEntries, map, unmap, userData } from "./board.test-support.js";

const { READ, WRITE } = Access;
const { P, RW, US } = FirstStage;
const NESTING = { NEST: 1 };
const SRE = 1n;
const EAFE = 2n;
const WPE = 4n;
/** Guest memory: the frames that tables lie in are where they are in the host; pages from 0x100 on are elsewhere. */
const FRAMES = 2 ** 25 / 4096;
const FRAME_COUNT = 2 ** 25 / 4096;
const EVERYTHING = 2n ** 64n - 1n;

function errno(run: () => unknown): string {
  try {
    run();
    return "success";
  } catch (error) {
    if (!(error instanceof IommuError)) throw error;
    return error.errno;
  }
}

describe("nested domains", () => {
  let board: Board;
  let bench: Bench;
  let device: ReturnType<Bench["device"]>;
  let parent: ReturnType<Bench["paging"]>;
  let guest: PageTable;

  beforeEach(() => {
    board = new Board();
    bench = board.unit("scalable", NESTING);
    device = bench.device(0x18);
    parent = bench.paging(device, { nestParent: true, dirtyTracking: true });
    map(parent, FRAMES, FRAMES, FRAME_COUNT);
    map(parent, 0x100, 0x900, 64);
    guest = newGuest();
  });

  /** The guest's table, with room in its memory. */
  function newGuest(): PageTable {
    const format = firstStageFormat(readCapabilities(0x70, 0n, 0n, 48));
    return new PageTable(board.memory, board.frames, format, 3);
  }

  const nested = (fields: Readonly<Record<string, number | bigint>> = {}, type = 1): NestedDomain => {
    const domain = bench.driver.allocNested?.(device, parent, { pasid: false }, userData("iommu_hwpt_vtd_s1", { pgtbl_addr: BigInt(guest.root), addr_width: 48, ...fields }, type));
    if (domain === undefined) throw new Error("no nested domains");
    return domain;
  };
  const guestMap = (page: number, to: number, count = 1): void => guest.map(page, to, count, P | RW | US);

  it("translate through both stages", () => {
    guestMap(5, 0x100, 4);
    bench.driver.attach(device, 0, nested());
    expect(bench.dma(device, 5)).toBe(0x900);
    expect(bench.dma(device, 8, WRITE)).toBe(0x903);
    expect(bench.dma(device, 9)).toBe(-1);
  });

  it("live beside each other under PASIDs of one device, and of several", () => {
    const other = bench.device(0x20);
    guestMap(5, 0x100);
    bench.driver.attach(device, 0, parent);
    bench.driver.attach(device, 3, nested());
    guest = newGuest();
    guestMap(5, 0x107);
    const second = nested();
    bench.driver.attach(device, 4, second);
    bench.driver.attach(other, 0, second);
    expect([bench.dma(device, 0x100), bench.dma(device, 5, READ, 3), bench.dma(device, 5, READ, 4), bench.dma(other, 5)]).toEqual([0x900, 0x900, 0x907, 0x907]);
    bench.driver.detach(device, 4);
    expect([bench.dma(device, 5, READ, 3), bench.dma(device, 5, READ, 4), bench.dma(other, 5)]).toEqual([0x900, -1, 0x907]);
  });

  it("lose what their parent loses, whichever stage holds it", () => {
    guestMap(5, 0x100, 2);
    const domain = nested();
    bench.driver.attach(device, 0, domain);
    bench.driver.attach(device, 9, domain);
    expect([bench.dma(device, 5), bench.dma(device, 6), bench.dma(device, 5, READ, 9)]).toEqual([0x900, 0x901, 0x900]);
    unmap(parent, 0x100);
    expect([bench.dma(device, 5), bench.dma(device, 6), bench.dma(device, 5, READ, 9)]).toEqual([-1, 0x901, -1]);
    // The guest's tables themselves are taken away.
    unmap(parent, FRAMES, FRAME_COUNT);
    expect([bench.dma(device, 6), bench.dma(device, 6, READ, 9)]).toEqual([-1, -1]);
  });

  it("invalidate what the guest says", () => {
    guestMap(5, 0x100, 4);
    const domain = nested();
    bench.driver.attach(device, 0, domain);
    bench.driver.attach(device, 9, domain);
    const all = (): number[] => [5, 6, 7, 8].flatMap((page) => [bench.dma(device, page), bench.dma(device, page, READ, 9)]);
    expect(all()).toEqual([0x900, 0x900, 0x901, 0x901, 0x902, 0x902, 0x903, 0x903]);
    guest.unmap(5, 2);
    domain.invalidate?.(invalidationEntries([{ addr: 0x5000n, npages: 1n, flags: 1 }, { addr: 0x6000n, npages: 1n }]));
    expect(all()).toEqual([-1, -1, -1, -1, 0x902, 0x902, 0x903, 0x903]);
    guest.unmap(7, 2);
    domain.invalidate?.(invalidationEntries([{ addr: 0n, npages: EVERYTHING }]));
    expect(all()).toEqual([-1, -1, -1, -1, -1, -1, -1, -1]);
  });

  it("go through entries up to the first that is wrong, in Linux's order of checks", () => {
    const domain = nested();
    bench.driver.attach(device, 0, domain);
    const refused = (list: Readonly<Record<string, number | bigint>>[], type = 0): [string, number] => {
      const given = invalidationEntries(list, type);
      return [errno(() => domain.invalidate?.(given)), given.done];
    };
    const good = { addr: 0x1000n, npages: 1n };
    expect(refused([good, good])).toEqual(["success", 2]);
    expect(refused([], 1)).toEqual(["EINVAL", 0]);
    expect(refused([], 0)).toEqual(["success", 0]);
    expect(refused([good, { ...good, flags: 2, addr: 1n }])).toEqual(["EOPNOTSUPP", 1]);
    expect(refused([good, good, { ...good, __reserved: 1 }])).toEqual(["EOPNOTSUPP", 2]);
    expect(refused([{ ...good, addr: 0x1001n }, good])).toEqual(["EINVAL", 0]);
    expect(refused([{ addr: 0x1000n, npages: EVERYTHING }])).toEqual(["EINVAL", 0]);
    expect(refused([{ addr: EVERYTHING - 0xfffn, npages: EVERYTHING - 1n }, { addr: 0n, npages: 0n }])).toEqual(["success", 2]);
  });

  it("are refused at allocation for their data, at attach for what the unit lacks", () => {
    expect(errno(() => nested({}, 2))).toBe("EOPNOTSUPP");
    const plain = bench.paging(device, { dirtyTracking: true });
    expect(errno(() => bench.driver.allocNested?.(device, plain, { pasid: false }, userData("iommu_hwpt_vtd_s1", {})))).toBe("EINVAL");
    const attach = (domain: NestedDomain): string => errno(() => bench.driver.attach(device, 0, domain));
    expect(attach(nested({ addr_width: 39 }))).toBe("EINVAL");
    expect(attach(nested({ addr_width: 57 }))).toBe("success");
    expect(attach(nested({ flags: 8n }))).toBe("success");
    expect(attach(nested({ flags: SRE | EAFE | WPE }))).toBe("success");
    const entry = board.events.filter((event) => event.kind === "table-write" && event.structure === "PASID table entry").at(-1);
    expect(entry?.kind === "table-write" && entry.meaning).toMatch(/PGTT=nested.*SRE=.*WPE=.*EAFE=/);
    const lesser = board.unit("scalable", { ...NESTING, SRS: 0, EAFS: 0, RPRIVS: 0, FS5LP: 0 });
    const behind = lesser.device(0x28);
    const attachBehind = (domain: NestedDomain): string => errno(() => lesser.driver.attach(behind, 0, domain));
    expect(attachBehind(nested({ flags: SRE }))).toBe("EINVAL");
    expect(attachBehind(nested({ flags: EAFE }))).toBe("EINVAL");
    expect(attachBehind(nested({ addr_width: 57 }))).toBe("EINVAL");
    expect(attachBehind(nested({ flags: WPE }))).toBe("success");
    expect(attachBehind(nested())).toBe("success");
  });

  it("write their parent's pages even where the parent was mapped for reading (erratum 772415)", () => {
    map(parent, 0x200, 0xa00, 1, 1);
    guestMap(5, 0x200);
    bench.driver.attach(device, 0, nested());
    expect(bench.dma(device, 5, WRITE)).toBe(0xa00);
  });

  it("dirty their parent's pages", () => {
    guestMap(5, 0x100, 4);
    const domain = nested();
    bench.driver.attach(device, 2, domain);
    bench.dma(device, 5, WRITE, 2);
    expect(dirtyPages(parent, 0x100, 8)).toEqual([]);
    parent.dirty?.set(true);
    for (let round = 0; round < 2; round++) {
      bench.dma(device, 6, WRITE, 2);
      expect(dirtyPages(parent, 0x100, 8)).toEqual([0x101]);
    }
    bench.driver.attach(device, 0, domain);
    bench.dma(device, 8, WRITE, NO_PASID);
    expect(dirtyPages(parent, 0x100, 8)).toEqual([0x103]);
  });

  it("give everything back", () => {
    const before = board.frames.inUse;
    const domain = nested();
    bench.driver.attach(device, 0, domain);
    bench.driver.detach(device, 0);
    domain.free();
    unmap(parent, 0x100, 64);
    board.invalidations();
    unmap(parent, FRAMES, 1);
    expect(board.invalidations()).toEqual([]);
    expect(board.frames.inUse).toBeLessThanOrEqual(before + 2);
  });
});
