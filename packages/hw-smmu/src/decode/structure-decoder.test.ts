import { encodeFields } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { CD } from "../spec/context.js";
import { STE } from "../spec/stream-table.js";
import { smmuStructureDecoder as decoder } from "./index.js";

const violations = (name: string, words: readonly bigint[], unit = {}): string[] => decoder.decode(name, words, unit).fields.flatMap(({ name: field, violation }) => (violation === undefined ? [] : [field]));

describe("iommu decode smmuv3", () => {
  it.each(decoder.kinds.map((kind) => [kind.name, kind] as const))("reads %s, all zero or all ones", (name, { bits, group }) => {
    const words = Array.from({ length: Math.ceil(bits / 64) }, () => 0n);
    const ones = words.map(() => (bits === 32 ? 0xffff_ffffn : 2n ** 64n - 1n));
    if (name === "event" || name === "command") {
      expect(() => decoder.decode(name, words)).toThrow(RangeError);
      return;
    }
    expect(decoder.decode(name, words).fields.length).toBeGreaterThan(0);
    expect(decoder.decode(name, ones).fields.length).toBeGreaterThan(0);
    if (group === "command") expect(decoder.decode(name, words).notes[0]).toContain("another command");
    expect(() => decoder.decode(name, [...words, 0n])).toThrow(RangeError);
  });

  it("names the rule that an STE breaks, and only on a unit that has it", () => {
    const ste = encodeFields(STE, { V: 1n, Config: 5n, S1STALLD: 1n });
    expect(violations("ste", ste)).toEqual([]);
    const registers = decoder.presets.server;
    expect(violations("ste", ste, registers)).toEqual(["S1STALLD"]);
    expect(decoder.decode("ste", ste, registers).notes).toEqual(["ILLEGAL, a transaction that meets it ends with C_BAD_STE: S1STALLD: the unit's stall model is not changed by streams"]);
  });

  it("names the half of a CD that is wrong", () => {
    const cd = { V: 1n, AA64: 1n, A: 1n, IPS: 5n, T0SZ: 16n, T1SZ: 5n, TG1: 2n };
    expect(violations("cd", encodeFields(CD, cd))).toEqual(["T1SZ"]);
    expect(violations("cd", encodeFields(CD, { ...cd, EPD1: 1n }))).toEqual([]);
  });

  it("picks the record by its type, and says where to look", () => {
    const { structure, notes } = decoder.decode("event", [0x18_0000_0013n, 0n, 0x5000n, 0n]);
    expect(structure).toBe("F_PERMISSION");
    expect(notes[0]).toContain("00:03.0");
    expect(notes[1]).toContain("read-only");
  });

  it("says that a command stops the queue", () => {
    expect(decoder.decode("command", [0x3046n, 0n]).notes).toEqual(["the queue stops at it with CERROR_ILL"]);
    expect(decoder.decode("command", [0x46n, 0n]).notes).toEqual([]);
  });

  it.each([
    ["arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:", "F_TRANSLATION"],
    ["arm-smmu-v3 9050000.smmuv3: event: F_PERMISSION client: 0000:00:02.0 sid: 0x10 ssid: 0x0 iova: 0x5000 ipa: 0x0", "F_PERMISSION"],
  ])("explains %s", (line, event) => {
    expect(decoder.explainLine(line)?.text[0]).toContain(event);
  });

  it("leaves other lines alone", () => {
    expect(decoder.explainLine("DMAR: DRHD: handling fault status reg 2")).toBeUndefined();
  });
});
