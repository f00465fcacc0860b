/** walk.mjs PAGES: random 4-level walks. */
import { WalkResult, walk } from "../../packages/core/dist/index.js";
import { COUNT, print, randomPages, tables, time, x86 } from "./common.mjs";

const pages = Number(process.argv[2]);
const format = x86("4K only", []);
const { memory, table: { root } } = tables(format, pages);
const list = randomPages(COUNT, pages);
const out = new WalkResult();

function run() {
  let sum = 0;
  for (let i = 0; i < COUNT; i++) {
    if (walk(memory, format, root, 3, list[i], out) !== 0) throw new Error("not mapped");
    sum += out.outPage;
  }
  return sum;
}

print({ ns: time(run) });
