/** Checks of the format suite that look at the editor: what it writes, refuses, splits and gives back. */
import { expect, type Fixture, type FormatBench, FRAMES, generator, isRefused } from "./format-bench.js";

/** Longest run of pages in the random checks, in smallest pages. */
const RUN = 1500;
const STEPS = 60;

export function everyPlace(bench: FormatBench): void {
  const { memory, frames, table } = bench.fresh();
  const { granule, leafLo, leafHi } = bench;
  bench.places().forEach((page, i) => {
    const output = (i + 3) * granule;
    table.map(page, output, granule, leafLo, leafHi);
    bench.expectOutput(memory, table.root, page, output, 0);
    expect(table.lookup(page) === output, `lookup of page ${page} gives ${table.lookup(page)}, not ${output}`);
  });
  table.free();
  expect(frames.inUse === 0, `${frames.inUse} frames are not given back`);
}

/** Outputs at the top of the address field, and across 4 GiB, where the entry's words meet. */
export function highOutputs(bench: FormatBench): void {
  const { granule, leafLo, leafHi } = bench;
  for (let level = 0; level <= bench.topLevel; level++) {
    if (!bench.hasLeaves(level)) continue;
    const { memory, table } = bench.fresh();
    const pages = bench.pages(level);
    const top = bench.highestOutput(level);
    table.map(0, top, pages, leafLo, leafHi);
    bench.expectOutput(memory, table.root, pages - 1, top + pages - 1, level);
  }
  const border = 0x10_0000;
  if (bench.highestOutput(0) < border + 8 * granule) return;
  const { memory, table } = bench.fresh();
  table.map(0, border - 8 * granule, 16 * granule, leafLo, leafHi);
  for (let page = 0; page < 16; page++) bench.expectOutput(memory, table.root, page * granule, border + (page - 8) * granule, 0);
}

export function mapTwice(bench: FormatBench): void {
  const { memory, frames, table } = bench.fresh();
  const { granule, leafLo, leafHi } = bench;
  table.map(4 * granule, 0, granule, leafLo, leafHi);
  const before = frames.inUse;
  expect(isRefused(() => table.map(0, 64 * granule, 8 * granule, leafLo, leafHi)), "mapping over a mapped page was not refused");
  expect(frames.inUse === before, `a refused map keeps ${frames.inUse - before} frames`);
  bench.expectOutput(memory, table.root, 4 * granule, 0, 0);
  expect(table.lookup(0) === -1, "a refused map left a page mapped");
}

export function badRanges(bench: FormatBench): void {
  const { frames, table } = bench.fresh();
  const { granule, leafLo, leafHi, inputPages } = bench;
  const before = frames.inUse;
  expect(isRefused(() => table.map(0, 0, 0, leafLo, leafHi)), "mapping nothing was not refused");
  expect(isRefused(() => table.map(inputPages - granule, 0, 2 * granule, leafLo, leafHi)), "mapping past the input range was not refused");
  if (granule > 1) {
    for (const [page, output, count] of [[1, 0, granule], [0, 1, granule], [0, 0, granule + 1]]) {
      expect(isRefused(() => table.map(page, output, count, leafLo, leafHi)), `mapping ${count} from ${page} to ${output}, in parts of ${granule}, was not refused`);
    }
  }
  expect(frames.inUse === before, `refused maps keep ${frames.inUse - before} frames`);
}

/** A map that finds no frame for a table undoes what it did. */
export function noFrames(bench: FormatBench): void {
  const { granule, leafLo, leafHi } = bench;
  // Pages on both sides of the middle of the input range need a table of each lower level on each side.
  const middle = bench.inputPages / 2;
  const needed = 1 + 2 * bench.topLevel;
  for (let tables = 1; tables < needed; tables++) {
    const { frames, table } = bench.fresh(tables);
    const before = frames.inUse;
    expect(isRefused(() => table.map(middle - granule, 0, 2 * granule, leafLo, leafHi)), `a map that needs ${needed} tables was not refused with ${tables}`);
    expect(frames.inUse === before, `with ${tables} tables, a refused map keeps ${frames.inUse - before} frames`);
    expect(table.lookup(middle - granule) === -1 && table.lookup(middle) === -1, `with ${tables} tables, a refused map left a page mapped`);
  }
}

