import { describe, expect, it } from "vitest";
import { createFormat, IllegalLeaf, type PageTableFormat } from "../pt/format.js";
import { PageTable } from "../pt/page-table.js";
import { isRefused } from "./format-bench.js";
import { type EditorFactory, formatSuite, type FormatSuiteOptions, type TableEditor } from "./format-suite.js";

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

/** 52-bit output addresses, whose top bits lie below the page offset (Arm DDI0487 D8.3): four of them, or two. */
const folded = [
  createFormat({
    name: "Arm-like 64K, 52 bits", granuleShift: 16, maxLevel: 2, presentMask: 1, leafMask: 2, leafValue: 0, pageMask: 3, pageValue: 3, leafLevels: [1, 2],
    illegalLeaf: IllegalLeaf.NOT_PRESENT, addressWidth: 48, folded: { mask: 0xf000, address: 48 }, reserved: () => 0n, tableLo: 3, pageLo: 3, blockLo: 1,
  }),
  createFormat({
    name: "Arm-like 4K, 52 bits", maxLevel: 4, presentMask: 1, leafMask: 2, leafValue: 0, pageMask: 3, pageValue: 3, leafLevels: [1, 2, 3],
    illegalLeaf: IllegalLeaf.NOT_PRESENT, addressWidth: 50, folded: { mask: 0x300, address: 50 }, reserved: () => 0n, tableLo: 3, pageLo: 3, blockLo: 1,
  }),
];

/** Tables by three bits at once, as RISC-V says it: no R, W, X means a table. */
const riscLike = createFormat({
  name: "table when no right is set", maxLevel: 3, presentMask: 1, leafMask: 2, leafValue: 2, pageMask: 2, pageValue: 2, leafLevels: [1, 2, 3],
  addressWidth: 50, reserved: () => low(62, 54), tableLo: 1, pageLo: 2, blockLo: 2,
});

/** A vendor of its own kind: 32-bit output addresses, two levels, a writable bit that is not the present bit, no-execute at the top. */
const narrow = createFormat({
  name: "32-bit addresses", maxLevel: 1, presentMask: 4, leafMask: 0x800, leafValue: 0x800, pageMask: 0x800, pageValue: 0x800, leafLevels: [1],
  addressWidth: 32, reserved: (level, leaf) => low(62, 32) | (leaf && level === 1 ? low(20, 12) : 0n), tableLo: 4, pageLo: 0x800, blockLo: 0x800,
});

const fourLevels = x86("four levels", 3, [1, 2]);
const formats: [PageTableFormat, FormatSuiteOptions][] = [
  [fourLevels, { leafLo: 1 }],
  [{ ...fourLevels, name: "four levels, seen as three" }, { leafLo: 3, topLevel: 2 }],
  [{ ...fourLevels, name: "four levels, seen as one" }, { leafLo: 3, topLevel: 0 }],
  [x86("five levels, no gigabyte leaves", 4, [1]), { leafLo: 1, leafHi: 1 << 31, seed: 2 }],
  [x86("small pages only", 3, []), { leafLo: 7 }],
  [secondStage, { leafLo: 1 }],
  [{ ...secondStage, name: "write without read" }, { leafLo: 2, seed: 3 }],
  [arm(12, 3, [1, 2]), { leafLo: 0x400 }],
  [arm(14, 3, [1]), { leafLo: 0x400, leafHi: 1 << 22 }],
  [arm(16, 2, [1]), { leafLo: 0x400 }],
  [folded[0], { leafLo: 0x400 }],
  [folded[1], { leafLo: 0x400 }],
  [riscLike, { leafLo: 1 }],
  [narrow, { leafLo: 4, leafHi: 1 << 31 }],
];

describe.each(formats)("format suite: $name", (format, options) => {
  it.each(formatSuite(format, options).map((check) => [check.name, check] as const))("%s", (_, check) => {
    check.run();
  });
});

const withoutFormat = (name: string): string => name.slice(name.indexOf(": ") + 2);

/** Names of the checks that fail. */
function failures(format: PageTableFormat, options: FormatSuiteOptions): string[] {
  return formatSuite(format, options).filter(({ run }) => isRefused(run)).map(({ name }) => withoutFormat(name));
}

