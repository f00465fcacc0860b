import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FrameAllocator } from "../memory/frame-allocator.js";
import { PhysicalMemory } from "../memory/physical-memory.js";
import { createFormat, IllegalLeaf, levelShift, type PageTableFormat } from "./format.js";
import { PageTable } from "./page-table.js";
import { WalkResult, WalkStatus, walk } from "./walk.js";

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

function fresh(format: PageTableFormat): { memory: PhysicalMemory; frames: FrameAllocator; table: PageTable } {
  const memory = new PhysicalMemory();
  memory.addRam(0, 2 ** 28);
  const frames = new FrameAllocator(memory, 2 ** 20, 2 ** 28);
  return { memory, frames, table: new PageTable(memory, frames, format, format.maxLevel) };
}

describe.each(formats)("page table of format $name", (format) => {
  const unit = 2 ** (format.granuleShift - 12);

  it("agrees with a map of pages over any history of map and unmap", () => {
    const action = fc.record({
      map: fc.boolean(),
      page: fc.integer({ min: 0, max: 3000 }),
      count: fc.integer({ min: 1, max: 1500 }),
      out: fc.integer({ min: 0, max: 4096 }),
    });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 12 }), (actions) => {
        const { frames, table } = fresh(format);
        const model = new Map<number, number>();
        for (const { map, page, count, out } of actions) {
          const taken = Array.from({ length: count }, (_, i) => page + i).some((p) => model.has(p));
          if (!map) {
            const { removed, freed } = table.unmap(page * unit, count * unit);
            let expected = 0;
            for (let i = 0; i < count; i++) if (model.delete(page + i)) expected++;
            expect(removed).toBe(expected * unit);
            for (const frame of freed) frames.free(frame, unit);
          } else if (taken) {
            expect(() => table.map(page * unit, out * unit, count * unit, 2)).toThrow("mapped already");
          } else {
            table.map(page * unit, out * unit, count * unit, x86 === format ? 3 : 0);
            for (let i = 0; i < count; i++) model.set(page + i, out + i);
          }
        }
        for (let p = 0; p < 4600; p += 7) expect(table.lookup(p * unit)).toBe(model.has(p) ? (model.get(p) ?? 0) * unit : -1);
        table.free();
        expect(frames.inUse).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  it("uses the largest leaf that fits", () => {
    const { memory, table } = fresh(format);
    const level = 31 - Math.clz32(format.leafLevels);
    const span = 2 ** (levelShift(format, level) - 12);
    table.map(span, 2 * span, span, x86 === format ? 3 : 0);
    const out = new WalkResult();
    expect(walk(memory, format, table.root, format.maxLevel, span + 5, out)).toBe(WalkStatus.OK);
    expect(out.level).toBe(level);
    expect(out.outPage).toBe(2 * span + 5);
  });

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

describe("walk", () => {
  it("agrees with a walk in BigInt over random memory, tables that loop included", () => {
    fc.assert(
      fc.property(fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: 64, maxLength: 64 }), fc.bigInt({ min: 0n, max: 2n ** 48n - 1n }), (words, address) => {
        const memory = new PhysicalMemory();
        memory.addRam(0, 2 ** 22);
        // Entries that mostly point back into the same few pages.
        for (let i = 0; i < 2048; i++) {
          const word = words[i % 64] >> BigInt(i % 7);
          memory.writeU64(i * 8, (word & 0xfffn & ~0x80n) | ((word & 3n) << 12n) | (word % 5n === 0n ? 1n << 40n : 0n) | (word % 11n === 0n ? 0x80n : 0n));
        }
        const out = new WalkResult();
        const status = walk(memory, x86, 0, 3, Number(address >> 12n), out);
        expect([status, status === WalkStatus.OK ? out.outPage : -1]).toEqual(naive(memory, address));
      }),
    );
  });
});

/** Straight from the definition, in BigInt. */
function naive(memory: PhysicalMemory, address: bigint): [number, number] {
  let table = 0n;
  for (let level = 3; ; level--) {
    const shift = BigInt(12 + 9 * level);
    const entry = memory.readU64(Number(table + ((address >> shift) & 511n) * 8n));
    if (entry === undefined) return [WalkStatus.BUS_ERROR, -1];
    if ((entry & 1n) === 0n) return [WalkStatus.NOT_PRESENT, -1];
    const leaf = level === 0 || ((entry & 0x80n) !== 0n && level <= 2);
    if (!leaf && (entry & 0x80n) !== 0n) return [WalkStatus.RESERVED, -1];
    const base = entry & 0xf_ffff_ffff_f000n;
    if (!leaf) {
      table = base;
      continue;
    }
    const offset = (1n << shift) - 1n;
    if (level > 0 && (entry & offset & ~0x1fffn) !== 0n) return [WalkStatus.RESERVED, -1];
    return [WalkStatus.OK, Number(((base & ~offset) | (address & offset)) >> 12n)];
  }
}
