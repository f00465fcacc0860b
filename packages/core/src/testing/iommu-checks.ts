/** What every IOMMU with its driver must do, whoever made it: checks of the IOMMU suite. */
import { Access, NO_PASID } from "../bus/types.js";
import { IommuError } from "../errors.js";
import type { IommuFactory } from "../machine/types.js";
import { expect, generator } from "./format-bench.js";
import { HwptFlag, IommuRig, type IommuSuiteOptions, PAGE, type RigDevice } from "./iommu-rig.js";

const IOVA = 0x4000_0000n;
const STEPS = 400;

function expectRead(rig: IommuRig, device: RigDevice, iova: bigint, value: number, why: string, pasid?: number): void {
  const bytes = rig.read(device, iova, pasid);
  expect(bytes !== undefined, `${why}: a read of 0x${iova.toString(16)} was refused`);
  expect(bytes?.every((byte) => byte === value) ?? false, `${why}: a read of 0x${iova.toString(16)} brought ${bytes?.[0]}, not ${value}`);
}

/** By the IOMMU: memory that is not pinned any more would refuse, too. */
function expectRefused(rig: IommuRig, device: RigDevice, iova: bigint, why: string, pasid: number = NO_PASID): void {
  const out = rig.machine.units[0].hardware.translate(device.rid, pasid, Number(iova >> 12n), Access.READ);
  expect(out === -1, `${why}: 0x${iova.toString(16)} still translates, to page ${out}`);
  const prefix = pasid === NO_PASID ? undefined : pasid;
  expect(rig.read(device, iova, prefix) === undefined, `${why}: a read of 0x${iova.toString(16)} was let through`);
  expect(!rig.write(device, iova, 0xee, prefix), `${why}: a write of 0x${iova.toString(16)} was let through`);
}

/** A page of one value, mapped at IOVA in an address space of its own. */
function space(rig: IommuRig, value: number, writable = true): { readonly ioas: number; readonly bytes: Uint8Array; readonly address: bigint } {
  const ioas = rig.allocate();
  const { address, bytes } = rig.buffer(1);
  bytes.fill(value);
  rig.map(ioas, address, IOVA, PAGE, writable);
  return { ioas, bytes, address };
}

export function blocksUntilAttached(rig: IommuRig): void {
  const [device] = rig.devices;
  expectRefused(rig, device, IOVA, "before any attach");
  const { ioas, bytes } = space(rig, 0x11);
  expectRefused(rig, device, IOVA, "with an address space that it is not attached to");
  // A page table that outlives its attach: what a detach forgets is still there.
  rig.attach(device, rig.hwpt(device, ioas));
  expectRead(rig, device, IOVA, 0x11, "attached");
  expect(rig.write(device, IOVA + 0x40n, 0x22), "attached: a write was refused");
  expect(bytes[0x40] === 0x22 && bytes[0x3f] === 0x11 && bytes[0x80] === 0x11, "a write did not land where it was sent");
  rig.detach(device);
  expectRefused(rig, device, IOVA, "after the detach");
}

export function keepsDevicesApart(rig: IommuRig): void {
  const [one, two] = rig.devices;
  const [first, second] = [space(rig, 1), space(rig, 2)];
  rig.attach(one, first.ioas);
  expectRefused(rig, two, IOVA, "the other device is attached, not this one");
  rig.attach(two, second.ioas);
  for (let round = 0; round < 2; round++) {
    expectRead(rig, one, IOVA, 1, "its own address space");
    expectRead(rig, two, IOVA, 2, "its own address space");
  }
  rig.unmap(first.ioas, IOVA, PAGE);
  expectRefused(rig, one, IOVA, "unmapped");
  expectRead(rig, two, IOVA, 2, "an unmap in another address space");
  rig.attach(two, first.ioas);
  expectRefused(rig, two, IOVA, "moved to an empty address space");
}

export function sharesAnAddressSpace(rig: IommuRig): void {
  const [one, two] = rig.devices;
  const { ioas } = space(rig, 3);
  rig.attach(one, ioas);
  rig.attach(two, ioas);
  expectRead(rig, one, IOVA, 3, "shared");
  expectRead(rig, two, IOVA, 3, "shared");
  rig.detach(one);
  expectRefused(rig, one, IOVA, "detached");
  expectRead(rig, two, IOVA, 3, "the other one was detached");
  rig.unmap(ioas, IOVA, PAGE);
  expectRefused(rig, two, IOVA, "unmapped");
}

