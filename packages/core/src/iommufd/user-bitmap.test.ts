import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { refuse } from "../errors.js";
import { UserBitmap } from "./user-bitmap.js";

const PAGES = 4;
const range = fc.tuple(fc.nat(PAGES * 4096 * 8 - 1), fc.nat(40_000)).map(([first, more]) => [first, Math.min(first + more, PAGES * 4096 * 8 - 1)] as const);

/** Memory of four pages at 0x10000, of which some cannot be reached. */
class Memory {
  readonly bytes = new Uint8Array(PAGES * 4096);
  accesses = 0;
  constructor(readonly holes: readonly number[] = []) {}

  read(address: bigint, target: Uint8Array): void {
    target.set(this.#part(address, target.length));
  }

  write(address: bigint, source: Uint8Array): void {
    this.#part(address, source.length).set(source);
  }

  #part(address: bigint, length: number): Uint8Array {
    const at = Number(address - 0x10000n);
    this.accesses++;
    const touches = (page: number): boolean => at < (page + 1) * 4096 && at + length > page * 4096;
    if (at < 0 || at + length > this.bytes.length || this.holes.some(touches)) refuse("EFAULT", "a hole", { rule: "a test" });
    return this.bytes.subarray(at, at + length);
  }
}

describe("bits in a caller's bitmap", () => {
  it("are those of a naive bitmap, outside of what cannot be reached", () => {
    fc.assert(
      fc.property(fc.array(range, { maxLength: 8 }), fc.nat(200), fc.subarray([0, 1, 2, 3]), (ranges, offset, holes) => {
        const memory = new Memory(holes);
        const expected = memory.bytes.slice();
        const bitmap = new UserBitmap(memory, 0x10000n + BigInt(offset));
        for (const [first, last] of ranges) {
          bitmap.set(BigInt(first), BigInt(last));
          for (let bit = first + offset * 8; bit <= last + offset * 8; bit++) {
            const byte = bit >> 3;
            if (byte < expected.length && !holes.includes(byte >> 12)) expected[byte] |= 1 << (bit & 7);
          }
        }
        bitmap.flush();
        expect(Buffer.compare(memory.bytes, expected)).toBe(0);
      }),
      { numRuns: 200 },
    );
  });

  it("cost two copies a page, however many there are", () => {
    const memory = new Memory();
    const bitmap = new UserBitmap(memory, 0x10000n);
    for (let bit = 0n; bit < BigInt(PAGES * 4096 * 8); bit += 2n) bitmap.set(bit, bit);
    bitmap.flush();
    expect(memory.bytes.every((byte) => byte === 0x55)).toBe(true);
    expect(memory.accesses).toBe(2 * PAGES);
  });
});
