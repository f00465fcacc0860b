/** Memory attributes, row by row: MAIR, MemAttr, overrides, and what combines with what (SMMU 13, DDI0487 D8.6). */
import { describe, expect, it } from "vitest";
import { consistent, formatAttributes, INCOMING, mairAttributes, memAttrType, type MemoryAttributes, overridden, throughStage1, throughStage2 } from "./attributes.js";

const shown = (a: MemoryAttributes): string => formatAttributes(consistent(a));
const WB = "WB/RAWAnTR";
const WT = "WT/RAWAnTR";
const [NSH, OSH, ISH] = [0, 2, 3];

describe("a byte of MAIR (5.4, corner case 50)", () => {
  it.each([
    [0x00, "Device-nGnRnE"], [0x01, "Device-nGnRnE"], [0x03, "Device-nGnRnE"], [0x04, "Device-nGnRE"], [0x07, "Device-nGnRE"], [0x08, "Device-nGRE"], [0x0c, "Device-GRE"],
    [0x0f, "Device-GRE"], [0x44, "Normal-iNC-oNC"], [0xff, `Normal-i${WB}-o${WB}-ISH`], [0xbb, `Normal-i${WT}-o${WT}-ISH`], [0x77, "Normal-iWB/RAWATR-oWB/RAWATR-ISH"],
    [0x33, "Normal-iWT/RAWATR-oWT/RAWATR-ISH"], [0xef, `Normal-i${WB}-oWB/RAnWAnTR-ISH`], [0xfd, `Normal-iWB/nRAWAnTR-o${WB}-ISH`], [0xc8, "Normal-iWT/nRAnWAnTR-oWB/nRAnWAnTR-ISH"],
    [0xf4, `Normal-iNC-o${WB}-ISH`], [0x4f, `Normal-i${WB}-oNC-ISH`],
    // Inner 0 under Normal memory, tagged memory among it: write-through, transient.
    [0xf0, `Normal-iWT/RAWATR-o${WB}-ISH`], [0x40, "Normal-iWT/RAWATR-oNC-ISH"],
  ])("0x%s", (byte, text) => {
    expect(shown(mairAttributes(byte, ISH))).toBe(text);
  });

  it("has the shareability of the descriptor, the reserved value the strongest", () => {
    expect([0, 1, 2, 3].map((sh) => shown(mairAttributes(0xff, sh)).slice(-3))).toEqual(["NSH", "OSH", "OSH", "ISH"]);
  });
});

it("MemAttr: Device, outer and inner, and reserved values (5.2, corner case 50)", () => {
  const types = Array.from({ length: 16 }, (_, code) => shown(memAttrType(code)));
  expect(types).toEqual([
    "Device-nGnRnE", "Device-nGnRE", "Device-nGRE", "Device-GRE", "Device-nGnRnE", "Normal-iNC-oNC", `Normal-i${WT}-oNC-NSH`, `Normal-i${WB}-oNC-NSH`,
    "Device-nGnRnE", `Normal-iNC-o${WT}-NSH`, `Normal-i${WT}-o${WT}-NSH`, `Normal-i${WB}-o${WT}-NSH`,
    "Device-nGnRnE", `Normal-iNC-o${WB}-NSH`, `Normal-i${WT}-o${WB}-NSH`, `Normal-i${WB}-o${WB}-NSH`,
  ]);
});

describe("overrides of STE and GBPA (13.1.4)", () => {
  const none = { MTCFG: 0, MemAttr: 0, SHCFG: 1, ALLOCCFG: 0 };
  const uncached = mairAttributes(0x44, NSH);
  it.each<[what: string, fields: Record<string, number>, incoming: MemoryAttributes, text: string]>([
    ["none", none, INCOMING, `Normal-i${WB}-o${WB}-NSH`],
    ["the type", { ...none, MTCFG: 1, MemAttr: 2 }, INCOMING, "Device-nGRE"],
    ["a type without MTCFG", { ...none, MemAttr: 2 }, INCOMING, `Normal-i${WB}-o${WB}-NSH`],
    ["shareability", { ...none, SHCFG: 3 }, INCOMING, `Normal-i${WB}-o${WB}-ISH`],
    ["shareability, which Device memory has none of", { ...none, MTCFG: 1, MemAttr: 5, SHCFG: 0 }, INCOMING, "Normal-iNC-oNC"],
    ["hints", { ...none, ALLOCCFG: 0b1101 }, INCOMING, "Normal-iWB/RAnWATR-oWB/RAnWATR-NSH"],
    ["hints without their bit", { ...none, ALLOCCFG: 0b0001 }, INCOMING, `Normal-i${WB}-o${WB}-NSH`],
    ["hints of what allocates nothing: not transient", { ...none, ALLOCCFG: 0b1001 }, INCOMING, "Normal-iWB/nRAnWAnTR-oWB/nRAnWAnTR-NSH"],
    ["hints, where nothing is cached", { ...none, ALLOCCFG: 0b1001 }, uncached, "Normal-iNC-oNC"],
    ["a type that is cached, over one that gave no hints", { ...none, MTCFG: 1, MemAttr: 15, SHCFG: 2 }, uncached, `Normal-i${WB}-o${WB}-OSH`],
    ["the type, with the hints that came", { ...none, MTCFG: 1, MemAttr: 10 }, mairAttributes(0xed, ISH), "Normal-iWT/nRAWAnTR-oWT/RAnWAnTR-ISH"],
  ])("%s", (_what, fields, incoming, text) => {
    expect(shown(overridden(fields, incoming, true))).toBe(text);
  });

  it("need IDR1.ATTR_TYPES_OVR", () => {
    expect(overridden({ ...none, MTCFG: 1, SHCFG: 2, ALLOCCFG: 15 }, INCOMING, false)).toBe(INCOMING);
  });
});