describe("format suite, on a format that is wrong", () => {
  const good = x86("good", 3, [1, 2]);

  it("finds nothing in the good one", () => {
    expect(failures(good, { leafLo: 3 })).toEqual([]);
  });

  it("finds leaf bits that do not translate", () => {
    expect(failures(good, { leafLo: 2 })).toContain("a page translates at every place of the input range");
  });

  it("finds masks that follow an entry with a reserved bit", () => {
    const broken = { ...good, plainTableMask: 1, plainPageMask: 0, plainPageHi: 0 };
    expect(failures(broken, { leafLo: 3 })).toEqual(expect.arrayContaining(["every reserved bit at level 0 stops the walk", "random words translate as the definition says"]));
  });

  it("finds masks that follow a page whose number is not small", () => {
    expect(failures({ ...good, plainPageHi: good.reservedHi[1] }, { leafLo: 3 })).toContain("output addresses up to the top of the address field come back");
  });

  it("finds an address field that is too narrow for what the editor writes", () => {
    expect(failures({ ...good, addressLo: good.addressLo & ~0x4000 }, { leafLo: 3 })).toContain("a page translates at every place of the input range");
  });

  it("finds leaves whose bit the editor forgets", () => {
    expect(failures({ ...good, blockLo: 0 }, { leafLo: 3 })).toContain("a leaf of level 1 is used when it fits, and translates every page");
  });

  it("finds an address field that takes the leaf's own rights", () => {
    expect(failures({ ...good, addressHi: good.addressHi | (1 << 31) }, { leafLo: 3, leafHi: 1 << 31 })).toContain("a page translates at every place of the input range");
  });

  it("finds a leaf bit that nothing reserves where leaves are not allowed", () => {
    const reservedLo = good.reservedLo.map((bits, row) => (row === 6 ? bits & ~0x80 : bits));
    expect(failures({ ...good, reservedLo }, { leafLo: 3 })).toContain("a leaf at level 3, where none is allowed, does not translate");
  });

  it("says in words what was expected, and the seed", () => {
    const broken = { ...good, plainTableMask: 1, plainPageMask: 0, plainPageHi: 0 };
    const check = formatSuite(broken, { leafLo: 3, seed: 77 }).find(({ name }) => name.includes("random words"));
    expect(check?.run).toThrow(/page \d+: .* at level \d.*; by the definition: reserved bit at level \d, entry 0x[0-9a-f]+ \(seed 77, round \d+\)/);
  });
});

describe("format suite, on an editor that is wrong", () => {
  const good = x86("good", 3, [1, 2]);
  type Change = (table: PageTable) => Partial<TableEditor>;
  const editor = (change: Change): EditorFactory => (memory, frames, ...rest) => {
    const table = new PageTable(memory, frames, ...rest);
    const whole: TableEditor = {
      root: table.root,
      map: (...range) => table.map(...range),
      unmap: (...range) => table.unmap(...range),
      lookup: (page) => table.lookup(page),
      free: () => table.free(),
    };
    return { ...whole, ...change(table) };
  };
  const history = "random maps and unmaps agree with a list of pages, and every frame comes back";

  it.each<[string, Change, string]>([
    ["loses tables", (table) => ({ unmap: (page, count) => ({ ...table.unmap(page, count), freed: [] }) }), history],
    ["gives back what is in use", (table) => ({ unmap: (page, count) => ({ ...table.unmap(page, count), freed: [table.root] }) }), history],
    ["counts wrongly", (table) => ({ unmap: (page, count) => ({ ...table.unmap(page, count), removed: count }) }), history],
    ["keeps its top table", () => ({ free: () => undefined }), "a page translates at every place of the input range"],
    ["takes a range that is mapped", (table) => ({ map: (page, output, count, lo, hi) => {
      table.unmap(page, count);
      table.map(page, output, count, lo, hi);
    } }), "mapping a page twice is refused and changes nothing"],
    ["uses small pages only", (table) => ({ map: (page, output, count, lo, hi) => {
      for (let i = 0; i < count; i++) table.map(page + i, output + i, 1, lo, hi);
    } }), "a leaf of level 1 is used when it fits, and translates every page"],
    ["leaves a half of what it could not finish", (table) => ({ map: (page, output, count, lo, hi) => {
      for (let i = 0; i < count; i++) table.map(page + i, output + i, 1, lo, hi);
    } }), "a map without frames for its tables is refused and changes nothing"],
    ["forgets permissions", (table) => ({ map: (page, output, count, lo) => table.map(page, output, count, lo & ~1) }), "a page translates at every place of the input range"],
    ["rounds ranges up", (table) => ({ map: (page, output, count, lo, hi) => table.map(page, output, Math.max(1, count), lo, hi) }), "a range that is not made of whole pages of the input range is refused"],
  ])("that %s", (_what, change, check) => {
    expect(failures(good, { leafLo: 3, editor: editor(change) })).toContain(check);
  });

  it("that does not say what it stores", () => {
    const silent: EditorFactory = (memory, frames, format, topLevel) => new PageTable(memory, frames, format, topLevel);
    expect(failures(good, { leafLo: 3, editor: silent })).toEqual(["every word that the editor stores is reported"]);
  });
});
