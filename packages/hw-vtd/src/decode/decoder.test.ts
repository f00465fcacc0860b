import { readFileSync } from "node:fs";
import type { TableSource } from "@iommukit/core";
import { loadCore, loadTables } from "@iommukit/core/decode";
import { FormatError, gunzipIfNeeded } from "@iommukit/core/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PRESETS } from "../presets.js";
import { vtdTableDecoder } from "./decoder.js";

/** With SSIRWS, which no preset has. */
const registers = (mode: bigint, ssirwe = false): Record<string, bigint> => ({
  RTADDR: 0x1000n | (mode << 10n) | (ssirwe ? 0x80n : 0n), CAP: PRESETS["server-spr"].cap, ECAP: PRESETS["server-spr"].ecap | (1n << 57n),
});

/** 16 pages of 64-bit words. */
function memoryOf(words: BigUint64Array, mode: bigint, ssirwe = false): TableSource {
  const bytes = new Uint8Array(words.buffer);
  return {
    iommu: "vtd",
    registers: registers(mode, ssirwe),
    read(pa, target) {
      if (pa + target.length > bytes.length) return false;
      target.set(bytes.subarray(pa, pa + target.length));
      return true;
    },
  };
}

/** Leaves of every space, at most `limit`; problems are found on the way. */
function explore(source: TableSource, limit: number): { leaves: number; problems: string[] } {
  let leaves = 0;
  const problems: string[] = [];
  let spaces = 0;
  for (const space of vtdTableDecoder.dump(source)) {
    for (const _ of space.leaves()) if (++leaves >= limit) return { leaves, problems };
    if (space.problem) problems.push(space.problem);
    if (++spaces >= 300) break;
  }
  return { leaves, problems };
}

describe("VT-d decoder on damaged tables", () => {
  it("answers any memory, in any mode", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 3n }), fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: 32, maxLength: 32 }), fc.integer({ min: 0, max: 0xffff }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (mode, noise, rid, iova) => {
        const words = new BigUint64Array(16 * 512);
        // Pointers into these pages, mostly.
        for (let i = 0; i < words.length; i++) {
          const word = noise[i % 32] >> BigInt(i % 11);
          words[i] = (word & 0xfffn) | ((word >> 30n) % 18n) << 12n | (word % 5n === 0n ? word & (0xfffn << 48n) : 0n);
        }
        const source = memoryOf(words, mode, rid % 5 === 0);
        for (const access of ["read", "write", "atomic"] as const) {
          const { verdict } = vtdTableDecoder.walk(source, { rid, iova, access, privileged: rid % 7 === 0, ...(rid % 3 === 0 ? { pasid: rid } : {}) });
          if (!verdict.ok) expect(verdict.reason).not.toBe("");
        }
        explore(source, 2000);
      }),
      { numRuns: 60 },
    );
  });

  it("says that a table points back to itself", () => {
    const words = new BigUint64Array(16 * 512);
    words[512] = 0x2001n; // root: bus 0
    words[2 * 512] = 0x3001n; // context of 00:00.0, legacy, second stage at 0x3000
    words[2 * 512 + 1] = 2n | (1n << 8n);
    words[3 * 512 + 5] = 0x3003n;
    expect(explore(memoryOf(words, 0n), 100)).toEqual({ leaves: 0, problems: ["the table at 0x3000 points back to itself"] });
  });

  it("ends when tables name each other without end", () => {
    const words = new BigUint64Array(16 * 512);
    for (let i = 0; i < 512; i += 2) words[512 + i] = 0x2001n;
    for (let i = 0; i < 512; i += 2) {
      words[2 * 512 + i] = 0x3001n;
      words[2 * 512 + i + 1] = 2n | (1n << 8n);
    }
    // Four pages, every entry of each the next one; the last holds leaves. 2^36 leaves a device.
    for (let table = 3; table < 6; table++) for (let i = 0; i < 512; i++) words[table * 512 + i] = BigInt(table + 1) << 12n | 3n;
    for (let i = 0; i < 512; i++) words[6 * 512 + i] = 0x7003n;
    expect(explore(memoryOf(words, 0n), 5000).leaves).toBe(5000);
  });

  it("steps over what a second stage does not map, however large the guest's page", () => {
    const words = new BigUint64Array(16 * 512);
    words[512] = 0x2001n;
    words[2 * 512] = 0x3001n | (1n << 9n); // scalable-mode context of 00:00.0
    words[3 * 512] = 0x4001n;
    const entry = [0x1n | (2n << 2n) | (3n << 6n) | 0x5000n, 1n, 0x6000n, 0n];
    for (const [i, word] of entry.entries()) words[4 * 512 + i] = word;
    for (let level = 0; level < 2; level++) words[(5 + level) * 512] = level === 0 ? 0x7003n : 0x8007n;
    words[7 * 512] = 0x9003n; // second stage: the first 1 GiB, of which a page is mapped
    words[9 * 512] = 0xa003n;
    for (let page = 0; page < 16; page++) words[10 * 512 + page] = BigInt(page << 12) | 3n;
    for (let i = 0; i < 512; i++) words[8 * 512 + i] = (BigInt(i) << 30n) | 0x87n; // first stage: 512 pages of 1 GiB
    const source = memoryOf(words, 1n);
    const [space] = vtdTableDecoder.dump(source);
    expect(space.type).toBe("nested");
    expect([...space.leaves()].length).toBe(16);
    expect(space.problem).toContain("not reached, reason 0x79 (SSS.2)");
  });

  it("refuses a root table that is not in the dump, and registers that are missing", () => {
    const words = new BigUint64Array(512);
    expect(() => explore(memoryOf(words, 0n), 1)).toThrow("root table at 0x1000 is not in the dump");
    expect(() => vtdTableDecoder.walk({ ...memoryOf(words, 0n), registers: {} }, { rid: 0, iova: 0n, access: "read" })).toThrow("RTADDR");
  });
});

