import { describe, expect, it } from "vitest";
import { FrameAllocator } from "../memory/frame-allocator.js";
import { PhysicalMemory } from "../memory/physical-memory.js";
import { createFormat, IllegalLeaf, type PageTableFormat } from "./format.js";
import { PageTable } from "./page-table.js";

const x86 = createFormat({
  name: "x86-like", maxLevel: 3, presentMask: 1, leafMask: 0x80, leafValue: 0x80, leafLevels: [1, 2], addressWidth: 52,
  reserved: (level, leaf) => (leaf && level > 0 ? ((1n << BigInt(12 + 9 * level)) - 1n) & ~0x1fffn : 0n) | (leaf ? 0n : 0x80n),
  tableLo: 3, blockLo: 0x80,
});

function arm(granuleShift: number, maxLevel: number, leafLevels: number[]): PageTableFormat {
  return createFormat({
    name: `Arm-like ${2 ** (granuleShift - 10)}K`, granuleShift, maxLevel, presentMask: 1, leafMask: 2, leafValue: 0,
    pageMask: 3, pageValue: 3, leafLevels, illegalLeaf: IllegalLeaf.NOT_PRESENT, addressWidth: 48, reserved: () => 0n, tableLo: 3, pageLo: 3, blockLo: 1,
  });
}

const formats = [x86, arm(12, 3, [1, 2]), arm(14, 2, [1]), arm(16, 2, [1])];

// What a format does in the walker and the editor is the format suite's: ../testing/format-suite.test.ts.
describe.each(formats)("page table of format $name", (format) => {
  const unit = 2 ** (format.granuleShift - 12);

  it("leaves nothing behind when memory runs out", () => {
    const memory = new PhysicalMemory();
    memory.addRam(0, 2 ** 22);
    const frames = new FrameAllocator(memory, 2 ** 20, 2 ** 20 + 4 * unit * 4096);
    const table = new PageTable(memory, frames, format, format.maxLevel);
    const before = frames.inUse;
    const far = 2 ** 24;
    expect(() => {
      for (let i = 0; i < 8; i++) table.map(i * far * unit, 0, unit, 3);
    }).toThrow("frames are left");
    table.unmap(0, 8 * far * unit).freed.forEach((frame) => frames.free(frame, unit));
    expect(frames.inUse).toBe(before);
  });
});

it("a format whose table bits do not make a table is refused", () => {
  const options = { name: "odd", maxLevel: 3, presentMask: 1, leafMask: 2, leafValue: 2, leafLevels: [1], addressWidth: 48, reserved: () => 0n };
  expect(() => createFormat({ ...options, tableLo: 3 })).toThrow("odd: tableLo 0x3 does not make a present table entry");
  expect(() => createFormat({ ...options, tableLo: 0 })).toThrow("tableLo");
  expect(() => createFormat({ ...options, tableLo: 1, pageMask: 2, pageValue: 2 })).toThrow("pageLo 0x0 does not make a page");
});
