/** Walk caches (3.17, 4.4): which TLBI takes a table descriptor out, and what a stale one does. */
import { PageTable } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { LEAF1, LEAF2, Rig, type Values } from "../reference/rig.js";
import { UNITS } from "../reference/units.js";
import { DEFAULT_CACHES, type SmmuUnitOptions } from "./index.js";

const full = UNITS["with everything"];
const PAGE = 0x100;
/** In the same last table as PAGE, and never cached before a test asks for it. */
const BESIDE = 0x101;
const some = { sets: 8, ways: 2 };

/** A walk came past the tables of PAGE; then its last table is exchanged for one that says something else of BESIDE. */
function stale(stage: 1 | 2, options: Partial<SmmuUnitOptions> = {}): Rig {
  const rig = new Rig(full, { caches: DEFAULT_CACHES, ...options });
  const table = stage === 1 ? rig.stage1 : rig.stage2;
  const leaf = stage === 1 ? LEAF1 | 0x800 : LEAF2;
  table.map(PAGE, 0x500, 2, leaf);
  if (stage === 1) rig.stage1Stream();
  else rig.ste(rig.stage2Fields());
  rig.start();
  expect(rig.dma(PAGE)).toBe(0x500);
  const other = new PageTable(rig.memory, rig.frames, table.format, 3);
  other.map(PAGE, 0x700, 2, leaf);
  rig.memory.writeU64(pointer(rig, table), rig.memory.readU64(pointer(rig, other)) ?? 0n);
  return rig;
}

/** Where the descriptor of the last table of PAGE lies. */
function pointer(rig: Rig, table: PageTable): number {
  let at = table.root;
  for (let level = 3; level > 1; level--) at = Number((rig.memory.readU64(at) ?? 0n) & 0xffff_ffff_f000n);
  return at;
}