describe("dumps that are cut or damaged", () => {
  const core = gunzipIfNeeded(readFileSync(new URL("../../../../conformance/tables/linux-fs-core.core.gz", import.meta.url)));

  it("an ELF core, cut anywhere, is refused, or all of its memory is there", () => {
    const memory = (bytes: Uint8Array): Buffer => {
      const target = Buffer.alloc(0x10_0000);
      loadCore(bytes, "vtd", registers(1n)).read(0, target);
      return target;
    };
    const whole = memory(core);
    let refused = 0;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: core.length - 1 }), (length) => {
        try {
          expect(memory(core.subarray(0, length)).equals(whole)).toBe(true);
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
          refused++;
        }
      }),
    );
    expect(refused).toBeGreaterThan(10);
  });

  it("an ELF core with any bytes in its headers is refused or read", () => {
    fc.assert(
      fc.property(fc.array(fc.record({ at: fc.integer({ min: 4, max: 255 }), byte: fc.integer({ min: 0, max: 255 }) }), { minLength: 1, maxLength: 12 }), (changes) => {
        const bytes = core.slice(0, 4096);
        for (const { at, byte } of changes) bytes[at] = byte;
        try {
          loadCore(bytes, "vtd", registers(1n)).read(0x1000, new Uint8Array(64));
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
    );
  });

  it.each([
    ["no registers", { iommu: "vtd", pages: [] }, "registers is not an object"],
    ["a page of half a byte", { iommu: "vtd", registers: {}, pages: [{ pa: "0x1000", hex: "abc" }] }, "page 0x1000 is not hexadecimal bytes"],
    ["a page off the grid", { iommu: "vtd", registers: {}, pages: [{ pa: "0x1001", hex: "" }] }, "page 0x1001 is not one page"],
    ["a page too long", { iommu: "vtd", registers: {}, pages: [{ pa: 0, hex: "00".repeat(4097) }] }, "page 0x0 is not one page"],
    ["a register that is text", { iommu: "vtd", registers: { RTADDR: "x" }, pages: [] }, "register RTADDR is not a number"],
    ["pages that are not a list", { iommu: "vtd", registers: {}, pages: 7 }, "pages is not a list"],
  ])("tables with %s are refused", (_what, file, message) => {
    expect(() => loadTables(file)).toThrow(message);
  });
});
