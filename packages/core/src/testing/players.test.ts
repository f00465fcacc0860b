import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ReplayUnitFactory } from "../machine/types.js";
import { playFile } from "./conform.js";
import { FormatError } from "./json.js";

/** A unit that translates nothing and whose registers read 0. */
const silent: ReplayUnitFactory = {
  iommu: "test",
  create: () => ({
    hardware: { name: "silent", translate: (_rid, _pasid, page) => page },
    read: () => 0n,
    write: () => undefined,
    takeFault: () => undefined,
    clearFaults: () => undefined,
  }),
};

const play = (text: string | Uint8Array): number =>
  [...playFile(typeof text === "string" ? new TextEncoder().encode(text) : text, { replayUnits: [silent], decoders: [] })].length;

const header = { format: "iommu-vectors/1", iommu: "test", registers: { VER: "0x10" }, haw: 48, ram: [{ base: 0, size: 8192 }] };

describe("recorded files that are not what they say", () => {
  it.each([
    ["nothing", "", "not JSON"],
    ["a list", "[]", "is not an object"],
    ["no format", "{}", "format is not a string"],
    ["an unknown format", '{"format":"x/1","iommu":"test"}', 'the format "x/1" is not known'],
    ["an IOMMU that nothing models", '{"format":"iommu-vectors/1","iommu":"riscv"}', 'no unit to replay "riscv" on'],
    ["tables of an IOMMU without decoder", '{"format":"iommu-tables/1","iommu":"riscv"}', 'no decoder for tables of "riscv"'],
    ["a case that is no JSON", `${JSON.stringify(header)}\n{"id":`, "not JSON"],
    ["RAM off the grid", `${JSON.stringify({ ...header, ram: [{ base: 1, size: 2 }] })}\n{"id":"a","steps":[]}`, "ram"],
    ["a step that nobody knows", `${JSON.stringify(header)}\n{"id":"a","steps":[{"dance":1}]}`, "step 0"],
    ["damaged gzip", gzipSync("{}").subarray(0, 12), "damaged gzip data"],
  ])("%s: an error that says so", (_what, text, message) => {
    expect(() => play(text)).toThrow(FormatError);
    expect(() => play(text)).toThrow(message);
  });

  it("any step is an error, a failure or a pass, never anything else", () => {
    const step = fc.dictionary(
      fc.constantFrom("mem", "hex", "reg", "size", "value", "poll", "mask", "expectReg", "expectMem", "dma", "expect", "trust"),
      fc.oneof(fc.constantFrom<unknown>("0x10", 8, "00ff", ["pa"], [], { pa: "0x1000" }, { fault: { code: 2 } }, { op: "r", rid: 8, iova: "0x1000" }, { op: "q", rid: 8, iova: "0x1000" }), fc.jsonValue({ maxDepth: 2 })),
      { maxKeys: 8 },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 5 }), (steps) => {
        try {
          play(`${JSON.stringify(header)}\n${JSON.stringify({ id: "a", steps })}`);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("any JSON in a case's place is an error, a failure or a pass, never anything else", () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue({ maxDepth: 3 }), { minLength: 1, maxLength: 4 }), (values) => {
        try {
          play([JSON.stringify(header), ...values.map((value) => JSON.stringify(value))].join("\n"));
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
    );
  });
});