export function replacesAtOnce(rig: IommuRig): void {
  const [device] = rig.devices;
  const spaces = [space(rig, 1), space(rig, 2), space(rig, 3)];
  for (let round = 0; round < 9; round++) {
    rig.attach(device, spaces[round % 3].ioas);
    expectRead(rig, device, IOVA, (round % 3) + 1, "replaced");
  }
}

export function protectsReadOnly(rig: IommuRig): void {
  const [device] = rig.devices;
  const { ioas, bytes, address } = space(rig, 5, false);
  rig.attach(device, ioas);
  expectRead(rig, device, IOVA, 5, "read-only");
  expect(!rig.write(device, IOVA, 6), "a write of a read-only page was let through");
  expect(bytes[0] === 5, "a refused write has changed memory");
  rig.unmap(ioas, IOVA, PAGE);
  rig.map(ioas, address, IOVA, PAGE);
  expect(rig.write(device, IOVA, 7) && bytes[0] === 7, "mapped writable now: a write was refused");
  rig.unmap(ioas, IOVA, PAGE);
  rig.map(ioas, address, IOVA, PAGE, false);
  expect(!rig.write(device, IOVA, 8) && bytes[0] === 7, "read-only again: a write was let through");
}

/** As much as several sizes of leaves, at an address that only some suit. */
export function mapsLargeRanges(rig: IommuRig): void {
  const [device] = rig.devices;
  const ioas = rig.allocate();
  rig.attach(device, ioas);
  const pages = 3 * 1024 + 5;
  const { address, bytes } = rig.buffer(pages);
  for (const start of [IOVA, IOVA + 5n * PAGE]) {
    rig.map(ioas, address, start, BigInt(pages) * PAGE);
    for (const page of [0, 1, 511, 512, 1023, 1024, 2047, pages - 1]) {
      bytes.fill(page & 0xff, page * 4096, (page + 1) * 4096);
      expectRead(rig, device, start + BigInt(page) * PAGE, page & 0xff, `page ${page} of ${pages}`);
    }
    expectRefused(rig, device, start - PAGE, "before the range");
    expectRefused(rig, device, start + BigInt(pages) * PAGE, "behind the range");
    rig.unmap(ioas, start, BigInt(pages) * PAGE);
    for (const page of [0, 1, 512, pages - 1]) expectRefused(rig, device, start + BigInt(page) * PAGE, "unmapped");
  }
}

export function reachesTheEnds(rig: IommuRig): void {
  const [device] = rig.devices;
  const ioas = rig.allocate();
  rig.attach(device, ioas);
  const { address, bytes } = rig.buffer(1);
  bytes.fill(9);
  const ranges = rig.ranges(ioas);
  expect(ranges.length > 0, "no range of the address space is usable");
  for (const { start, last } of ranges) {
    for (const iova of [start, last - PAGE + 1n]) {
      rig.map(ioas, address, iova, PAGE);
      expectRead(rig, device, iova, 9, "at an end of a usable range");
      rig.unmap(ioas, iova, PAGE);
      expectRefused(rig, device, iova, "unmapped at an end of a usable range");
    }
  }
}

export function refusesOutside(rig: IommuRig): void {
  const [device] = rig.devices;
  const ioas = rig.allocate();
  rig.attach(device, ioas);
  const { address } = rig.buffer(1);
  const { last } = rig.ranges(ioas).at(-1) ?? { last: 0n };
  if (last < 2n ** 64n - PAGE) {
    try {
      rig.map(ioas, address, last + 1n, PAGE);
    } catch (error) {
      expect(error instanceof IommuError && error.reason.message !== "", "a refusal without a reason");
      return;
    }
    throw new Error(`a map at 0x${(last + 1n).toString(16)}, behind the last usable range, was taken`);
  }
}

