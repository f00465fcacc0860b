/** pasids.mjs: 64 units with 64 devices each, every device with 1,000 PASIDs, all of them used once. What the process takes at most. */
import { FrameAllocator, PageTable, PhysicalMemory } from "../../packages/core/dist/index.js";
import { VtdUnit } from "../../packages/hw-vtd/dist/index.js";
import { PRESETS } from "../../packages/hw-vtd/dist/presets.js";
import { firstStageFormat } from "../../packages/hw-vtd/dist/spec/index.js";
import { print } from "./common.mjs";

const [UNITS, DEVICES, PASIDS] = [64, 64, 1000];
const memory = new PhysicalMemory();
memory.addRam(0, 2 ** 29);
const frames = new FrameAllocator(memory, 2 ** 20, 2 ** 29);
const units = Array.from({ length: UNITS }, (_, i) => new VtdUnit(memory, { ...PRESETS.scalable, name: `vtd${i}` }));
const table = new PageTable(memory, frames, firstStageFormat(units[0].capabilities), 3);
table.map(1, 0x100001, 1, 0x67);

for (const unit of units) {
  const [root, context] = [frames.alloc(), frames.alloc()];
  memory.writeU64(root, BigInt(context) | 1n);
  for (let device = 0; device < DEVICES; device++) {
    const directory = frames.alloc();
    memory.writeU64(context + device * 32, BigInt(directory) | 9n);
    memory.writeU64(context + device * 32 + 8, 0xfffn); // RID_PASID, which nobody uses
    for (let pasid = 1, entries = 0; pasid <= PASIDS; pasid++) {
      if (entries === 0 || pasid % 64 === 0) {
        entries = frames.alloc();
        memory.writeU64(directory + (pasid >> 6) * 8, BigInt(entries) | 1n);
      }
      const at = entries + (pasid & 63) * 64;
      memory.store64(at, 0x41, 0);
      memory.store64(at + 8, 5 | (1 << 23), 0);
      memory.store64(at + 16, table.root, 0);
    }
  }
  unit.write(0x20, 8, BigInt(root) | 0x400n);
  unit.write(0x18, 4, 0x4000_0000n);
  unit.write(0x18, 4, 0x8000_0000n);
}
for (const unit of units) {
  for (let device = 0; device < DEVICES; device++) {
    for (let pasid = 1; pasid <= PASIDS; pasid++) if (unit.translate(device, pasid, 1, 1) !== 0x100001) throw new Error("blocked");
  }
}
print({ mib: process.resourceUsage().maxRSS / 1024, tables: (frames.inUse * 4096) / 2 ** 20 });
