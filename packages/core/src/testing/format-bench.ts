/** What the checks of the format suite share: fresh tables, places worth trying, and comparisons that fail in words. */
import { FrameAllocator } from "../memory/frame-allocator.js";
import { PhysicalMemory } from "../memory/physical-memory.js";
import { entryFrame, levelShift, type PageTableFormat } from "../pt/format.js";
import { PageTable, type TableWriteListener } from "../pt/page-table.js";
import { WalkResult, WalkStatus, walk } from "../pt/walk.js";
import { naiveWalk } from "./naive-walk.js";

/** What the suite asks of an editor: `PageTable`, or one that stands in for it. */
export type TableEditor = Pick<PageTable, "root" | "map" | "unmap" | "lookup" | "free">;

/** Makes an empty table; the arguments of `PageTable`'s constructor. */
export type EditorFactory = (
  memory: PhysicalMemory,
  frames: FrameAllocator,
  format: PageTableFormat,
  topLevel: number,
  onWrite?: TableWriteListener,
) => TableEditor;

export interface FormatSuiteOptions {
  /** Permission and attribute bits of a leaf that translates, low and high word. */
  readonly leafLo: number;
  readonly leafHi?: number;
  /** Level that walks start at; the format's highest unless given. */
  readonly topLevel?: number;
  /** Of the random checks; a failure names it. */
  readonly seed?: number;
  /** The editor to try; `PageTable` unless given. */
  readonly editor?: EditorFactory;
}

export interface Fixture {
  readonly memory: PhysicalMemory;
  readonly frames: FrameAllocator;
  readonly table: TableEditor;
}

const STATUS = ["ok", "not present", "reserved bit", "bus error"] as const;
/** RAM of a fixture; tables come from FRAMES up. */
const RAM = 2 ** 26;
export const FRAMES: number = 2 ** 20;
/** Page numbers end here: 64-bit input addresses. */
const PAGE_LIMIT = 2 ** 52;

export class FormatBench {
  readonly format: PageTableFormat;
  readonly topLevel: number;
  readonly leafLo: number;
  readonly leafHi: number;
  readonly seed: number;
  /** 4 KiB pages of the smallest page, and of a table. */
  readonly granule: number;
  readonly #editor: EditorFactory;

  constructor(format: PageTableFormat, options: FormatSuiteOptions) {
    this.format = format;
    this.topLevel = options.topLevel ?? format.maxLevel;
    this.leafLo = options.leafLo;
    this.leafHi = options.leafHi ?? 0;
    this.seed = options.seed ?? 1;
    this.granule = this.pages(0);
    this.#editor = options.editor ?? ((...table) => new PageTable(...table));
  }

  /** 4 KiB pages that one entry of `level` covers. */
  pages(level: number): number {
    return 2 ** (levelShift(this.format, level) - 12);
  }

  /** Input pages in all. */
  get inputPages(): number {
    return Math.min(this.pages(this.topLevel) * 2 ** this.format.indexBits, PAGE_LIMIT);
  }

  hasLeaves(level: number): boolean {
    return ((this.format.leafLevels >>> level) & 1) === 1;
  }