/** PASIDs have address spaces of their own, and none of them is the device's. */
export function keepsPasidsApart(rig: IommuRig): void {
  const [device, other] = rig.devices;
  const limit = rig.capabilities(device).pasidLimit ?? 0;
  if (limit < 3) return;
  const pasids = [1, Math.min(limit - 1, 0x1234)];
  const own = space(rig, 0x10);
  const spaces = pasids.map((_, i) => space(rig, 0x11 + i));
  const tables = [own, ...spaces].map(({ ioas }) => rig.hwpt(device, ioas, HwptFlag.PASID));
  rig.attach(device, tables[0]);
  expectRefused(rig, device, IOVA, "nothing is attached for this PASID", pasids[0]);
  for (const [i, pasid] of pasids.entries()) rig.attach(device, tables[i + 1], pasid);
  for (let round = 0; round < 2; round++) {
    expectRead(rig, device, IOVA, 0x10, "without PASID");
    for (const [i, pasid] of pasids.entries()) expectRead(rig, device, IOVA, 0x11 + i, `PASID ${pasid}`, pasid);
  }
  expectRefused(rig, other, IOVA, "the same PASID of another device", pasids[0]);
  rig.attach(device, tables[2], pasids[0]);
  expectRead(rig, device, IOVA, 0x12, "replaced for one PASID", pasids[0]);
  rig.unmap(spaces[1].ioas, IOVA, PAGE);
  for (const pasid of pasids) expectRefused(rig, device, IOVA, "unmapped", pasid);
  rig.detach(device, pasids[0]);
  expectRefused(rig, device, IOVA, "detached for this PASID", pasids[0]);
  expectRead(rig, device, IOVA, 0x10, "without PASID, others detached");
}

/** Writes are reported once, page by page, and only where they went. */
export function tracksDirtyPages(rig: IommuRig): void {
  const [device] = rig.devices;
  if (!rig.capabilities(device).dirtyTracking) return;
  const { client, iommu } = rig;
  const ioas = rig.allocate();
  const pages = 32;
  const { address } = rig.buffer(pages);
  rig.map(ioas, address, IOVA, BigInt(pages) * PAGE);
  const table = rig.hwpt(device, ioas, HwptFlag.DIRTY_TRACKING);
  rig.attach(device, table);
  client.ioctl(iommu, "IOMMU_HWPT_SET_DIRTY_TRACKING", { hwpt_id: table, flags: 1 });
  const bitmap = rig.buffer(1);
  const dirty = (flags = 0): number => {
    bitmap.bytes.fill(0);
    client.ioctl(iommu, "IOMMU_HWPT_GET_DIRTY_BITMAP", { hwpt_id: table, flags, iova: IOVA, length: BigInt(pages) * PAGE, page_size: PAGE, data: bitmap.address });
    return new DataView(bitmap.bytes.buffer, bitmap.bytes.byteOffset).getUint32(0, true);
  };
  expect(dirty() === 0, "pages are dirty before any write");
  rig.read(device, IOVA);
  for (const page of [3n, 4n, 31n]) rig.write(device, IOVA + page * PAGE, 1);
  const expected = ((1 << 3) | (1 << 4) | (1 << 31)) >>> 0;
  expect(dirty(1) === expected, "with NO_CLEAR: not exactly the pages that were written");
  expect(dirty() === expected, "not exactly the pages that were written");
  expect(dirty() === 0, "pages stay dirty after they were reported");
  rig.write(device, IOVA + 4n * PAGE, 2);
  expect(dirty() === 1 << 4, "a page that was dirty, clean, and is written again");
}

export function givesEverythingBack(rig: IommuRig): void {
  const [device, other] = rig.devices;
  const life = (): void => {
    const ioas = rig.allocate();
    const { address } = rig.buffer(600);
    rig.map(ioas, address, IOVA, 600n * PAGE);
    rig.map(ioas, address, IOVA + 2n ** 30n, PAGE);
    const table = rig.hwpt(device, ioas);
    rig.attach(device, table);
    rig.attach(other, ioas);
    rig.read(device, IOVA);
    rig.detach(device);
    rig.detach(other);
    rig.destroy(table);
    rig.destroy(ioas);
  };
  life();
  const before = rig.frames.inUse;
  for (let i = 0; i < 5; i++) life();
  expect(rig.frames.inUse === before, `${rig.frames.inUse - before} frames of the driver's tables were not given back`);
}

