import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PhysicalMemory } from "../memory/physical-memory.js";
import { createFormat } from "./format.js";
import { PlainWalk } from "./plain-walk.js";
import { WalkResult, WalkStatus, walk } from "./walk.js";

const ACCESSED = 0x20;
const format = createFormat({
  name: "plain", maxLevel: 4, presentMask: 1, leafMask: 0x80, leafValue: 0x80, leafLevels: [1, 2], addressWidth: 52,
  reserved: (level, leaf) => (15n << 48n) | (level === 0 || leaf ? 0n : 0x40n), tableLo: 7 | ACCESSED, blockLo: 0x80,
});

/** Two tables of each level, with the same entries but for the pages: pages 1 to 5, and 9 to 13. Each level's index is 0, 1 or 511; 1 leads to the other table. */
const INDICES = [0, 1, 511] as const;
const OTHER = 0x8000;
const index = fc.constantFrom(...INDICES);
const pages = fc.tuple(index, index, index, index, index).map((at) => at.reduce<number>((page, i, level) => page + i * 512 ** level, 0));
/** What an entry is besides plain: present, table, page or large, with a flag or without, elsewhere, with high bits. */
const oddities = fc.constantFrom(0n, 1n, BigInt(ACCESSED), 0x80n, 0x40n, BigInt(OTHER), 1n << 28n, 1n << 32n, 1n << 40n, 1n << 43n, 1n << 50n, 1n << 63n, -1n);

describe("PlainWalk", () => {
  it.each([2, 3, 4])("gives what the walker gives, or nothing, from level %i, whatever is written between walks", (topLevel) => {
    const memory = new PhysicalMemory();
    memory.addRam(0, 2 ** 20);
    const root = (topLevel + 1) * 4096;
    const result = new WalkResult();
    const plain = new PlainWalk(memory, { format, root, topLevel, flags: 1 | ACCESSED, tableFlags: 2 });
    const entryAt = (level: number, i: number, other: number): number => (level + 1) * 4096 + other + i * 8;
    for (let level = 0; level <= 4; level++) {
      for (const i of INDICES) {
        for (const other of [0, OTHER]) {
          const address = level === 0 ? (0x100 + i) * 4096 + other * 512 : level * 4096 + (i === 1 ? OTHER : 0);
          memory.writeU64(entryAt(level, i, other), BigInt(address) | 7n | BigInt(ACCESSED));
        }
      }
    }
    let found = 0;
    let refused = 0;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: topLevel }), index, fc.constantFrom(0, OTHER), oddities, fc.array(pages, { minLength: 1, maxLength: 6 }), (level, i, other, oddity, list) => {
        const at = entryAt(level, i, other);
        const check = (page: number): void => {
          const lo = plain.walk(page | 0, (page / 2 ** 27) | 0);
          const status = walk(memory, format, root, topLevel, page, result);
          const isPlain = status === WalkStatus.OK && result.level === 0 && (result.andLo & ACCESSED) !== 0 && result.entryLo !== 0;
          if (lo === 0) {
            refused++;
            return;
          }
          found++;
          expect(isPlain).toBe(true);
          expect([lo, plain.hi]).toEqual([result.entryLo, result.entryHi]);
          expect((plain.hi << 20) | (lo >>> 12)).toBe(result.outPage);
        };
        const before = memory.readU64(at) ?? 0n;
        for (const page of list) check(page);
        memory.writeU64(at, BigInt.asUintN(64, oddity === 0n ? 0n : before ^ oddity));
        for (const page of list) check(page);
        memory.writeU64(at, before);
        for (const page of list) expect(plain.walk(page | 0, (page / 2 ** 27) | 0)).not.toBe(0);
      }),
      { numRuns: 2000 },
    );
    expect(found).toBeGreaterThan(1000);
    expect(refused).toBeGreaterThan(100);
  });

  it.each([2, 3, 4])("is not led to the table at address 0 by an empty entry, from level %i", (topLevel) => {
    const memory = new PhysicalMemory();
    memory.addRam(0, 2 ** 20);
    // Its own table at every level, and a page.
    for (let i = 0; i < 512; i++) memory.writeU64(i * 8, 7n);
    for (let above = 0; above < topLevel; above++) {
      const plain = new PlainWalk(memory, { format, root: 4096, topLevel, flags: 1 });
      for (let table = 1; table <= 5; table++) memory.writeU64(table * 4096, table <= above ? BigInt((table + 1) * 4096) | 7n : 0n);
      expect(plain.walk(0, 0)).toBe(0);
      expect(plain.walk(0, 0)).toBe(0);
    }
  });

  it("finds pages for tables only in the bank", () => {
    const memory = new PhysicalMemory();
    memory.addRam(0, 2 ** 20);
    const options = { format, root: 3 * 4096, topLevel: 2, flags: 1 };
    const [any, inBank] = [new PlainWalk(memory, options), new PlainWalk(memory, { ...options, inBank: true })];
    memory.writeU64(3 * 4096, 0x2007n);
    memory.writeU64(2 * 4096, 0x1007n);
    for (const [entry, there] of [[0x5007n, true], [0x1000_5007n, false], [0x1_0000_5007n, false]] as const) {
      memory.writeU64(4096, entry);
      expect(any.walk(0, 0)).toBe(Number(BigInt.asIntN(32, entry)));
      expect(inBank.walk(0, 0) !== 0).toBe(there);
    }
  });

  it("begins only in the bank, at levels that the format has", () => {
    expect(PlainWalk.can(format, 4096, 3)).toBe(true);
    expect(PlainWalk.can(format, 2 ** 28, 3)).toBe(false);
    expect(PlainWalk.can(format, 4096, 1)).toBe(false);
  });
});
