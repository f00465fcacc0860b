/** The driver's tables of every granule, address size and stage, on the unit: at both ends of the input range, with every page size, mapped and unmapped. */
import { Access, FrameAllocator, InterruptController, type IommuDevice, NO_PASID, PhysicalMemory, Prot } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { SmmuDriver } from "./driver/index.js";
import { stage2Shape } from "./driver/table-shape.js";
import { generator } from "./reference/builder.js";
import { identify } from "./reference/units.js";
import { SmmuUnit } from "./hardware/index.js";
import { ADDRESS_SIZES, readCapabilities, REGISTER_BYTES } from "./spec/index.js";

const REGISTERS = 2 ** 36;
const device: IommuDevice = { rid: 0x18, name: "0000:00:03.0", pasidBits: 0, ats: false };
const GRANULES = { "4K": "GRAN4K", "16K": "GRAN16K", "64K": "GRAN64K" } as const;
type Granule = keyof typeof GRANULES;
const BYTES = { "4K": 4096, "16K": 16_384, "64K": 65_536 };

interface Case {
  readonly granule: Granule;
  readonly stage: 1 | 2;
  readonly oas: number;
  readonly ds: boolean;
  readonly range: boolean;
}
const CASES: Case[] = (["4K", "16K", "64K"] as const).flatMap((granule) =>
  ([1, 2] as const).flatMap((stage) =>
    [32, 36, 40, 42, 44, 48, 52].flatMap((oas) => [{ granule, stage, oas, ds: false, range: oas !== 44 }, ...(oas === 52 && granule !== "64K" ? [{ granule, stage, oas, ds: true, range: true }] : [])]),
  ),
);

function build({ granule, stage, oas, ds, range }: Case) {
  const memory = new PhysicalMemory();
  memory.addRam(0, 2 ** 27);
  const frames = new FrameAllocator(memory, 0x10_0000, 2 ** 27);
  const identification = identify(
    3,
    { S1P: stage === 1 ? 1n : 0n, S2P: stage === 2 ? 1n : 0n, TTF: 2n, TTENDIAN: 2n, STALL_MODEL: 1n, TERM_MODEL: 1n, ASID16: 1n, VMID16: 1n, ST_LEVEL: 1n, HTTU: 2n },
    { SIDSIZE: 16n, CMDQS: 8n, EVENTQS: 8n },
    { HAD: 1n, XNX: 1n, RIL: range ? 1n : 0n },
    { OAS: BigInt(ADDRESS_SIZES.indexOf(oas)), [GRANULES[granule]]: 1n, DS: ds ? 1n : 0n, VAX: oas === 52 ? 1n : 0n },
  );
  const unit = new SmmuUnit(memory, { identification });
  memory.addMmio(REGISTERS, REGISTER_BYTES, unit);
  const driver = new SmmuDriver({ name: "smmu", memory, frames, registerBase: REGISTERS, interrupts: new InterruptController() });
  driver.addDevice(device);
  const before = frames.inUse;
  const domain = driver.allocPaging(device, {});
  driver.attach(device, 0, domain);
  const translate = (iova: bigint, access: number = Access.READ): number => unit.translate(device.rid, NO_PASID, Number(iova >> 12n), access);
  return { unit, driver, domain, frames, before, translate };
}

/** Blocks beside the smallest page, as shifts. */
const BLOCKS: Readonly<Record<Granule, readonly number[]>> = { "4K": [21, 30], "16K": [25], "64K": [29] };
const WIDE_BLOCKS: Readonly<Record<Granule, number>> = { "4K": 39, "16K": 36, "64K": 42 };

