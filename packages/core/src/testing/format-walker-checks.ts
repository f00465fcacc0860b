/** Checks of the format suite that look at the walker: what it makes of entries, wherever they came from. */
import { PhysicalMemory } from "../memory/physical-memory.js";
import { IllegalLeaf } from "../pt/format.js";
import { WalkResult, walk } from "../pt/walk.js";
import { expect, type FormatBench, FRAMES, generator } from "./format-bench.js";

export function emptyTable(bench: FormatBench): void {
  const { memory, table } = bench.fresh();
  for (const page of bench.places()) bench.expectWalk(memory, table.root, page, "not present", bench.topLevel);
}

export function absent(bench: FormatBench): void {
  const { memory, table } = bench.mapped();
  for (let level = bench.topLevel; level >= 0; level--) {
    const entry = bench.entry(memory, table.root, level);
    memory.load64(entry);
    const { lo, hi } = memory;
    memory.store64(entry, lo & ~bench.format.presentMask, hi);
    bench.expectWalk(memory, table.root, 0, "not present", level);
    memory.store64(entry, lo, hi);
  }
}

export function outside(bench: FormatBench): void {
  const { addressLo, addressHi, tableLo, reservedLo, reservedHi } = bench.format;
  for (let level = bench.topLevel; level > 0; level--) {
    const { memory, table } = bench.mapped();
    // The last address that the entry can name.
    memory.store64(bench.entry(memory, table.root, level), (addressLo & ~reservedLo[level * 2]) | tableLo, addressHi & ~reservedHi[level * 2]);
    bench.expectWalk(memory, table.root, 0, "bus error", level - 1);
  }
  const nowhere = new PhysicalMemory();
  bench.expectWalk(nowhere, FRAMES, 0, "bus error", bench.topLevel, " (a top table outside memory)");
}

export function loop(bench: FormatBench): void {
  const { memory, table } = bench.fresh();
  memory.store64(table.root, table.root | bench.format.tableLo, 0);
  bench.agree(memory, table.root, 0);
}

/** Bits above those that index the top table are the caller's business. */
export function inputAboveTop(bench: FormatBench): void {
  const { memory, table } = bench.mapped();
  if (bench.inputPages * 4 > 2 ** 52) return;
  bench.expectOutput(memory, table.root, bench.inputPages, 0, 0, " (an input bit above the top table's index)");
  bench.expectOutput(memory, table.root, bench.inputPages * 3, 0, 0, " (input bits above the top table's index)");
}

/** Accessed and dirty bits are set by whoever owns the walk, if at all. */
export function writesNothing(bench: FormatBench): void {
  const { memory, frames, table } = bench.fresh();
  for (const page of bench.places()) table.map(page, page % 64 * bench.granule, bench.granule, bench.leafLo, bench.leafHi);
  const before = new Uint8Array(frames.inUse * 4096);
  memory.read(FRAMES, before);
  const out = new WalkResult();
  for (const page of bench.places()) for (const at of [page, page + bench.granule]) walk(memory, bench.format, table.root, bench.topLevel, at, out);
  const after = new Uint8Array(before.length);
  memory.read(FRAMES, after);
  const changed = before.findIndex((byte, i) => byte !== after[i]);
  expect(changed === -1, `the walker changed the byte at 0x${(FRAMES + changed).toString(16)}`);
}

/** What looks like a leaf where the format has none never translates. */
export function illegalLeaf(bench: FormatBench, level: number): void {
  const { memory, table } = bench.mapped();
  const { presentMask, leafMask, leafValue, blockLo } = bench.format;
  const present = presentMask & -presentMask;
  memory.store64(bench.entry(memory, table.root, level), (bench.leafLo | blockLo | present) & ~leafMask | leafValue, bench.leafHi);
  const expected = bench.format.illegalLeaf === IllegalLeaf.NOT_PRESENT ? "not present" : "reserved bit";
  bench.expectWalk(memory, table.root, 0, expected, level, " (a leaf where none is allowed)");
}

export function reserved(bench: FormatBench, level: number): void {
  const { memory, table } = bench.mapped();
  const { reservedLo, reservedHi, leafMask, blockLo } = bench.format;
  const entry = bench.entry(memory, table.root, level);
  memory.load64(entry);
  const plain = { lo: memory.lo, hi: memory.hi };
  for (const leaf of level === 0 ? [true] : [false, true]) {
    if (leaf && !bench.hasLeaves(level)) continue;
    const good = leaf && level > 0 ? { lo: bench.leafLo | blockLo, hi: bench.leafHi } : plain;
    const row = level * 2 + Number(leaf);
    for (let bit = 0; bit < 64; bit++) {
      const lo = bit < 32 ? reservedLo[row] & (1 << bit) : 0;
      const hi = bit >= 32 ? reservedHi[row] & (1 << (bit - 32)) : 0;
      if (lo === 0 && hi === 0) continue;
      memory.store64(entry, good.lo | lo, good.hi | hi);
      // A reserved bit may also be what makes the entry a leaf: then the definition decides.
      if (!leaf && (lo & leafMask) !== 0) bench.agree(memory, table.root, 0, ` (bit ${bit})`);
      else bench.expectWalk(memory, table.root, 0, "reserved bit", level, ` (bit ${bit} of a ${leaf ? "leaf" : "table entry"})`);
    }
  }
}

/** Entries that mostly point back into the first tables, with a few bits changed. */
export function randomWords(bench: FormatBench): void {
  const random = generator(bench.seed);
  const memory = new PhysicalMemory();
  memory.addRam(0, FRAMES);
  const { addressLo, tableLo, blockLo, granuleShift } = bench.format;
  const tables = Math.min(8, FRAMES / 2 ** granuleShift);
  for (let round = 0; round < 20; round++) {
    for (let at = 0; at < tables * 2 ** granuleShift; at += 8) {
      const table = (random(tables) << granuleShift) & addressLo;
      const flip = random(3) === 0 ? 1 << random(32) : 0;
      memory.store64(at, (table | tableLo | (random(4) === 0 ? blockLo : 0)) ^ flip, random(6) === 0 ? 1 << random(32) : 0);
    }
    for (let i = 0; i < 200; i++) bench.agree(memory, 0, random(2 ** 30) * 2 ** random(10), ` (seed ${bench.seed}, round ${round})`);
  }
}
