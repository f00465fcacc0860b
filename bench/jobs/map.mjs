/** map.mjs PAGES: one extent of 4 KiB leaves; the median of several maps. */
import { PageTable } from "../../packages/core/dist/index.js";
import { print, tables, x86 } from "./common.mjs";

const pages = Number(process.argv[2]);
const format = x86("4K only", []);
const { memory, frames } = tables(format, 1);

function mapOnce() {
  const table = new PageTable(memory, frames, format, 3);
  const start = process.hrtime.bigint();
  table.map(0, 0x55, pages, 7);
  const ns = Number(process.hrtime.bigint() - start) / pages;
  if (table.lookup(pages - 1) !== 0x55 + pages - 1) throw new Error("not mapped");
  table.free();
  return ns;
}

const WARM = 3;
for (let i = 0; i < WARM; i++) mapOnce();
const times = Array.from({ length: 5 }, mapOnce).sort((a, b) => a - b);
print({ ns: times[2] });
