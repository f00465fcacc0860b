/** A guest that nests by itself: first stages of its own guests, on second stages of its own, on the host's hardware. */
import { type PagingDomain, Prot, type UserData } from "@iommukit/core";
import { encodeStruct } from "@iommukit/core/abi";
import { SecondStage } from "@iommukit/hw-vtd/spec";
import { describe, expect, it } from "vitest";
import { bareGuest, type Guest, vtdGuest } from "./guest-vtd.js";

const IOVA = 0x40_0000n;
const READ_WRITE = Prot.READ | Prot.WRITE;
/** enum iommu_hwpt_data_type */
const DATA_VTD_S1 = 1;

/** What the driver's page tables are inside. */
interface Tables extends PagingDomain {
  readonly table: { readonly root: number };
  flush(page: number, count: number, leavesOnly: boolean): void;
}
const rootOf = (domain: PagingDomain): number => (domain as Tables).table.root;
/** An invalidation of one page. */
const flush = (domain: PagingDomain, address: number): void => (domain as Tables).flush(address / 4096, 1, true);

/** What a guest's guest says of its first stage. */
function dataOf(first: PagingDomain): UserData {
  const bytes = encodeStruct("iommu_hwpt_vtd_s1", { flags: 0, pgtbl_addr: rootOf(first), addr_width: 48 });
  return { type: DATA_VTD_S1, length: bytes.length, read: () => bytes, write: () => undefined };
}

/** A first stage that leads from IOVA to a page of the guest's guest, on a second stage where addresses are as they are. */
function nest({ driver, devices: [device], page }: Guest) {
  const parent = driver.allocPaging(device, { nestParent: true });
  parent.map(0n, 0, page(0), READ_WRITE);
  for (const at of [page(1), page(2)]) parent.map(BigInt(at), at, 4096, READ_WRITE);
  const first = driver.allocPaging(device, {});
  first.map(IOVA, page(1), 4096, READ_WRITE);
  const nested = driver.allocNested(device, parent, { pasid: false }, dataOf(first));
  driver.attach(device, 0, nested);
  return { parent, first, nested };
}

/** Where the second stage has the 4 KiB leaf of an address. */
function leafOf({ memory }: Guest, domain: PagingDomain, address: number): number {
  let table = rootOf(domain);
  for (let level = 3; ; level--) {
    const at = table + (Math.floor(address / 2 ** (12 + 9 * level)) % 512) * 8;
    if (level === 0) return at;
    table = Number((memory.readU64(at) ?? 0n) & 0xf_ffff_ffff_f000n);
  }
}

describe("a guest's nested entries", () => {
  it("translate by both stages of the guest's", () => {
    const guest = vtdGuest("nesting");
    const { dma, memory, page } = guest;
    const { parent } = nest(guest);
    expect([dma(0, true, IOVA + 8n, 7n), memory.readU64(page(1) + 8)]).toEqual([true, 7n]);
    // The guest's guest has other memory there now.
    parent.unmap(BigInt(page(1)), 4096);
    parent.map(BigInt(page(1)), page(2), 4096, READ_WRITE);
    expect([dma(0, true, IOVA + 8n, 9n), memory.readU64(page(1) + 8), memory.readU64(page(2) + 8)]).toEqual([true, 7n, 9n]);
  });

  it("what either stage has lost is refused, and the guest is told by which", () => {
    const guest = vtdGuest("nesting");
    const { dma, page, log, driver, devices } = guest;
    const { parent, first, nested } = nest(guest);
    first.map(IOVA + 4096n, page(2), 4096, READ_WRITE);
    expect([dma(0, true, IOVA, 1n), dma(0, true, IOVA + 4096n, 1n)]).toEqual([true, true]);
    first.unmap(IOVA + 4096n, 4096);
    const entry = encodeStruct("iommu_hwpt_vtd_s1_invalidate", { addr: IOVA + 4096n, npages: 1 });
    nested.invalidate?.({ type: 0, count: 1, entryLength: entry.length, read: () => entry, readAll: () => [entry], handled: () => undefined });
    expect(dma(0, true, IOVA + 4096n, 2n)).toBe(false);
    parent.unmap(BigInt(page(1)), 4096);
    expect(dma(0, true, IOVA, 2n)).toBe(false);
    driver.detach(devices[0], 0);
    nested.free();
    expect(dma(0, true, IOVA, 3n)).toBe(false);
    expect(log.map((line) => /blocked: ([^:]*)/.exec(line)?.[1])).toEqual(["SFS.2", "SSS.2", "SPT.2"]);
  });

  it.each([["hosted", () => vtdGuest("nesting")], ["bare", () => bareGuest("nesting")]])("an invalidation of the second stage empties what is cached of the first, too: %s", (_where, boot) => {
    const guest = boot();
    const { dma, page } = guest;
    const { parent, first } = nest(guest);
    expect(dma(0, true, IOVA, 1n)).toBe(true);
    first.unmap(IOVA, 4096);
    flush(parent, page(2));
    expect(dma(0, true, IOVA, 2n)).toBe(false);
  });

  it("a page that the second stage does not let be written is not there at all: the host has no read-only pages below first stages", () => {
    const guest = vtdGuest("nesting");
    const { dma, memory, page } = guest;
    const { parent } = nest(guest);
    const at = leafOf(guest, parent, page(1));
    memory.writeU64(at, (memory.readU64(at) ?? 0n) & ~BigInt(SecondStage.W));
    parent.unmap(BigInt(page(2)), 4096);
    expect([dma(0, false, IOVA), dma(0, true, IOVA, 1n), memory.readU64(page(1))]).toEqual([true, true, 1n]);
    // Its invalidation, which the unmap above was not.
    flush(parent, page(1));
    expect([dma(0, false, IOVA), dma(0, true, IOVA, 2n), memory.readU64(page(1))]).toEqual([false, false, 1n]);
  });

  it("two domains share a shadow of the second stage, which goes with the last", () => {
    const guest = vtdGuest("nesting", { devices: 2 });
    const { driver, devices, dma, calls } = guest;
    const { nested, parent, first } = nest(guest);
    const made = (): number => calls.filter((name) => name === "IOMMU_IOAS_ALLOC").length;
    const before = made();
    const other = driver.allocNested(devices[1], parent, { pasid: false }, dataOf(first));
    driver.attach(devices[1], 0, other);
    expect([made() - before, dma(0, true, IOVA, 1n), dma(1, true, IOVA, 1n)]).toEqual([0, true, true]);
    driver.detach(devices[0], 0);
    nested.free();
    expect(dma(1, true, IOVA, 1n)).toBe(true);
    calls.length = 0;
    driver.detach(devices[1], 0);
    expect(calls.filter((name) => name === "IOMMU_DESTROY")).toHaveLength(3);
  });
});