describe("stage 1 over what comes (13.4.2)", () => {
  it.each<[what: string, incoming: number, own: number, text: string]>([
    ["type and shareability are its own", 0xbb, 0xff, `Normal-i${WB}-o${WB}-ISH`],
    ["hints combine", 0xee, 0xfd, "Normal-iWB/nRAnWAnTR-oWB/RAnWAnTR-ISH"],
    ["transient is the stronger", 0x77, 0xff, "Normal-iWB/RAWATR-oWB/RAWATR-ISH"],
    ["uncached memory gives no hints", 0x44, 0xef, `Normal-i${WB}-oWB/RAnWAnTR-ISH`],
    ["nor does Device memory", 0x04, 0xef, `Normal-i${WB}-oWB/RAnWAnTR-ISH`],
    ["each level for itself", 0x4e, 0xff, `Normal-iWB/RAnWAnTR-o${WB}-ISH`],
  ])("%s", (_what, incoming, own, text) => {
    expect(shown(throughStage1(mairAttributes(incoming, OSH), mairAttributes(own, ISH)))).toBe(text);
  });
});

describe("stage 2 over stage 1 (13.1.5, 13.4.3)", () => {
  it.each<[first: number, memAttr: number, sh: number, text: string]>([
    // The manual's three examples.
    [0x4f, 1, OSH, "Device-nGnRE"],
    [0x04, 0, OSH, "Device-nGnRnE"],
    [0x4f, 10, OSH, `Normal-i${WT}-oNC-OSH`],
    [0x04, 2, NSH, "Device-nGnRE"], [0x0c, 2, NSH, "Device-nGRE"], [0x04, 15, NSH, "Device-nGnRE"],
    [0xff, 15, NSH, `Normal-i${WB}-o${WB}-ISH`], [0xff, 15, OSH, `Normal-i${WB}-o${WB}-OSH`], [0xff, 5, NSH, "Normal-iNC-oNC"], [0xbf, 13, NSH, `Normal-iNC-o${WT}-ISH`],
    // It gives no hints: those of stage 1 pass.
    [0xee, 10, ISH, "Normal-iWT/RAnWAnTR-oWT/RAnWAnTR-ISH"],
    [0xff, 4, ISH, "Device-nGnRnE"], [0xff, 8, ISH, "Device-nGnRnE"],
  ])("MAIR 0x%s, MemAttr %i, SH %i", (first, memAttr, sh, text) => {
    expect(shown(throughStage2(mairAttributes(first, ISH), { memAttr, sh, forced: false, tags: false }))).toBe(text);
  });

  it.each<[first: number, memAttr: number, text: string]>([
    // S2FWB: bit 2 tells Device from the rest; 5 is non-cacheable, 6 write-back whatever stage 1 says, 7 leaves it.
    [0xff, 0, "Device-nGnRnE"], [0xff, 3, "Device-GRE"], [0x04, 3, "Device-nGnRE"], [0x0c, 1, "Device-nGnRE"],
    [0xff, 5, "Normal-iNC-oNC"], [0x04, 5, "Device-nGnRE"], [0x44, 6, `Normal-i${WB}-o${WB}-OSH`], [0x04, 6, `Normal-i${WB}-o${WB}-OSH`], [0xbe, 6, `Normal-iWB/RAnWAnTR-o${WB}-ISH`],
    [0xff, 7, `Normal-i${WB}-o${WB}-ISH`], [0x44, 7, "Normal-iNC-oNC"], [0x08, 7, "Device-nGRE"], [0xff, 4, "Device-nGnRnE"],
  ])("with S2FWB, MAIR 0x%s and MemAttr %i", (first, memAttr, text) => {
    expect(shown(throughStage2(mairAttributes(first, ISH), { memAttr, sh: NSH, forced: true, tags: false }))).toBe(text);
  });

  it("MemAttr 0100 is write-back memory where it says that tags are out of reach (IDR3.MTEPERM)", () => {
    expect(shown(throughStage2(mairAttributes(0xff, ISH), { memAttr: 4, sh: NSH, forced: false, tags: true }))).toBe(`Normal-i${WB}-o${WB}-ISH`);
  });
});