describe("a table pointer that has changed", () => {
  it.each([1, 2] as const)("is not seen before an invalidation, by stage %i", (stage) => {
    expect(stale(stage).dma(BESIDE)).toBe(0x501);
  });

  it("is seen at once by a unit without walk caches", () => {
    const { inputTables: _1, intermediateTables: _2, ...none } = DEFAULT_CACHES;
    for (const stage of [1, 2] as const) {
      expect(stale(stage, { caches: none }).dma(BESIDE)).toBe(0x701);
      expect(stale(stage, { caches: { ...none, inputTables: { sets: 0, ways: 1 }, intermediateTables: { sets: 0, ways: 1 } } }).dma(BESIDE)).toBe(0x701);
    }
  });

  const own = { ASID: 9n, VMID: 0n, Addr: BigInt(BESIDE) };
  const range = { TG: 1n, NUM: 1n, SCALE: 0n };
  const first: readonly (readonly [command: string, fields: Values, taken: boolean])[] = [
    ["TLBI_NH_VA", own, true],
    ["TLBI_NH_VA", { ...own, Leaf: 1n }, false],
    ["TLBI_NH_VA", { ...own, ASID: 8n }, false],
    ["TLBI_NH_VA", { ...own, VMID: 1n }, false],
    // Another page of the table is on the same way; one of the next table is not.
    ["TLBI_NH_VA", { ...own, Addr: 0x1ffn }, true],
    ["TLBI_NH_VA", { ...own, Addr: 0x200n }, false],
    ["TLBI_NH_VA", { ...own, ...range }, true],
    ["TLBI_NH_VA", { ...own, ...range, Leaf: 1n }, false],
    ["TLBI_NH_VA", { ...own, ...range, TG: 2n }, false],
    ["TLBI_NH_VA", { ...own, ...range, TTL: 3n }, true],
    ["TLBI_NH_VA", { ...own, ...range, TTL: 2n }, false],
    ["TLBI_NH_VA", { ...own, ...range, TTL: 1n }, false],
    ["TLBI_NH_VAA", { Addr: BigInt(BESIDE) }, true],
    ["TLBI_NH_VAA", { Addr: BigInt(BESIDE), Leaf: 1n }, false],
    ["TLBI_NH_ASID", { ASID: 9n }, true],
    ["TLBI_NH_ASID", { ASID: 8n }, false],
    ["TLBI_NH_ALL", {}, true],
    ["TLBI_NH_ALL", { VMID: 1n }, false],
    ["TLBI_S12_VMALL", {}, true],
    ["TLBI_S12_VMALL", { VMID: 1n }, false],
    ["TLBI_S2_IPA", { Addr: BigInt(BESIDE) }, false],
    ["TLBI_NSNH_ALL", {}, true],
    ["TLBI_EL2_ALL", {}, false],
    ["TLBI_EL2_VA", { ASID: 9n, Addr: BigInt(BESIDE) }, false],
    ["TLBI_EL2_VAA", { Addr: BigInt(BESIDE) }, false],
    ["TLBI_EL2_ASID", { ASID: 9n }, false],
  ];
  it.each(first)("of stage 1: %s %o: %s", (command, fields, taken) => {
    const rig = stale(1);
    rig.command(command, fields);
    expect(rig.dma(BESIDE)).toBe(taken ? 0x701 : 0x501);
  });

  const second: readonly (readonly [command: string, fields: Values, taken: boolean])[] = [
    ["TLBI_S2_IPA", { VMID: 3n, Addr: BigInt(BESIDE) }, true],
    ["TLBI_S2_IPA", { VMID: 3n, Addr: BigInt(BESIDE), Leaf: 1n }, false],
    ["TLBI_S2_IPA", { VMID: 2n, Addr: BigInt(BESIDE) }, false],
    ["TLBI_S2_IPA", { VMID: 3n, Addr: 0x200n }, false],
    ["TLBI_S2_IPA", { VMID: 3n, Addr: BigInt(BESIDE), ...range, TTL: 3n }, true],
    ["TLBI_S2_IPA", { VMID: 3n, Addr: BigInt(BESIDE), ...range, TTL: 2n }, false],
    ["TLBI_S12_VMALL", { VMID: 3n }, true],
    ["TLBI_S12_VMALL", { VMID: 2n }, false],
    ["TLBI_NH_ALL", { VMID: 3n }, false],
    ["TLBI_NH_VAA", { VMID: 3n, Addr: BigInt(BESIDE) }, false],
    ["TLBI_NSNH_ALL", {}, true],
  ];
  it.each(second)("of stage 2: %s %o: %s", (command, fields, taken) => {
    const rig = stale(2);
    rig.command(command, fields);
    expect(rig.dma(BESIDE)).toBe(taken ? 0x701 : 0x501);
  });

  it("goes by any of the VMIDs that CR0.VMW makes the same", () => {
    const rig = stale(2);
    rig.start(1 << 6);
    rig.command("TLBI_S2_IPA", { VMID: 2n, Addr: BigInt(BESIDE) });
    expect(rig.dma(BESIDE)).toBe(0x701);
  });

  it("is another one for another ASID, though the tables are the same", () => {
    const rig = new Rig(full, { caches: DEFAULT_CACHES });
    rig.stage1.map(PAGE, 0x500, 2, LEAF1 | 0x800);
    rig.stage1Stream({ ASID: 9 }, {}, 1);
    rig.stage1Stream({ ASID: 10 }, {}, 2);
    rig.start();
    rig.dma(PAGE);
    const other = new PageTable(rig.memory, rig.frames, rig.stage1.format, 3);
    other.map(PAGE, 0x700, 2, LEAF1 | 0x800);
    rig.memory.writeU64(pointer(rig, rig.stage1), rig.memory.readU64(pointer(rig, other)) ?? 0n);
    expect([rig.dma(BESIDE, { stream: 1 }), rig.dma(BESIDE, { stream: 2 })]).toEqual([0x501, 0x701]);
  });
});

it("what tables take away is kept with them", () => {
  const rig = new Rig(full, { caches: { input: some, intermediate: some, inputTables: some, configurations: 16 } });
  rig.stage1.map(PAGE, 0x500, 2, LEAF1 | 0x800);
  // APTable[1]: no writes below.
  rig.change(pointer(rig, rig.stage1), 1n << 62n);
  rig.stage1Stream();
  rig.start();
  expect(rig.dma(PAGE)).toBe(0x500);
  expect(rig.dma(BESIDE, { access: 2 })).toBe(-1);
  expect(rig.names()).toEqual(["F_PERMISSION"]);
});

it("nested: a cached table of stage 1 is looked for in stage 2 again", () => {
  const rig = new Rig(full, { caches: DEFAULT_CACHES });
  rig.nestedStream();
  rig.stage1.map(PAGE, 0x500, 2, LEAF1 | 0x800);
  rig.start();
  expect(rig.dma(PAGE)).toBe(0x500);
  const last = Number((rig.memory.readU64(pointer(rig, rig.stage1)) ?? 0n) & 0xffff_ffff_f000n);
  rig.stage2.unmap(last / 4096, 1);
  rig.command("TLBI_S2_IPA", { VMID: 3n, Addr: BigInt(last / 4096) });
  expect(rig.dma(BESIDE)).toBe(-1);
  expect(rig.event().fields).toMatchObject({ S2: 1, CLASS: 1 });
});
