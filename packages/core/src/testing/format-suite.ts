/**
 * One suite over any page-table format: what a format must do in the walker and in the editor. It
 * needs no test runner:
 *
 *     for (const { name, run } of formatSuite(myFormat, { leafLo: 3 })) test(name, run);
 */
import { FrameAllocator } from "../memory/frame-allocator.js";
import { PhysicalMemory } from "../memory/physical-memory.js";
import { levelShift, type PageTableFormat } from "../pt/format.js";
import { PageTable } from "../pt/page-table.js";
import { WalkResult, WalkStatus, walk } from "../pt/walk.js";
import { naiveWalk } from "./naive-walk.js";

export interface FormatCheck {
  readonly name: string;
  /** @throws Error that says what was expected and what came */
  readonly run: () => void;
}

export interface FormatSuiteOptions {
  /** Permission and attribute bits of a leaf that translates, low and high word. */
  readonly leafLo: number;
  readonly leafHi?: number;
  /** Level that walks start at; the format's highest unless given. */
  readonly topLevel?: number;
  /** Of the random checks; a failure names it. */
  readonly seed?: number;
}

const STATUS = ["ok", "not present", "reserved bit", "bus error"] as const;
const RAM = 2 ** 26;
const FRAMES = 2 ** 20;

/** The checks for one format, in the order in which they are best read when they fail. */
export function formatSuite(format: PageTableFormat, options: FormatSuiteOptions): FormatCheck[] {
  const bench = new Bench(format, options);
  const checks: FormatCheck[] = [
    { name: "an empty table translates nothing", run: () => bench.emptyTable() },
    { name: "a page translates at every place of the input range", run: () => bench.everyPlace() },
    { name: "mapping a page twice is refused and changes nothing", run: () => bench.mapTwice() },
    { name: "an absent entry stops the walk at its level", run: () => bench.absent() },
    { name: "a table outside memory is a bus error at its level", run: () => bench.outside() },
    { name: "a table that points to itself ends the walk", run: () => bench.loop() },
    { name: "random maps and unmaps agree with a list of pages, and every frame comes back", run: () => bench.history() },
    { name: "random words translate as the definition says", run: () => bench.randomWords() },
  ];
  for (let level = 1; level <= bench.topLevel; level++) {
    if (((format.leafLevels >>> level) & 1) === 0) continue;
    checks.push(
      { name: `a leaf of level ${level} is used when it fits, and translates every page`, run: () => bench.largeLeaf(level) },
      { name: `unmapping a page of a leaf of level ${level} keeps the others`, run: () => bench.split(level) },
    );
  }
  for (let level = 0; level <= bench.topLevel; level++) {
    checks.push({ name: `every reserved bit at level ${level} stops the walk`, run: () => bench.reserved(level) });
  }
  return checks.map(({ name, run }) => ({ name: `${format.name}: ${name}`, run }));
}

class Bench {
  readonly topLevel: number;
  readonly #format: PageTableFormat;
  readonly #lo: number;
  readonly #hi: number;
  readonly #seed: number;
  readonly #granule: number;

  constructor(format: PageTableFormat, options: FormatSuiteOptions) {
    this.#format = format;
    this.#lo = options.leafLo;
    this.#hi = options.leafHi ?? 0;
    this.topLevel = options.topLevel ?? format.maxLevel;
    this.#seed = options.seed ?? 1;
    this.#granule = this.#pages(0);
  }

  emptyTable(): void {
    const { memory, table } = this.#fresh();
    for (const page of this.#places()) this.#expectWalk(memory, table.root, page, "not present", this.topLevel);
  }

  everyPlace(): void {
    const { memory, table } = this.#fresh();
    this.#places().forEach((page, i) => {
      table.map(page, (i + 3) * this.#granule, this.#granule, this.#lo, this.#hi);
      this.#expectOutput(memory, table.root, page, (i + 3) * this.#granule, 0);
    });
    table.free();
  }