export function largeLeaf(bench: FormatBench, level: number): void {
  const { memory, frames, table } = bench.fresh();
  const { leafLo, leafHi } = bench;
  const pages = bench.pages(level);
  const before = frames.inUse;
  table.map(pages, 2 * pages, pages, leafLo, leafHi);
  const tables = (frames.inUse - before) / bench.granule;
  expect(tables === bench.topLevel - level, `one leaf of level ${level} took ${tables} new tables, not ${bench.topLevel - level}`);
  for (const page of [0, 1, pages / 2, pages - 1]) bench.expectOutput(memory, table.root, pages + page, 2 * pages + page, level);
  bench.expectWalk(memory, table.root, 2 * pages, "not present", level);
  expect(table.unmap(pages, pages).removed === pages, `unmapping the leaf does not report its ${pages} pages`);
  bench.expectWalk(memory, table.root, pages, "not present", bench.topLevel, " (the tables above a leaf that is gone)");
}

/** Only what is aligned on both sides gets a large leaf. */
export function unalignedLeaf(bench: FormatBench, level: number): void {
  const { memory, table } = bench.fresh();
  const { granule, leafLo, leafHi } = bench;
  const pages = bench.pages(level);
  // Output off by one smallest page, so nothing larger fits; the first and the last few pages are enough to see it.
  table.map(pages, granule, 4 * granule, leafLo, leafHi);
  table.map(2 * pages - 4 * granule, pages - 3 * granule, 4 * granule, leafLo, leafHi);
  for (const page of [0, 3 * granule, pages - 4 * granule, pages - granule]) bench.expectOutput(memory, table.root, pages + page, granule + page, 0);
  // Input and output off by the same page: large leaves begin behind it.
  if (level > 1) return;
  const { memory: other, table: both } = bench.fresh();
  both.map(pages - granule, 3 * pages - granule, pages + 2 * granule, leafLo, leafHi);
  bench.expectOutput(other, both.root, pages - granule, 3 * pages - granule, 0);
  bench.expectOutput(other, both.root, pages, 3 * pages, level);
  bench.expectOutput(other, both.root, 2 * pages, 4 * pages, 0);
}

export function split(bench: FormatBench, level: number): void {
  const { memory, frames, table } = bench.fresh();
  const { granule, leafLo, leafHi } = bench;
  const pages = bench.pages(level);
  const hole = pages / 2;
  table.map(0, pages, pages, leafLo, leafHi);
  const leaf = entryOf(memory, bench.entry(memory, table.root, level));
  const { removed } = table.unmap(hole, granule);
  expect(removed === granule, `unmapping ${granule} pages reports ${removed}`);
  for (const page of [0, hole - granule, hole + granule, pages - granule]) {
    expect(table.lookup(page) === pages + page, `page ${page} of the leaf translates to ${table.lookup(page)}, not to ${pages + page}`);
    bench.agree(memory, table.root, page);
  }
  expect(table.lookup(hole) === -1, "the unmapped page still translates");
  const piece = entryOf(memory, bench.entry(memory, table.root, level - 1));
  const { addressLo, addressHi, blockLo, pageLo, leafMask } = bench.format;
  const form = addressLo | blockLo | pageLo | leafMask;
  expect(((piece.lo ^ leaf.lo) & ~form) === 0 && ((piece.hi ^ leaf.hi) & ~addressHi) === 0, "the pieces of a leaf have other permissions than it had");
  table.free();
  expect(frames.inUse === 0, `${frames.inUse} frames are not given back`);
}

function entryOf(memory: Fixture["memory"], pa: number): { lo: number; hi: number } {
  memory.load64(pa);
  return { lo: memory.lo, hi: memory.hi };
}

