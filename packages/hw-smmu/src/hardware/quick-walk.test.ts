/** What `QuickWalk` must leave to those who know all rules: the page before, of the same configuration, is a plain one. */
import type { PageTable } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { LEAF1, LEAF2, Rig, type Values } from "../reference/rig.js";
import { UNITS } from "../reference/units.js";
import { type CacheGeometry, DEFAULT_CACHES } from "./index.js";

const PLAIN = LEAF1 | 0x800;
const PAGE = 0x100;
/** In the same last table, and in another. */
const BESIDE = 0x101;
const FAR = 0x300;
const OUT = 0x500;

const some = { sets: 8, ways: 2 };
const CACHES: readonly (readonly [name: string, caches: CacheGeometry])[] = [
  ["of input addresses alone", { input: some, intermediate: { sets: 0, ways: 1 }, configurations: 16 }],
  ["of intermediate addresses, too", { input: some, intermediate: some, configurations: 16 }],
  ["of tables, too", DEFAULT_CACHES],
];

/** Where the pointer to the last table of FAR lies. */
function pointer(rig: Rig, table: PageTable): number {
  let at = table.root;
  for (let level = 3; level > 1; level--) at = Number((rig.memory.readU64(at) ?? 0n) & 0xffff_ffff_f000n);
  return at + 8;
}

describe.each(CACHES)("with caches %s", (_, caches) => {
  function nested(ste: Values = {}): Rig {
    const rig = new Rig(UNITS["with everything"], { caches });
    rig.stage1.map(PAGE, OUT, 1, PLAIN);
    rig.stage1.map(FAR, OUT, 1, PLAIN);
    rig.nestedStream({}, ste);
    // Small pages of stage 2: a block is not for `QuickWalk`.
    rig.stage2.unmap(0, 2 ** 11);
    for (let page = 0; page < 2 ** 11; page++) rig.stage2.map(page, page, 1, LEAF2);
    return rig;
  }

  /** Stage 2 of three levels below what is the level-1 table otherwise. */
  function narrow(size: number): Rig {
    const rig = nested();
    const start = (rig.memory.readU64(rig.stage2.root) ?? 0n) & 0xffff_ffff_f000n;
    rig.nestedStream({}, { S2T0SZ: 64 - size, S2SL0: 1, S2TTB: start >> 4n });
    return rig;
  }

  it("a global page is cached for every ASID", () => {
    const rig = new Rig(UNITS["with everything"], { caches });
    rig.stage1.map(PAGE, OUT, 1, PLAIN);
    rig.stage1.map(BESIDE, OUT + 1, 1, LEAF1);
    rig.stage1Stream({ ASID: 9 }, {}, 1);
    rig.stage1Stream({ ASID: 10 }, {}, 2);
    rig.start();
    expect([rig.dma(PAGE), rig.dma(BESIDE)]).toEqual([OUT, OUT + 1]);
    rig.stage1.unmap(BESIDE, 1);
    expect(rig.dma(BESIDE, { stream: 2 })).toBe(OUT + 1);
  });

  it("an intermediate page beyond stage 2 is refused", () => {
    const rig = narrow(39);
    rig.stage1.map(BESIDE, 2 ** 28, 1, PLAIN);
    rig.start();
    expect([rig.dma(PAGE), rig.dma(BESIDE)]).toEqual([OUT, -1]);
    expect(rig.event()).toMatchObject({ name: "F_TRANSLATION", fields: { S2: 1, CLASS: 2 } });
  });

  it("so is a table of stage 1 that lies there, though an entry is to be found behind the start table", () => {
    const rig = narrow(31);
    const beyond = 2 ** 19;
    const last = Math.floor(rig.leaf(rig.stage1, FAR) / 4096);
    rig.stage2.map(beyond + last, last, 1, LEAF2);
    rig.memory.writeU64(pointer(rig, rig.stage1), BigInt((beyond + last) * 4096) | 3n);
    rig.start();
    expect([rig.dma(PAGE), rig.dma(FAR)]).toEqual([OUT, -1]);
    expect(rig.event()).toMatchObject({ name: "F_TRANSLATION", fields: { S2: 1, CLASS: 1 } });
  });

  it("a table in Device memory is refused by S2PTW, though data was read there", () => {
    const rig = nested({ S2PTW: 1 });
    const last = Math.floor(rig.leaf(rig.stage1, FAR) / 4096);
    rig.stage1.map(BESIDE, last, 1, PLAIN);
    rig.stage2.unmap(last, 1);
    rig.stage2.map(last, last, 1, LEAF2 & ~0x3c);
    rig.start();
    expect([rig.dma(PAGE), rig.dma(BESIDE), rig.dma(FAR)]).toEqual([OUT, last, -1]);
    expect(rig.event()).toMatchObject({ name: "F_PERMISSION", fields: { S2: 1, CLASS: 1 } });
  });

  it("pages of other rights have theirs, in turn", () => {
    const rig = nested();
    rig.stage1.map(BESIDE, OUT, 1, PLAIN | 0x80);
    rig.stage1.map(BESIDE + 1, 0x600, 1, PLAIN);
    rig.stage2.unmap(0x600, 1);
    rig.stage2.map(0x600, 0x600, 1, LEAF2 & ~0x80);
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    for (const [page, access, out] of [[FAR, 2, OUT], [BESIDE, 2, -1], [BESIDE, 1, OUT], [BESIDE + 1, 2, -1], [BESIDE + 1, 1, 0x600], [PAGE, 2, OUT], [BESIDE + 1, 2, -1]] as const) {
      expect(rig.dma(page, { access })).toBe(out);
      rig.command("TLBI_NSNH_ALL");
    }
  });
});
