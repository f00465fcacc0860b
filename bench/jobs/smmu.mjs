/**
 * smmu.mjs hit|miss|nested: translations of an SMMUv3, 4K granule and four levels: with warm caches, or of random pages of 64 MiB, which miss and
 * read every level, of stage 1 alone or through a stage 2 of small pages. Needs --expose-gc.
 */
import { encodeFields, PageTable } from "../../packages/core/dist/index.js";
import { SmmuUnit } from "../../packages/hw-smmu/dist/index.js";
import { CD, Reg, STE, vmsaFormat } from "../../packages/hw-smmu/dist/spec/index.js";
import { COUNT, print, randomPages, tables, time } from "./common.mjs";

const kind = process.argv[2];
const PAGES = kind === "hit" ? 512 : 16384;
const STREAM = 0x18;
/** Both stages, AArch64, 16-bit ASIDs and VMIDs, little-endian, terminate model; 16-bit StreamIDs; 48-bit addresses, all granules. */
const IDENTIFICATION = { idr0: 0x0d44101b, idr1: 0x02730010, idr3: 0x1414, idr5: 0x75, aidr: 1 };
/** AF, readable and writable: nG, AP[2:1] = 01 and ISH in stage 1, S2AP = 11 in stage 2. */
const STAGE1_LEAF = 0xf40;
const STAGE2_LEAF = 0x7fc;

const format = vmsaFormat({ granule: 0, outputBits: 48, ds: false, wide: false });
const { memory, frames, table } = tables({ ...format, leafLevels: 1 }, PAGES, STAGE1_LEAF);

function stage2() {
  const second = new PageTable(memory, frames, { ...format, leafLevels: 1 }, 3);
  second.map(0, 0, 2 ** 15, STAGE2_LEAF);
  second.map(0x100001, 0x100001, PAGES, STAGE2_LEAF);
  return { S2VMID: 1n, S2T0SZ: 16n, S2SL0: 2n, S2PS: 5n, S2AA64: 1n, S2R: 1n, S2TTB: BigInt(second.root) >> 4n };
}

const none = { sets: 0, ways: 1 };
const nested = kind === "nested";
const unit = new SmmuUnit(memory, {
  identification: IDENTIFICATION,
  ...(kind === "hit" ? {} : { caches: { input: { sets: 64, ways: 8 }, intermediate: none, configurations: 256 } }),
});
const [streams, contexts] = [frames.alloc(4), frames.alloc()];
const store = (at, words) => words.forEach((word, i) => memory.writeU64(at + i * 8, word));
store(streams + STREAM * 64, encodeFields(STE, { V: 1n, Config: nested ? 7n : 5n, S1ContextPtr: BigInt(contexts) >> 6n, ...(nested ? stage2() : {}) }));
store(contexts, encodeFields(CD, { V: 1n, T0SZ: 16n, EPD1: 1n, IPS: 5n, AA64: 1n, R: 1n, A: 1n, ASET: 1n, ASID: 1n, TTB0: BigInt(table.root) >> 4n }));
unit.write(Reg.STRTAB_BASE, 8, BigInt(streams));
unit.write(Reg.STRTAB_BASE_CFG, 4, 8n);
unit.write(Reg.CR0, 4, 1n);

const list = randomPages(COUNT, kind === "hit" ? 256 : PAGES);
function run() {
  let sum = 0;
  for (let i = 0; i < COUNT; i++) {
    const page = unit.translate(STREAM, -1, list[i], 1);
    if (page === -1) throw new Error("blocked");
    sum += page;
  }
  return sum;
}

const ns = time(run, COUNT, 3);
gc();
const before = process.memoryUsage().heapUsed;
for (let i = 0; i < 4; i++) run();
const after = process.memoryUsage().heapUsed;
const { hits, misses } = unit.tlbs.input.stats;
print({ ns, missRate: misses / (hits + misses), bytesPerTranslation: (after - before) / (4 * COUNT) });
