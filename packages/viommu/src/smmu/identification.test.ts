import { encodeFields, type FieldTable } from "@iommukit/core";
import { IDR0, IDR1, IDR3, IDR5, type Identification, readCapabilities } from "@iommukit/hw-smmu/spec";
import { describe, expect, it } from "vitest";
import { checkShown, shownTo } from "./identification.js";

type Values = Readonly<Record<string, bigint>>;
const word = (table: FieldTable, values: Values): number => Number(encodeFields(table, values)[0]);
const [IDR0_VALUES, IDR5_VALUES] = [{ S1P: 1n, S2P: 1n, TTF: 2n, TTENDIAN: 2n, HTTU: 2n, ATS: 1n, PRI: 1n, ASID16: 1n, CD2L: 1n, TERM_MODEL: 1n, ST_LEVEL: 1n }, { OAS: 5n, GRAN4K: 1n, GRAN64K: 1n }];
const HOST: Identification = { idr0: word(IDR0, IDR0_VALUES), idr1: word(IDR1, { SIDSIZE: 16n, SSIDSIZE: 8n }), idr3: word(IDR3, { RIL: 1n, HAD: 1n, BBML: 1n }), idr5: word(IDR5, IDR5_VALUES), aidr: 1 };
const shown = shownTo(HOST);

describe("what a guest is shown", () => {
  it("is the most that the host takes: stage 1, without page requests and stalls", () => {
    const caps = readCapabilities(shown);
    expect(caps).toMatchObject({ stage1: true, stage2: false, ats: true, pri: false, stallModel: 1, httu: 2, ssidBits: 8, rangeInvalidation: true, oas: 48, granules: [true, true, false] });
    expect(() => checkShown(caps, HOST)).not.toThrow();
  });

  it.each([
    ["a stage 2", { idr0: word(IDR0, { ...IDR0_VALUES, PRI: 0n, STALL_MODEL: 1n }) }, "IDR0.S2P"],
    ["page requests", { idr0: shown.idr0 | word(IDR0, { PRI: 1n }) }, "IDR0.PRI"],
    ["stalls", { idr0: shown.idr0 & ~word(IDR0, { STALL_MODEL: 3n }) }, "IDR0.STALL_MODEL"],
    ["more SubstreamIDs", { idr1: word(IDR1, { SIDSIZE: 16n, SSIDSIZE: 20n }) }, "IDR1.SSIDSIZE"],
    ["another granule", { idr5: word(IDR5, { ...IDR5_VALUES, GRAN16K: 1n }) }, "IDR5.GRAN"],
    ["wider addresses", { idr5: word(IDR5, { ...IDR5_VALUES, OAS: 6n }) }, "IDR5.OAS"],
    ["small tables", { idr3: shown.idr3 | word(IDR3, { STT: 1n }) }, "IDR3.STT"],
    ["EPAN", { idr3: shown.idr3 | word(IDR3, { EPAN: 1n }) }, "IDR3.EPAN"],
    ["a choice of how faults end", { idr0: shown.idr0 & ~word(IDR0, { TERM_MODEL: 1n }) }, "IDR0.TERM_MODEL"],
    ["EL2", { idr0: shown.idr0 | word(IDR0, { Hyp: 1n }) }, "IDR0.Hyp"],
    ["events of ATS", { idr0: shown.idr0 | word(IDR0, { ATSRECERR: 1n }) }, "IDR0.ATSRECERR"],
    ["overrides of permissions", { idr1: word(IDR1, { SIDSIZE: 16n, SSIDSIZE: 8n, ATTR_PERMS_OVR: 1n }) }, "IDR1.ATTR_PERMS_OVR"],
    ["overrides of memory types", { idr1: word(IDR1, { SIDSIZE: 16n, SSIDSIZE: 8n, ATTR_TYPES_OVR: 1n }) }, "IDR1.ATTR_TYPES_OVR"],
    ["E0PD", { idr3: shown.idr3 | word(IDR3, { E0PD: 1n }) }, "IDR3.E0PD"],
  ] as const)("%s: refused, by name", (_what, changed, name) => {
    expect(() => checkShown(readCapabilities({ ...shown, ...changed }), HOST)).toThrow(name);
  });
});