export function explainsItself(rig: IommuRig): void {
  const [device] = rig.devices;
  const { hardware, explain } = rig.machine.units[0];
  if (explain === undefined) return;
  const { ioas } = space(rig, 1);
  rig.attach(device, ioas);
  for (const iova of [IOVA, IOVA + 0xfffn, IOVA + PAGE, 0n, 2n ** 40n]) {
    const report = explain({ rid: device.rid, iova, access: "read" });
    const out = hardware.translate(device.rid, NO_PASID, Number(iova >> 12n), Access.READ);
    const said = report.verdict.ok ? Math.floor(report.verdict.pa / 4096) : -1;
    expect(said === out, `0x${iova.toString(16)}: the explanation ends at page ${said}, the unit at ${out}`);
    expect(report.steps.length > 0, "an explanation without a step");
  }
}

/** Random requests against a list of pages: each DMA after each step reaches what is mapped, and nothing else. */
export function history(rig: IommuRig): void {
  const random = generator(0x10_77_0e);
  const pages = 24;
  const { address, bytes } = rig.buffer(pages);
  for (let page = 0; page < pages; page++) bytes.fill(page + 1, page * 4096, (page + 1) * 4096);
  const keep = rig.allocate();
  rig.map(keep, address, IOVA, BigInt(pages) * PAGE);
  const spaces = [0, 1].map(() => ({ ioas: rig.allocate(), pieces: [] as { first: number; count: number; source: number; writable: boolean }[] }));
  const attached: (number | undefined)[] = rig.devices.map(() => undefined);
  const at = (page: number): bigint => IOVA + BigInt(page) * PAGE;
  for (let step = 0; step < STEPS; step++) {
    const target = spaces[random(2)];
    switch (random(5)) {
      case 0:
      case 1: {
        const piece = { first: random(pages), count: 1 + random(6), source: random(pages - 6), writable: random(3) > 0 };
        if (target.pieces.some((other) => other.first < piece.first + piece.count && piece.first < other.first + other.count)) break;
        rig.map(target.ioas, address + BigInt(piece.source) * PAGE, at(piece.first), BigInt(piece.count) * PAGE, piece.writable);
        target.pieces.push(piece);
        break;
      }
      case 2: {
        const piece = target.pieces[random(target.pieces.length)];
        if (piece === undefined) break;
        rig.unmap(target.ioas, at(piece.first), BigInt(piece.count) * PAGE);
        target.pieces.splice(target.pieces.indexOf(piece), 1);
        break;
      }
      case 3: {
        const which = random(rig.devices.length);
        attached[which] = spaces.indexOf(target);
        rig.attach(rig.devices[which], target.ioas);
        break;
      }
      default: {
        const which = random(rig.devices.length);
        if (attached[which] !== undefined) rig.detach(rig.devices[which]);
        attached[which] = undefined;
      }
    }
    const which = random(rig.devices.length);
    const page = random(pages + 6);
    const used = attached[which];
    const piece = used === undefined ? undefined : spaces[used].pieces.find(({ first, count }) => page >= first && page < first + count);
    const why = `step ${step}, device ${which}, page ${page}`;
    const source = piece === undefined ? undefined : piece.source + page - piece.first;
    const got = rig.read(rig.devices[which], at(page))?.[0];
    expect(got === (source === undefined ? undefined : bytes[source * 4096]), `${why}: a read brought ${got}, the page ${source} was due`);
    const before = bytes.slice();
    const written = rig.write(rig.devices[which], at(page), (step & 0x7f) + 0x80);
    expect(written === (piece?.writable ?? false), `${why}: a write was ${written ? "let through" : "refused"}`);
    if (written && source !== undefined) before.fill((step & 0x7f) + 0x80, source * 4096, source * 4096 + 64);
    expect(Buffer.compare(before, bytes) === 0, `${why}: a write has changed other memory`);
  }
}

/** Options that a unit does not know are refused with a reason. */
export function refusesUnknownOptions(factory: IommuFactory, options: IommuSuiteOptions): void {
  try {
    void new IommuRig(factory, { ...options, unit: { ...options.unit, noSuchOption: 1 } });
  } catch (error) {
    expect(error instanceof IommuError && error.reason.message.includes("noSuchOption"), `the refusal does not name the option: ${String(error)}`);
    return;
  }
  throw new Error("an option that nobody knows was taken");
}
