/** translate-miss.mjs first-stage|nested: translations of random pages of 64 MiB, which miss the IOTLB and read every level of the tables. Needs --expose-gc. */
import { COUNT, nestedUnit, NO_TABLE_CACHES, print, randomPages, scalableUnit, time } from "./common.mjs";

const PAGES = 16384;
const unit = process.argv[2] === "nested" ? nestedUnit(PAGES, NO_TABLE_CACHES) : scalableUnit(PAGES, NO_TABLE_CACHES);
const list = randomPages(COUNT, PAGES);

function run() {
  let sum = 0;
  for (let i = 0; i < COUNT; i++) {
    const page = unit.translate(0x18, -1, list[i], 1);
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
const { hits, misses } = unit.caches.iotlb.stats;
print({ ns, missRate: misses / (hits + misses), bytesPerTranslation: (after - before) / (4 * COUNT) });
