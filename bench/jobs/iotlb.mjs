/** iotlb.mjs: hits in an IOTLB of 1,024 entries. */
import { Iotlb } from "../../packages/core/dist/index.js";
import { COUNT, print, randomPages, time } from "./common.mjs";

const tlb = new Iotlb({ sets: 256, ways: 4 });
for (let page = 0; page < 1024; page++) tlb.insert(7, -1, page, 12, page ^ 0x55, 3, 0, 0);
const list = randomPages(COUNT, 1024);

function run() {
  let sum = 0;
  for (let i = 0; i < COUNT; i++) {
    const slot = tlb.lookup(7, -1, list[i]);
    if (slot === -1) throw new Error("miss");
    sum += tlb.output(slot, list[i]);
  }
  return sum;
}

print({ ns: time(run) });
