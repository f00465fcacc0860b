// @iommukit/core alone: the page-table engine on a format of your own.
import { createFormat, FrameAllocator, PageTable, PhysicalMemory } from "@iommukit/core";

const memory = new PhysicalMemory();
memory.addRam(0, 2 ** 26);
const frames = new FrameAllocator(memory, 2 ** 20, 2 ** 26);

// Three levels of 4 KiB tables; bit 0 is "present", bit 1 "large page".
const format = createFormat({
  name: "mine",
  maxLevel: 2,
  presentMask: 1,
  leafMask: 2,
  leafValue: 2,
  leafLevels: [1],
  addressWidth: 48,
  reserved: () => 0n,
  tableLo: 1,
  blockLo: 2,
});
const table = new PageTable(memory, frames, format, format.maxLevel);
table.map(0x400, 0x12200, 0x201, 1); // pages, not bytes: one large page and one small one
console.log("page 0x5ff is at", `0x${table.lookup(0x5ff).toString(16)}`);
if (table.lookup(0x5ff) !== 0x123ff || table.lookup(0x601) !== -1) process.exit(1);