  mapTwice(): void {
    const { memory, frames, table } = this.#fresh();
    table.map(4 * this.#granule, 0, this.#granule, this.#lo, this.#hi);
    const before = frames.inUse;
    let refused = false;
    try {
      table.map(0, 64 * this.#granule, 8 * this.#granule, this.#lo, this.#hi);
    } catch {
      refused = true;
    }
    expect(refused, "mapping over a mapped page was not refused");
    expect(frames.inUse === before, `a refused map keeps ${frames.inUse - before} frames`);
    this.#expectOutput(memory, table.root, 4 * this.#granule, 0, 0);
    expect(table.lookup(0) === -1, "a refused map left a page mapped");
  }

  absent(): void {
    for (let level = this.topLevel; level >= 0; level--) {
      const { memory, table } = this.#mapped();
      memory.store64(this.#entry(memory, table.root, level), 0, 0);
      this.#expectWalk(memory, table.root, 0, "not present", level);
    }
  }

  outside(): void {
    for (let level = this.topLevel; level > 0; level--) {
      const { memory, table } = this.#mapped();
      // The last address that the format can name, or the first that RAM does not have.
      const entry = this.#entry(memory, table.root, level);
      memory.store64(entry, this.#format.addressLo | this.#format.tableLo, this.#format.addressHi & ~this.#format.reservedHi[level * 2]);
      this.#expectWalk(memory, table.root, 0, "bus error", level - 1);
    }
  }

  loop(): void {
    const { memory, table } = this.#fresh();
    memory.store64(table.root, table.root | this.#format.tableLo, 0);
    this.#agree(memory, table.root, 0);
  }

  largeLeaf(level: number): void {
    const { memory, table } = this.#fresh();
    const pages = this.#pages(level);
    table.map(pages, 2 * pages, pages, this.#lo, this.#hi);
    for (const page of [0, 1, pages / 2, pages - 1]) this.#expectOutput(memory, table.root, pages + page, 2 * pages + page, level);
    this.#expectWalk(memory, table.root, 2 * pages, "not present", level);
  }

  split(level: number): void {
    const { memory, frames, table } = this.#fresh();
    const pages = this.#pages(level);
    const hole = pages / 2;
    table.map(0, pages, pages, this.#lo, this.#hi);
    const { removed } = table.unmap(hole, this.#granule);
    expect(removed === this.#granule, `unmapping ${this.#granule} pages reports ${removed}`);
    for (const page of [0, hole - 1, hole + this.#granule, pages - 1]) {
      expect(table.lookup(page) === pages + page, `page ${page} of the leaf translates to ${table.lookup(page)}, not to ${pages + page}`);
      this.#agree(memory, table.root, page);
    }
    expect(table.lookup(hole) === -1, "the unmapped page still translates");
    table.free();
    expect(frames.inUse === 0, `${frames.inUse} frames are not given back`);
  }

  reserved(level: number): void {
    for (const leaf of level === 0 ? [true] : [false, true]) {
      if (leaf && ((this.#format.leafLevels >>> level) & 1) === 0) continue;
      const row = level * 2 + Number(leaf);
      for (let bit = 0; bit < 64; bit++) {
        const lo = bit < 32 ? this.#format.reservedLo[row] & (1 << bit) : 0;
        const hi = bit >= 32 ? this.#format.reservedHi[row] & (1 << (bit - 32)) : 0;
        if (lo === 0 && hi === 0) continue;
        const { memory, table } = this.#mapped();
        const entry = this.#entry(memory, table.root, level);
        if (leaf && level > 0) memory.store64(entry, this.#lo | this.#format.blockLo, this.#hi);
        memory.or64(entry, lo, hi);
        this.#agree(memory, table.root, 0);
        // A reserved bit may also be what makes the entry a leaf: then the definition decides, above.
        const leafBit = !leaf && (lo & this.#format.leafMask) !== 0;
        if (!leafBit) this.#expectWalk(memory, table.root, 0, "reserved bit", level, `bit ${bit}`);
      }
    }
  }

  history(): void {
    const random = generator(this.#seed);
    const { memory, frames, table } = this.#fresh();
    const model = new Map<number, number>();
    for (let step = 0; step < 60; step++) {
      const page = random(3000);
      const count = 1 + random(1500);
      if (random(2) === 0) this.#unmapBoth(frames, table, model, page, count);
      else this.#mapBoth(table, model, page, count, random(4096));
    }
    for (let page = 0; page < 4600; page++) {
      const expected = model.has(page) ? (model.get(page) ?? 0) * this.#granule : -1;
      const got = table.lookup(page * this.#granule);
      expect(got === expected, `page ${page} translates to ${got}, not to ${expected} (seed ${this.#seed})`);
      if (page % 97 === 0) this.#agree(memory, table.root, page * this.#granule);
    }
    table.free();
    expect(frames.inUse === 0, `${frames.inUse} frames are not given back (seed ${this.#seed})`);
  }

  randomWords(): void {
    const random = generator(this.#seed);
    const memory = new PhysicalMemory();
    memory.addRam(0, FRAMES);
    const { addressLo, tableLo, granuleShift } = this.#format;
    const highest = FRAMES / 2 ** granuleShift;
    for (let round = 0; round < 20; round++) {
      // Entries that mostly point back into the first tables, with a few bits changed.
      for (let at = 0; at < 8 * 2 ** granuleShift; at += 8) {
        const table = (random(Math.min(8, highest)) << granuleShift) & addressLo;
        const flip = random(3) === 0 ? 1 << random(32) : 0;
        memory.store64(at, (table | tableLo | (random(4) === 0 ? this.#format.blockLo : 0)) ^ flip, random(6) === 0 ? 1 << random(32) : 0);
      }
      for (let i = 0; i < 200; i++) this.#agree(memory, 0, random(2 ** 30) * 2 ** random(10), ` (seed ${this.#seed}, round ${round})`);
    }
  }

  #unmapBoth(frames: FrameAllocator, table: PageTable, model: Map<number, number>, page: number, count: number): void {
    const { removed, freed } = table.unmap(page * this.#granule, count * this.#granule);
    let expected = 0;
    for (let i = 0; i < count; i++) if (model.delete(page + i)) expected += this.#granule;
    expect(removed === expected, `unmap of ${count} from ${page} reports ${removed} pages, not ${expected} (seed ${this.#seed})`);
    for (const frame of freed) frames.free(frame, this.#granule);
  }

  #mapBoth(table: PageTable, model: Map<number, number>, page: number, count: number, out: number): void {
    let taken = false;
    for (let i = 0; i < count; i++) taken ||= model.has(page + i);
    let refused = false;
    try {
      table.map(page * this.#granule, out * this.#granule, count * this.#granule, this.#lo, this.#hi);
    } catch {
      refused = true;
    }
    expect(refused === taken, `map of ${count} from ${page} is ${refused ? "" : "not "}refused (seed ${this.#seed})`);
    if (!taken) for (let i = 0; i < count; i++) model.set(page + i, out + i);
  }

  #fresh(): { memory: PhysicalMemory; frames: FrameAllocator; table: PageTable } {
    const memory = new PhysicalMemory();
    memory.addRam(0, RAM);
    const frames = new FrameAllocator(memory, FRAMES, RAM);
    return { memory, frames, table: new PageTable(memory, frames, this.#format, this.topLevel) };
  }

  /** A table with its first page mapped. */
  #mapped(): { memory: PhysicalMemory; table: PageTable } {
    const { memory, table } = this.#fresh();
    table.map(0, this.#granule, this.#granule, this.#lo, this.#hi);
    return { memory, table };
  }

  /** Address of the entry of `level` on the walk of page 0. */
  #entry(memory: PhysicalMemory, root: number, level: number): number {
    let table = root;
    for (let at = this.topLevel; at > level; at--) {
      memory.load64(table);
      table = ((memory.hi & this.#format.addressHi) * 0x100000 + ((memory.lo & this.#format.addressLo) >>> 12)) * 4096;
    }
    return table;
  }

  /** First and last pages of the input range, and one in each level's second entry. */
  #places(): number[] {
    const end = this.#pages(this.topLevel) * 2 ** this.#format.indexBits;
    const seconds = Array.from({ length: this.topLevel + 1 }, (_, level) => this.#pages(level));
    return [...new Set([0, ...seconds, end - this.#granule])];
  }

  #pages(level: number): number {
    return 2 ** (levelShift(this.#format, level) - 12);
  }

  #expectOutput(memory: PhysicalMemory, root: number, page: number, output: number, level: number): void {
    const out = new WalkResult();
    const status = walk(memory, this.#format, root, this.topLevel, page, out);
    expect(status === WalkStatus.OK, `page ${page}: ${STATUS[status]} at level ${out.level}, not ok`);
    expect(out.outPage === output && out.level === level, `page ${page}: output page ${out.outPage} at level ${out.level}, not ${output} at level ${level}`);
    this.#agree(memory, root, page);
  }

  #expectWalk(memory: PhysicalMemory, root: number, page: number, status: string, level: number, where = ""): void {
    const out = new WalkResult();
    const got = STATUS[walk(memory, this.#format, root, this.topLevel, page, out)];
    expect(got === status && out.level === level, `page ${page}: ${got} at level ${out.level}, not ${status} at level ${level} ${where}`);
    this.#agree(memory, root, page);
  }

  /** The walker's answer is the definition's. */
  #agree(memory: PhysicalMemory, root: number, page: number, where = ""): void {
    const out = new WalkResult();
    const status = STATUS[walk(memory, this.#format, root, this.topLevel, page, out)];
    const naive = naiveWalk(memory, this.#format, root, this.topLevel, BigInt(page) << 12n);
    const got = `${status} at level ${out.level}${status === "ok" ? ` to 0x${(BigInt(out.outPage) << 12n).toString(16)}` : ""}`;
    const expected = `${naive.status} at level ${naive.level}${naive.output === undefined ? "" : ` to 0x${naive.output.toString(16)}`}`;
    expect(got === expected, `page ${page}: ${got}; by the definition: ${expected}${where}`);
  }
}

function expect(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

/** Random integers below a limit (mulberry32). */
function generator(seed: number): (limit: number) => number {
  let state = seed | 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}