describe.each(CASES)("$granule, stage $stage, $oas bits, LPA2 $ds", (c) => {
  const wide = c.oas === 52 && (c.granule === "64K" || c.ds);
  const input = c.stage === 1 ? (wide ? 52 : 48) : Math.min(c.oas, wide ? 52 : 48);
  const output = Math.min(c.oas, wide ? 52 : 48);
  const shifts = [Math.log2(BYTES[c.granule]), ...BLOCKS[c.granule], ...(c.oas === 52 && (wide || c.granule === "64K") ? [WIDE_BLOCKS[c.granule]] : [])];

  it("has the input range, the output range and the page sizes of its tables", () => {
    const { driver, domain } = build(c);
    expect(domain.aperture).toEqual({ start: 0n, last: (1n << BigInt(input)) - 1n });
    expect(driver.addressWidth).toBe(output);
    expect(domain.pageSizes).toBe(shifts.reduce((sizes, shift) => sizes | (1n << BigInt(shift)), 0n));
  });

  it.each(shifts.map((shift) => [shift]))("maps 2^%i bytes at both ends, to the top of the output range, and takes them back", (shift) => {
    if (shift >= Math.min(input, output)) return;
    const { domain, frames, before, translate } = build(c);
    const length = 2 ** shift;
    const pages = length / 4096;
    const to = 2 ** output - length;
    const tables = frames.inUse;
    for (const iova of [0n, (1n << BigInt(input)) - BigInt(length), 1n << BigInt(input - 1)]) {
      domain.map(iova, to, length, Prot.READ);
      const last = iova + BigInt(length - 4096);
      expect([translate(iova), translate(last), translate(last, Access.WRITE)]).toEqual([to / 4096, to / 4096 + pages - 1, -1]);
      expect(domain.iovaToPa(last + 5n)).toBe(to + length - 4096 + 5);
      domain.unmap(iova, length);
      expect([translate(iova), translate(last)]).toEqual([-1, -1]);
      expect(domain.iovaToPa(iova)).toBeUndefined();
    }
    expect(frames.inUse).toBe(tables);
    domain.free();
    expect(frames.inUse).toBe(before);
  });

  it("agrees with a list of pages, whatever is mapped and unmapped", () => {
    const { domain, translate } = build(c);
    const random = generator(c.oas * 7 + c.stage);
    const bytes = BYTES[c.granule];
    const granules = 3 * 2 ** 13;
    const base = (1n << BigInt(Math.min(input, 47) - 1)) - BigInt(bytes * 1000);
    const mapped = new Map<number, number>();
    for (let step = 0; step < 60; step++) {
      const first = random(granules);
      const count = Math.min(1 + random(random(4) === 0 ? 9000 : 40), granules - first);
      const taken = Array.from({ length: count }, (_, i) => first + i).filter((i) => mapped.has(i));
      const iova = base + BigInt(first) * BigInt(bytes);
      if (taken.length === 0) {
        const to = random(1000);
        domain.map(iova, to * bytes, count * bytes, Prot.READ | Prot.WRITE);
        for (let i = 0; i < count; i++) mapped.set(first + i, to + i);
      } else {
        domain.unmap(iova, count * bytes);
        for (const i of taken) mapped.delete(i);
      }
      for (let i = 0; i < 20; i++) {
        const at = i < 4 ? first + (i < 2 ? i - 1 : count + i - 3) : random(granules);
        const to = mapped.get(at);
        expect(translate(base + BigInt(at) * BigInt(bytes)), `granule ${at}`).toBe(to === undefined ? -1 : (to * bytes) / 4096);
      }
    }
  });
});

/** Where stage 2 starts, the manual's levels, and the tables side by side there (DDI0487 D8.2.8, tables D8-9 and D8-16). */
const STARTS: readonly (readonly [granule: number, oas: number, ds: boolean, level: number, tables: number])[] = [
  [0, 32, false, 1, 1], [0, 36, false, 1, 1], [0, 40, false, 1, 2], [0, 42, false, 1, 8], [0, 44, false, 0, 1], [0, 48, false, 0, 1], [0, 52, false, 0, 1], [0, 52, true, -1, 1],
  [2, 32, false, 2, 1], [2, 36, false, 2, 1], [2, 40, false, 2, 16], [2, 42, false, 1, 1], [2, 44, false, 1, 1], [2, 48, false, 1, 2], [2, 52, false, 1, 2], [2, 52, true, 0, 1],
  [1, 32, false, 2, 1], [1, 36, false, 2, 1], [1, 40, false, 2, 1], [1, 42, false, 2, 1], [1, 44, false, 1, 1], [1, 48, false, 1, 1], [1, 52, false, 1, 1],
];
it.each(STARTS)("stage 2 of granule %i with %i bits, LPA2 %s, starts at level %i with %i tables", (granule, oas, ds, level, tables) => {
  const { idr0, idr1, idr3, idr5, aidr } = identify(3, { S2P: 1n, TTF: 2n }, {}, {}, { OAS: BigInt(ADDRESS_SIZES.indexOf(oas)), GRAN4K: 1n, GRAN16K: 1n, GRAN64K: 1n, DS: ds ? 1n : 0n });
  const { topLevel, startTables } = stage2Shape(readCapabilities({ idr0, idr1, idr3, idr5, aidr }), granule);
  expect([3 - topLevel, startTables]).toEqual([level, tables]);
});

it("a granule that the unit lacks is refused, and the best one for 4 KiB pages is taken unless told", () => {
  const memory = new PhysicalMemory();
  memory.addRam(0, 2 ** 26);
  const identification = identify(1, { S2P: 1n, TTF: 2n, TTENDIAN: 2n, STALL_MODEL: 1n, ST_LEVEL: 1n }, { SIDSIZE: 8n, CMDQS: 8n, EVENTQS: 8n }, { XNX: 1n }, { OAS: 5n, GRAN16K: 1n, GRAN64K: 1n });
  memory.addMmio(REGISTERS, REGISTER_BYTES, new SmmuUnit(memory, { identification }));
  const make = (granule?: number): SmmuDriver =>
    new SmmuDriver({ name: "smmu", memory, frames: new FrameAllocator(memory, 0x10_0000, 2 ** 26), registerBase: REGISTERS, interrupts: new InterruptController(), ...(granule === undefined ? {} : { granule }) });
  const pageSizes = (driver: SmmuDriver): bigint => {
    driver.addDevice(device);
    return driver.allocPaging(device, {}).pageSizes & 0xf_ffffn;
  };
  expect([pageSizes(make()), pageSizes(make(65_536))]).toEqual([16_384n, 65_536n]);
  expect(() => make(4096)).toThrow(expect.objectContaining({ errno: "EINVAL" }) as Error);
});