  /** An empty table. @param tables how many tables there is room for; unlimited unless given */
  fresh(tables?: number, onWrite?: TableWriteListener): Fixture {
    const memory = new PhysicalMemory();
    memory.addRam(0, RAM);
    const frames = new FrameAllocator(memory, FRAMES, tables === undefined ? RAM : FRAMES + tables * this.granule * 4096);
    return { memory, frames, table: this.#editor(memory, frames, this.format, this.topLevel, onWrite) };
  }

  /** A table with the first page mapped to output page 0. */
  mapped(): Fixture {
    const fixture = this.fresh();
    fixture.table.map(0, 0, this.granule, this.leafLo, this.leafHi);
    return fixture;
  }

  /** First and last page of the input range, and one in each level's second entry. */
  places(): number[] {
    const seconds = Array.from({ length: this.topLevel + 1 }, (_, level) => this.pages(level));
    return [...new Set([0, ...seconds, this.inputPages - this.granule])];
  }

  /** Highest output page of a leaf of `level` that sets no reserved bit. */
  highestOutput(level: number): number {
    const { addressLo, addressHi, reservedLo, reservedHi } = this.format;
    const lo = addressLo & ~reservedLo[level * 2 + 1];
    const hi = addressHi & ~reservedHi[level * 2 + 1];
    const page = entryFrame(this.format, lo | (this.format.foldedLo & ~reservedLo[level * 2 + 1]), hi);
    return page - (page % this.pages(level));
  }

  /** Address of the entry of `level` on the walk of page 0. */
  entry(memory: PhysicalMemory, root: number, level: number): number {
    let table = root;
    for (let at = this.topLevel; at > level; at--) table = this.target(memory, table);
    return table;
  }

  /** The address in the entry at `entry`. */
  target(memory: PhysicalMemory, entry: number): number {
    memory.load64(entry);
    return entryFrame(this.format, memory.lo, memory.hi) * 4096;
  }

  /** Every table that can be reached, the top one included; a table that is reached twice is there twice. */
  reachable(memory: PhysicalMemory, table: number, level: number = this.topLevel): number[] {
    const tables = [table];
    if (level === 0) return tables;
    for (let entry = table; entry < table + 8 * 2 ** this.format.indexBits; entry += 8) {
      memory.load64(entry);
      const present = (memory.lo & this.format.presentMask) !== 0;
      if (!present || (memory.lo & this.format.leafMask) === this.format.leafValue) continue;
      tables.push(...this.reachable(memory, this.target(memory, entry), level - 1));
    }
    return tables;
  }

  expectOutput(memory: PhysicalMemory, root: number, page: number, output: number, level: number, where = ""): void {
    const out = new WalkResult();
    const status = walk(memory, this.format, root, this.topLevel, page, out);
    expect(status === WalkStatus.OK, `page ${page}: ${STATUS[status]} at level ${out.level}, not ok${where}`);
    expect(out.outPage === output && out.level === level, `page ${page}: output page ${out.outPage} at level ${out.level}, not ${output} at level ${level}${where}`);
    this.agree(memory, root, page, where);
  }

  expectWalk(memory: PhysicalMemory, root: number, page: number, status: (typeof STATUS)[number], level: number, where = ""): void {
    const out = new WalkResult();
    const got = STATUS[walk(memory, this.format, root, this.topLevel, page, out)];
    expect(got === status && out.level === level, `page ${page}: ${got} at level ${out.level}, not ${status} at level ${level}${where}`);
    this.agree(memory, root, page, where);
  }

  /** The walker's answer is the definition's: outcome, level, output, the last entry, and what all entries have in common. */
  agree(memory: PhysicalMemory, root: number, page: number, where = ""): void {
    const out = new WalkResult();
    const status = walk(memory, this.format, root, this.topLevel, page, out);
    const naive = naiveWalk(memory, this.format, root, this.topLevel, BigInt(page) << 12n);
    const entry = status === WalkStatus.BUS_ERROR ? "" : `, entry ${hex((unsigned(out.entryHi) << 32n) | unsigned(out.entryLo))}`;
    const output = status === WalkStatus.OK ? ` to ${hex(BigInt(out.outPage) << 12n)}, all entries ${hex(unsigned(out.andLo))}, tables ${hex(unsigned(out.tableHi))}` : "";
    const got = `${STATUS[status]} at level ${out.level}${entry}${output}`;
    const wanted = naive.output === undefined ? "" : ` to ${hex(naive.output)}, all entries ${hex(naive.common)}, tables ${hex(naive.tables)}`;
    const expected = `${naive.status} at level ${naive.level}${naive.entry === undefined ? "" : `, entry ${hex(naive.entry)}`}${wanted}`;
    expect(got === expected, `page ${page}: ${got}; by the definition: ${expected}${where}`);
  }
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const unsigned = (value: number): bigint => BigInt(value >>> 0);

export function expect(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

/** True when the request was refused, that is, threw. */
export function isRefused(request: () => void): boolean {
  try {
    request();
    return false;
  } catch {
    return true;
  }
}

/** Random integers below a limit (mulberry32). */
export function generator(seed: number): (limit: number) => number {
  let state = seed | 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}
