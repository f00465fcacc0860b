/** What the jobs share. Each job is a process of its own and keeps what it measures in constants, as a program would. */
import { createFormat, FrameAllocator, PageTable, PhysicalMemory } from "../../packages/core/dist/index.js";
import { VtdUnit } from "../../packages/hw-vtd/dist/index.js";
import { PRESETS } from "../../packages/hw-vtd/dist/presets.js";
import { firstStageFormat, readCapabilities, secondStageFormat } from "../../packages/hw-vtd/dist/spec/index.js";

export const COUNT = 1 << 20;
/** Rounds before the clock starts: by then the compiler has seen enough. */
const WARM = 3;

/** Nanoseconds for one of `count` operations that `run` makes. */
export function time(run, count = COUNT, rounds = 6) {
  for (let i = 0; i < WARM; i++) run();
  const start = process.hrtime.bigint();
  for (let i = 0; i < rounds; i++) run();
  return Number(process.hrtime.bigint() - start) / count / rounds;
}

export const print = (result) => console.log(JSON.stringify(result));

/** The same sequence as in baseline.c. */
export function randomPages(count, pages) {
  const list = new Uint32Array(count);
  let state = 12345;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    list[i] = Number((BigInt(state) * BigInt(pages)) >> 32n);
  }
  return list;
}

export const x86 = (name, leafLevels, extra = {}) =>
  createFormat({
    name, maxLevel: 3, presentMask: 1, leafMask: 0x80, leafValue: 0x80, leafLevels, addressWidth: 52,
    reserved: (level, leaf) => (15n << 48n) | (leaf ? 0n : 0x80n), tableLo: 7, blockLo: 0x80, ...extra,
  });

/** Memory with `pages` pages mapped by 4 KiB leaves: the output is not aligned for larger ones. */
export function tables(format, pages, leafLo = 7) {
  const memory = new PhysicalMemory();
  memory.addRam(0, 2 ** 28);
  const frames = new FrameAllocator(memory, 2 ** 20, 2 ** 28);
  const table = new PageTable(memory, frames, format, 3);
  table.map(0, 0x100001, pages, leafLo);
  return { memory, frames, table };
}

/** ECAP.NEST */
const NEST = 1n << 26n;
const NO_CACHE = { sets: 0, ways: 1 };
/** Nothing of the tables is kept, so that a miss in the IOTLB reads every level. */
export const NO_TABLE_CACHES = { firstStageTables: NO_CACHE, secondStageTables: NO_CACHE };

/** ECAP.DT, and DTE of a context entry: the device may ask for translations. */
const DEVICE_TLB = 4n;

/** A unit in scalable mode whose 00:03.0 is translated by `entry`, the first words of a PASID table entry. */
function unitFor(memory, frames, entry, { cap, ecap, ...rest }, caches) {
  const unit = new VtdUnit(memory, { ...rest, cap, ecap, caches });
  const [root, context, directory, pasidTable] = [frames.alloc(), frames.alloc(), frames.alloc(), frames.alloc()];
  memory.writeU64(root, BigInt(context) | 1n);
  memory.writeU64(context + 0x18 * 32, BigInt(directory) | (ecap & DEVICE_TLB) | 1n);
  memory.writeU64(directory, BigInt(pasidTable) | 1n);
  entry.forEach((word, i) => memory.writeU64(pasidTable + i * 8, word));
  unit.write(0x20, 8, BigInt(root) | 0x400n);
  unit.write(0x18, 4, 0x4000_0000n);
  unit.write(0x18, 4, 0x8000_0000n);
  return unit;
}

/** DID 5, snooped walks (PWSNP). */
const DOMAIN = 5n | (1n << 23n);

/** A first-stage table of `pages` pages, accessed and dirty already. */
export function scalableUnit(pages, caches = {}) {
  const preset = PRESETS.scalable;
  const { memory, frames, table } = tables(firstStageFormat(capabilitiesOf(preset)), pages, 0x67);
  return unitFor(memory, frames, [(1n << 6n) | 1n, DOMAIN, BigInt(table.root)], preset, caches);
}

const capabilitiesOf = ({ version, cap, ecap, haw }) => readCapabilities(version, cap, ecap, haw);

/** The same through a second stage of 4 KiB pages, four levels, that maps the first 128 MiB and the pages themselves one to one. */
export const nestedUnit = (pages, caches = {}) => nestedBoard(pages, caches).unit;

/** The unit, and its memory. */
export function nestedBoard(pages, caches = {}, deviceTlb = false) {
  const preset = { ...PRESETS.scalable, ecap: PRESETS.scalable.ecap | NEST | (deviceTlb ? DEVICE_TLB : 0n) };
  const caps = capabilitiesOf(preset);
  const { memory, frames, table } = tables(firstStageFormat(caps), pages, 0x67);
  const second = new PageTable(memory, frames, { ...secondStageFormat(caps), leafLevels: 1 }, 3);
  second.map(0, 0, 2 ** 15, 3);
  second.map(0x100001, 0x100001, pages, 3);
  const entry = [BigInt(second.root) | (2n << 2n) | (3n << 6n) | 1n, DOMAIN, BigInt(table.root)];
  return { memory, unit: unitFor(memory, frames, entry, preset, caches) };
}