/** A driver flushes what it is told of: a word that changes without a report is one that the hardware does not see. */
export function reports(bench: FormatBench): void {
  const reported: [from: number, to: number][] = [];
  const { memory, table } = bench.fresh(undefined, (_level, _leaf, pa, _value, count) => reported.push([pa, pa + 8 * count]));
  const { granule, leafLo, leafHi } = bench;
  const large = bench.topLevel > 0 ? bench.pages(1) : 8 * granule;
  const changes: (() => void)[] = [
    () => table.map(0, large, large, leafLo, leafHi),
    () => void table.unmap(granule, 2 * granule),
    () => void table.unmap(0, large),
    () => table.map(bench.inputPages - granule, 0, granule, leafLo, leafHi),
  ];
  const bytes = FRAMES;
  for (const [i, change] of changes.entries()) {
    reported.length = 0;
    const before = new Float64Array(bytes / 8);
    const after = new Float64Array(bytes / 8);
    memory.read(FRAMES, new Uint8Array(before.buffer));
    change();
    memory.read(FRAMES, new Uint8Array(after.buffer));
    const [was, is] = [new BigUint64Array(before.buffer), new BigUint64Array(after.buffer)];
    for (let word = 0; word < was.length; word++) {
      const pa = FRAMES + 8 * word;
      if (was[word] === is[word] || reported.some(([from, to]) => from <= pa && pa < to)) continue;
      throw new Error(`change ${i} stores 0x${is[word].toString(16)} at 0x${pa.toString(16)} and does not report it`);
    }
  }
}

/** Random maps and unmaps against a list of pages; after each, no table is lost, shared, or given back while it is in use. */
export function history(bench: FormatBench): void {
  const random = generator(bench.seed);
  const fixture = bench.fresh();
  const { memory, frames, table } = fixture;
  const { granule, seed } = bench;
  const model = new Map<number, number>();
  // Every second place, output and length is a multiple of a large leaf, where one is not too large.
  const leaf = bench.topLevel > 0 && bench.hasLeaves(1) ? 2 ** bench.format.indexBits : 1;
  const aligned = (limit: number): number => (leaf < limit && random(2) === 0 ? random(Math.ceil(limit / leaf)) * leaf : random(limit));
  const whole = bench.inputPages / granule;
  const limit = Math.min(Math.max(3000, leaf < 2048 ? 6 * leaf : 0), whole);
  for (let step = 0; step < STEPS; step++) {
    const page = aligned(limit);
    const count = Math.min(aligned(RUN) + (random(2) === 0 ? leaf % RUN : 1), whole - page);
    const where = ` (seed ${seed}, step ${step})`;
    if (random(2) === 0) unmapBoth(bench, fixture, model, page, count, where);
    else mapBoth(bench, fixture, model, page, count, aligned(8192), where);
    const tables = bench.reachable(memory, table.root);
    expect(new Set(tables).size === tables.length, `a table is reached twice${where}`);
    expect(frames.inUse === tables.length * granule, `${frames.inUse / granule} tables are in use, ${tables.length} can be reached${where}`);
  }
  for (let page = 0; page < Math.min(limit + 2 * RUN + leaf, whole); page++) {
    const expected = model.has(page) ? (model.get(page) ?? 0) * granule : -1;
    const got = table.lookup(page * granule);
    expect(got === expected, `page ${page} translates to ${got}, not to ${expected} (seed ${seed})`);
    if (page % 97 === 0) bench.agree(memory, table.root, page * granule);
  }
  table.free();
  expect(frames.inUse === 0, `${frames.inUse} frames are not given back (seed ${seed})`);
}

function unmapBoth(bench: FormatBench, { memory, frames, table }: Fixture, model: Map<number, number>, page: number, count: number, where: string): void {
  const { granule } = bench;
  const { removed, freed } = table.unmap(page * granule, count * granule);
  let expected = 0;
  for (let i = 0; i < count; i++) if (model.delete(page + i)) expected += granule;
  expect(removed === expected, `unmap of ${count} from ${page} reports ${removed} pages, not ${expected}${where}`);
  const reachable = new Set(bench.reachable(memory, table.root));
  for (const frame of freed) {
    expect(!reachable.has(frame), `the table at 0x${frame.toString(16)} is given back and can still be reached${where}`);
    frames.free(frame, granule);
  }
}

function mapBoth(bench: FormatBench, { table }: Fixture, model: Map<number, number>, page: number, count: number, output: number, where: string): void {
  const { granule, leafLo, leafHi } = bench;
  let taken = false;
  for (let i = 0; i < count; i++) taken ||= model.has(page + i);
  const refused = isRefused(() => table.map(page * granule, output * granule, count * granule, leafLo, leafHi));
  expect(refused === taken, `map of ${count} from ${page} is ${refused ? "" : "not "}refused${where}`);
  if (!taken) for (let i = 0; i < count; i++) model.set(page + i, output + i);
}
