/** translate.mjs: whole translations with warm caches; also what they leave on the heap. Needs --expose-gc. */
import { COUNT, print, randomPages, scalableUnit, time } from "./common.mjs";

const unit = scalableUnit(512);
const list = randomPages(COUNT, 256);

function run() {
  let sum = 0;
  for (let i = 0; i < COUNT; i++) {
    const page = unit.translate(0x18, -1, list[i], 1);
    if (page === -1) throw new Error("blocked");
    sum += page;
  }
  return sum;
}

const ns = time(run);
gc();
const before = process.memoryUsage().heapUsed;
for (let i = 0; i < 10; i++) run();
const after = process.memoryUsage().heapUsed;
print({ ns, bytesPerTranslation: (after - before) / (10 * COUNT) });
