/** The contiguous hint (DDI0487 D8.7.1) in TLB entries, and STE.CONT (5.2): what is used for what lies beside it, where the unit is told to. */
import { Access, type PageTable } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { LEAF1, LEAF2, Rig } from "../reference/rig.js";
import { UNITS } from "../reference/units.js";

const full = UNITS["with everything"];
const CONTIGUOUS = 1 << 20;
const DBM = 1 << 19;

/** Pages of a run, of which only the first says so; the others say something else. */
function misprogrammed(contiguousEntries: boolean, stage: 1 | 2 = 1): Rig {
  const rig = new Rig(full, { contiguousEntries });
  const table = stage === 1 ? rig.stage1 : rig.stage2;
  const leaf = stage === 1 ? LEAF1 | 0x800 : LEAF2;
  table.map(0x100, 0x500, 1, leaf, CONTIGUOUS);
  table.map(0x101, 0x601, 1, leaf);
  table.map(0x1f0, 0x700, 1, leaf);
  if (stage === 1) rig.stage1Stream();
  else rig.ste(rig.stage2Fields());
  return rig.start();
}

describe("a leaf with the contiguous hint", () => {
  it.each([1, 2] as const)("of stage %i is its own page alone, unless the unit caches runs: then it says it of all", (stage) => {
    const seen = (contiguousEntries: boolean): number[] => {
      const rig = misprogrammed(contiguousEntries, stage);
      // The first request of a stream is always walked in full: it is for another page of the same table.
      rig.dma(0x1f0);
      return [rig.dma(0x100), rig.dma(0x101), rig.dma(0x10f), rig.dma(0x110)];
    };
    expect(seen(false)).toEqual([0x500, 0x601, -1, -1]);
    expect(seen(true)).toEqual([0x500, 0x501, 0x50f, -1]);
  });

  it("goes with any address of its run", () => {
    const rig = misprogrammed(true);
    rig.dma(0x100);
    rig.command("TLBI_NH_VA", { ASID: 9n, Addr: 0x10en });
    expect(rig.dma(0x101)).toBe(0x601);
  });

  it("is none where its output does not lie in the run as the input does", () => {
    const rig = new Rig(full, { contiguousEntries: true });
    rig.stage1.map(0x100, 0x501, 1, LEAF1 | 0x800, CONTIGUOUS);
    rig.stage1Stream();
    rig.start();
    expect([rig.dma(0x100), rig.dma(0x101)]).toEqual([0x501, -1]);
  });

  const runs: readonly (readonly [granule: number, level: number, pages: number])[] = [
    [0, 0, 16], [0, 1, 16 * 512], [0, 2, 16 * 512 * 512], [2, 0, 128 * 4], [2, 1, 32 * 4 * 2048], [1, 0, 32 * 16], [1, 1, 32 * 16 * 8192],
  ];
  it.each(runs)("of granule %i, level %i from below, is one of %i pages", (granule, level, pages) => {
    const rig = new Rig(full, { contiguousEntries: true });
    const table: PageTable = rig.table({ granule, outputBits: 48, ds: false, wide: granule === 1 });
    const own = [1, 16, 4][granule] * [512, 8192, 2048][granule] ** level;
    const at = 2 ** 26;
    table.map(at, at, own, LEAF1 | 0x800, CONTIGUOUS);
    rig.stage1Stream({ TG0: granule, T0SZ: 16, TTB0: BigInt(table.root) >> 4n });
    rig.start();
    expect(rig.dma(at)).toBe(at);
    expect(rig.dma(at + pages - 1)).toBe(at + pages - 1);
    expect(rig.dma(at + pages)).toBe(-1);
  });

  it("updates the descriptor that was used, and no other (8.4)", () => {
    const rig = new Rig(full, { contiguousEntries: true });
    // Readable and clean: AP[2] set, DBM.
    rig.stage1.map(0x100, 0x500, 2, LEAF1 | 0x880, CONTIGUOUS | DBM);
    rig.stage1Stream({ HA: 1, HD: 1 });
    rig.start();
    expect(rig.dma(0x100, { access: Access.WRITE })).toBe(0x500);
    expect(rig.dma(0x101, { access: Access.WRITE })).toBe(0x501);
    const readOnly = [0x100, 0x101].map((page) => ((rig.memory.readU64(rig.leaf(rig.stage1, page)) ?? 0n) >> 7n) & 1n);
    expect(readOnly).toEqual([0n, 1n]);
  });
});

describe("STE.CONT", () => {
  const twins = (contiguousStreams: boolean): Rig => {
    const rig = new Rig(full, { contiguousStreams });
    rig.ste({ Config: 4, CONT: 1 }, 4);
    rig.ste({ Config: 0 }, 5);
    rig.ste({ Config: 0 }, 6);
    return rig.start();
  };
  const passes = (rig: Rig): boolean[] => [4, 5, 6].map((stream) => rig.dma(0x100, { stream }) !== -1);

  it("has a neighbour that is cached answer for its block, where the unit is told to", () => {
    expect(passes(twins(false))).toEqual([true, false, false]);
    expect(passes(twins(true))).toEqual([true, true, false]);
  });

  it("leaves the neighbour in the cache when another stream is invalidated", () => {
    const rig = twins(true);
    passes(rig);
    rig.command("CFGI_STE", { StreamID: 5n, Leaf: 1n });
    expect(passes(rig)).toEqual([true, true, false]);
    rig.command("CFGI_STE", { StreamID: 4n, Leaf: 1n });
    rig.command("CFGI_STE", { StreamID: 5n, Leaf: 1n });
    expect(rig.dma(0x100, { stream: 5 })).toBe(-1);
  });
});
