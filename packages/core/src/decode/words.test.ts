import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isText, parseStructures, splitStructures } from "./words.js";

const LOW = 0x0807_0605_0403_0201n;
const HIGH = 0x100f_0e0d_0c0b_0a09n;

describe("structures as people have them", () => {
  it.each([
    ["words", "0x0807060504030201 0x100f0e0d0c0b0a09"],
    ["words with a comma", "0x0807060504030201, 0x100f0e0d0c0b0a09"],
    ["32-bit words", "0x04030201 0x08070605 0x0c0b0a09 0x100f0e0d"],
    ["one number", "0x100f0e0d0c0b0a090807060504030201"],
    ["bytes in memory order", "0102030405060708090a0b0c0d0e0f10"],
    ["bytes apart", "01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10"],
    ["hexdump -C", "00001000  01 02 03 04 05 06 07 08  09 0a 0b 0c 0d 0e 0f 10  |................|\n00001010\n"],
    ["xxd", "00001000: 0102 0304 0506 0708 090a 0b0c 0d0e 0f10  ................"],
    ["the monitor's xp/2gx", "0000000000001000: 0x0807060504030201 0x100f0e0d0c0b0a09"],
    ["the monitor's xp/4wx", "0000000000001000: 0x04030201 0x08070605 0x0c0b0a09 0x100f0e0d"],
  ])("%s", (_what, text) => {
    expect(parseStructures(text, 128)).toEqual([[LOW, HIGH]]);
  });

  it("several, one after the other", () => {
    expect(parseStructures("0x1 0x2 0x3 0x100000004", 128)).toEqual([[1n, 2n], [3n, 0x1_0000_0004n]]);
    expect(parseStructures("01000000 02000000", 32)).toEqual([[1n], [2n]]);
    expect(parseStructures("0x1 0 0x2 0", 128)).toEqual([[1n, 0n], [2n, 0n]]);
    expect(parseStructures("0 0", 128)).toEqual([[0n, 0n]]);
    expect(parseStructures("0x1 0x2", 32)).toEqual([[1n], [2n]]);
  });

  it.each([
    ["nothing", "  \n", 64, "nothing is given"],
    ["too few words", "0x1", 128, "one word is given; the structure has 2 of 64 bits"],
    ["words that are no whole structure", "0x100000000 0x2 0x3", 128, "3 words are given"],
    ["too few bytes", "0102", 64, "2 bytes are given; the structure has 8"],
    ["half a byte", "012", 64, "3 hexadecimal digits"],
    ["a word that is too wide", "0x100000000", 32, "a word of 9 digits does not fit a structure of 32 bits"],
    ["words and bytes", "0x1 0203", 64, "mixed"],
    ["something else", "zebra", 64, '"zebra" is neither'],
    ["more than anyone reads", "00".repeat(8 * 65_537), 64, "65537 structures are given"],
  ])("refuses %s", (_what, text, bits, message) => {
    expect(() => parseStructures(text, bits)).toThrow(message);
  });

  it("give back the bytes that they were, in any notation", () => {
    fc.assert(
      fc.property(fc.constantFrom(32, 64, 128, 256, 512), fc.array(fc.uint8Array({ minLength: 64, maxLength: 64 }), { minLength: 1, maxLength: 4 }), (bits, parts) => {
        const bytes = Uint8Array.from(parts.flatMap((part) => [...part]));
        const structures = splitStructures(bytes, bits);
        expect(parseStructures(Buffer.from(bytes).toString("hex"), bits)).toEqual(structures);
        const digits = bits === 32 ? 8 : 16;
        const words = structures.flat().map((word) => `0x${word.toString(16).padStart(digits, "0")}`);
        if (words.length > 1 || bits <= 64) expect(parseStructures(words.join(" "), bits)).toEqual(structures);
      }),
    );
  });

  it("tell text from bytes", () => {
    expect(isText(Buffer.from("0x1\n"))).toBe(true);
    expect(isText(Uint8Array.of(1, 0, 0, 0))).toBe(false);
  });
});
