/** The JavaScript side of the benchmarks: one job a process; prints JSON. */
import { createFormat, FrameAllocator, Iotlb, PageTable, PhysicalMemory, WalkResult, walk } from "../packages/core/dist/index.js";
import { VtdUnit } from "../packages/hw-vtd/dist/index.js";
import { PRESETS } from "../packages/hw-vtd/dist/presets.js";
import { firstStageFormat, readCapabilities, secondStageFormat } from "../packages/hw-vtd/dist/spec/index.js";

const COUNT = 1 << 20;
const now = () => Number(process.hrtime.bigint());

/** The same sequence as in baseline.c. */
function randomPages(count, pages) {
  const list = new Uint32Array(count);
  let state = 12345;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    list[i] = Number((BigInt(state) * BigInt(pages)) >> 32n);
  }
  return list;
}

const x86 = (name, leafLevels, extra = {}) =>
  createFormat({
    name, maxLevel: 3, presentMask: 1, leafMask: 0x80, leafValue: 0x80, leafLevels, addressWidth: 52,
    reserved: (level, leaf) => (15n << 48n) | (leaf ? 0n : 0x80n), tableLo: 7, blockLo: 0x80, ...extra,
  });

function machine(format, pages) {
  const memory = new PhysicalMemory();
  memory.addRam(0, 2 ** 28);
  const frames = new FrameAllocator(memory, 2 ** 20, 2 ** 28);
  const table = new PageTable(memory, frames, format, 3);
  table.map(0, 0x100000, pages, 7);
  return { memory, frames, table };
}

function walks({ memory, table }, format, list, out) {
  let sum = 0;
  for (let i = 0; i < list.length; i++) {
    if (walk(memory, format, table.root, 3, list[i], out) !== 0) throw new Error("not mapped");
    sum += out.outPage;
  }
  return sum;
}

const small = x86("4K only", []);

function timeWalks(m, format, list, rounds) {
  const out = new WalkResult();
  walks(m, format, list, out);
  const start = now();
  for (let i = 0; i < rounds; i++) walks(m, format, list, out);
  return (now() - start) / list.length / rounds;
}

/** A unit in scalable mode with a first-stage table for 00:03.0, its caches warm. */
function warmUnit(pages) {
  const { version, cap, ecap, haw } = PRESETS.scalable;
  const caps = readCapabilities(version, cap, ecap, haw);
  const m = machine(firstStageFormat(caps), pages);
  const unit = new VtdUnit(m.memory, { version, cap, ecap, haw });
  const [root, context, directory, table] = [m.frames.alloc(), m.frames.alloc(), m.frames.alloc(), m.frames.alloc()];
  m.memory.writeU64(root, BigInt(context) | 1n);
  m.memory.writeU64(context + 0x18 * 32, BigInt(directory) | 1n);
  m.memory.writeU64(directory, BigInt(table) | 1n);
  m.memory.writeU64(table, (1n << 6n) | 1n);
  m.memory.writeU64(table + 8, 5n | (1n << 23n));
  m.memory.writeU64(table + 16, BigInt(m.table.root));
  unit.write(0x20, 8, BigInt(root) | 0x400n);
  unit.write(0x18, 4, 0x4000_0000n);
  unit.write(0x18, 4, 0x8000_0000n);
  return unit;
}

function translations(unit, list) {
  let sum = 0;
  for (let i = 0; i < list.length; i++) {
    const page = unit.translate(0x18, -1, list[i], 1);
    if (page === -1) throw new Error("blocked");
    sum += page;
  }
  return sum;
}

const jobs = {
  walk(pages) {
    return { ns: timeWalks(machine(small, pages), small, randomPages(COUNT, pages), 6) };
  },

  iotlb() {
    const tlb = new Iotlb({ sets: 256, ways: 4 });
    for (let page = 0; page < 1024; page++) tlb.insert(7, -1, page, 12, page ^ 0x55, 3, 0, 0);
    const list = randomPages(COUNT, 1024);
    const run = () => {
      let sum = 0;
      for (let i = 0; i < list.length; i++) {
        const slot = tlb.lookup(7, -1, list[i]);
        if (slot === -1) throw new Error("miss");
        sum += tlb.outPage[slot];
      }
      return sum;
    };
    run();
    const start = now();
    for (let i = 0; i < 10; i++) run();
    return { ns: (now() - start) / COUNT / 10 };
  },

  translate() {
    const unit = warmUnit(512);
    const list = randomPages(COUNT, 256);
    translations(unit, list);
    const start = now();
    for (let i = 0; i < 6; i++) translations(unit, list);
    return { ns: (now() - start) / COUNT / 6 };
  },

  allocation() {
    const unit = warmUnit(512);
    const list = randomPages(COUNT, 256);
    translations(unit, list);
    gc();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 10; i++) translations(unit, list);
    const after = process.memoryUsage().heapUsed;
    return { bytes: after - before, count: COUNT * 10 };
  },

  formats() {
    const caps = readCapabilities(0x70, PRESETS.scalable.cap, PRESETS.scalable.ecap, 48);
    const arm = createFormat({
      name: "Arm-like", maxLevel: 3, presentMask: 1, presentValue: 1, leafMask: 2, leafValue: 0, pageMask: 3, pageValue: 3, leafLevels: [1, 2],
      illegalLeaf: 1, addressWidth: 48, reserved: () => 0n, tableLo: 3, pageLo: 3, blockLo: 1,
    });
    const four = [small, firstStageFormat(caps), secondStageFormat(caps), x86("no gigabyte", [1])];
    const list = randomPages(COUNT >> 2, 16384);
    const prepare = (formats) => formats.map((format) => [machine(format, 16384), format]);
    const time = (pairs) => pairs.reduce((sum, [m, format]) => sum + timeWalks(m, format, list, 4), 0) / pairs.length;
    const first = prepare(four);
    time(first);
    const before = time(first);
    const more = prepare([arm, x86("outsider", [1, 2], { addressWidth: 46 })]);
    time(more);
    return { four: before, six: time(first) };
  },

  map(pages) {
    const { table, frames, memory } = machine(small, 1);
    const warm = new PageTable(memory, frames, small, 3);
    warm.map(0, 0x55, pages, 7);
    warm.free();
    const fresh = new PageTable(memory, frames, small, 3);
    const start = now();
    fresh.map(0, 0x55, pages, 7);
    const ns = (now() - start) / pages;
    if (fresh.lookup(pages - 1) !== 0x55 + pages - 1 || table.lookup(0) === -1) throw new Error("not mapped");
    return { ns };
  },
};

const [job, ...args] = process.argv.slice(2);
console.log(JSON.stringify(jobs[job](...args.map(Number))));
