import { describe, expect, it } from "vitest";
import { createFormat, IllegalLeaf, type PageTableFormat } from "../pt/format.js";
import { formatSuite } from "./format-suite.js";

const low = (high: number, from: number): bigint => ((1n << BigInt(high + 1)) - 1n) & ~((1n << BigInt(from)) - 1n);

function x86(name: string, maxLevel: number, leafLevels: number[]): PageTableFormat {
  return createFormat({
    name, maxLevel, presentMask: 1, leafMask: 0x80, leafValue: 0x80, leafLevels, addressWidth: 52,
    reserved: (level, leaf) => low(51, 46) | (leaf ? (level > 0 ? low(11 + 9 * level, 13) : 0n) : 0x80n), tableLo: 7, blockLo: 0x80,
  });
}

function arm(granuleShift: number, maxLevel: number, leafLevels: number[]): PageTableFormat {
  return createFormat({
    name: `Arm-like ${2 ** (granuleShift - 10)}K`, granuleShift, maxLevel, presentMask: 1, leafMask: 2, leafValue: 0, pageMask: 3, pageValue: 3,
    leafLevels, illegalLeaf: IllegalLeaf.NOT_PRESENT, addressWidth: 48, reserved: () => 0n, tableLo: 3, pageLo: 3, blockLo: 1,
  });
}

const secondStage = createFormat({
  name: "present by rights", maxLevel: 4, presentMask: 3, leafMask: 0x80, leafValue: 0x80, leafLevels: [1, 2], addressWidth: 52,
  reserved: (level, leaf) => (1n << 62n) | (leaf ? (level > 0 ? low(11 + 9 * level, 12) : 0n) : 0x880n), tableLo: 3, blockLo: 0x80,
});

/** Tables by three bits at once, as RISC-V says it: no R, W, X means a table. */
const riscLike = createFormat({
  name: "table when no right is set", maxLevel: 3, presentMask: 1, leafMask: 2, leafValue: 2, pageMask: 2, pageValue: 2, leafLevels: [1, 2, 3],
  addressWidth: 50, reserved: () => low(62, 54), tableLo: 1, pageLo: 2, blockLo: 2,
});

const formats: [PageTableFormat, number][] = [
  [x86("four levels", 3, [1, 2]), 3], [x86("five levels, no gigabyte leaves", 4, [1]), 1], [x86("small pages only", 3, []), 7], [secondStage, 1],
  [arm(12, 3, [1, 2]), 0x400], [arm(14, 3, [1]), 0x400], [arm(16, 2, [1]), 0x400], [riscLike, 1],
];

describe.each(formats)("format suite: $name", (format, leafLo) => {
  it.each(formatSuite(format, { leafLo }).map((check) => [check.name, check] as const))("%s", (_, check) => {
    expect(check.run).not.toThrow();
  });
});

describe("format suite, on what is wrong", () => {
  const good = x86("good", 3, [1, 2]);
  const failures = (format: PageTableFormat, leafLo: number): string[] =>
    formatSuite(format, { leafLo }).filter(({ run }) => {
      try {
        run();
        return false;
      } catch {
        return true;
      }
    }).map(({ name }) => name.slice(name.indexOf(": ") + 2));

  it("finds leaf bits that do not translate", () => {
    expect(failures(good, 2)).toContain("a page translates at every place of the input range");
  });

  it("finds masks that follow an entry with a reserved bit", () => {
    const broken = { ...good, plainTableMask: 1, plainPageMask: 0, plainPageHi: 0 };
    expect(failures(broken, 3)).toEqual(expect.arrayContaining(["every reserved bit at level 0 stops the walk", "random words translate as the definition says"]));
  });

  it("finds an address field that is too narrow for what the editor writes", () => {
    expect(failures({ ...good, addressLo: good.addressLo & ~0x4000 }, 3)).toContain("a page translates at every place of the input range");
  });

  it("finds leaves whose bit the editor forgets", () => {
    expect(failures({ ...good, blockLo: 0 }, 3)).toContain("a leaf of level 1 is used when it fits, and translates every page");
  });
});
