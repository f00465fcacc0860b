import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { IommuError } from "../errors.js";
import { PhysicalMemory } from "./physical-memory.js";

describe("PhysicalMemory", () => {
  it("gives back what was stored, across the bank, blocks and windows", () => {
    const window = new Uint8Array(8192);
    const memory = new PhysicalMemory();
    memory.addRam(0, 0x10_1000);
    memory.addRam(0x10_1000, 0x20_0000);
    memory.addWindow(0x30_1000, 8192, {
      read: (offset, target) => target.set(window.subarray(offset, offset + target.length)),
      write: (offset, source) => window.set(source, offset),
    });
    const model = new Uint8Array(0x30_3000);
    const store = fc.record({ pa: fc.integer({ min: 0, max: model.length - 1 }), bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }) });
    fc.assert(
      fc.property(fc.array(store, { maxLength: 20 }), (stores) => {
        for (const { pa, bytes } of stores) {
          const fits = pa + bytes.length <= model.length;
          expect(memory.write(pa, bytes)).toBe(fits);
          model.set(bytes.subarray(0, model.length - pa), pa);
          const got = new Uint8Array(Math.min(bytes.length, model.length - pa));
          expect(memory.read(pa, got)).toBe(true);
          expect(got).toEqual(model.slice(pa, pa + got.length));
        }
      }),
    );
  });

  it("answers nothing where nothing is, and where a client is gone", () => {
    const memory = new PhysicalMemory();
    memory.addRam(0, 4096);
    memory.addWindow(0x10_0000, 4096, {
      read: () => {
        throw new IommuError("EFAULT", { message: "gone", rule: "a test" });
      },
      write: () => {
        throw new IommuError("EFAULT", { message: "gone", rule: "a test" });
      },
    });
    expect(memory.load64(0x5000)).toBe(false);
    expect(memory.load64(2 ** 52)).toBe(false);
    expect(memory.store64(0x10_0000, 1, 2)).toBe(false);
    expect(memory.write(4090, new Uint8Array(8))).toBe(false);
  });

  it("refuses overlapping and unaligned regions", () => {
    const memory = new PhysicalMemory();
    memory.addRam(0, 0x10_0000);
    expect(() => memory.addRam(0xf_f000, 0x1000)).toThrow("overlaps");
    expect(() => memory.addRam(0x20_0010, 0x1000)).toThrow("whole pages");
  });

  it("keeps words and bytes in step", () => {
    const memory = new PhysicalMemory();
    memory.addRam(0, 0x20_0000);
    memory.writeU64(0x1000, 0x8877_6655_4433_2211n);
    const bytes = new Uint8Array(8);
    memory.read(0x1000, bytes);
    expect(Array.from(bytes)).toEqual([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    memory.or64(0x1000, 0, 1 << 31);
    expect(memory.readU64(0x1000)).toBe(0x8877_6655_4433_2211n | (1n << 63n));
  });
});
