import { decodeFields } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { cacheGeometry, identificationOf } from "./options.js";
import { DEFAULT_PRESET, describePreset, PRESETS } from "./presets.js";
import { IDENTIFICATION_RULES, IDR0, IDR1, IDR3, IDR5, readCapabilities } from "./spec/identification.js";

/** Fields that the model has; anything else must read 0 in a preset. */
const MODELLED = new Set([
  "S2P", "S1P", "TTF", "COHACC", "HTTU", "Hyp", "ATS", "NS1ATS", "ASID16", "MSI", "SEV", "PRI", "VMW", "VMID16", "CD2L", "TTENDIAN", "ATSRECERR", "STALL_MODEL", "TERM_MODEL",
  "ST_LEVEL", "SIDSIZE", "SSIDSIZE", "PRIQS", "EVENTQS", "CMDQS", "ATTR_PERMS_OVR", "ATTR_TYPES_OVR", "HAD", "XNX", "PPS", "FWB", "STT", "RIL", "BBML", "E0PD", "PTWNNC", "EPAN", "PASIDTT",
  "OAS", "GRAN4K", "GRAN16K", "GRAN64K", "DS", "VAX", "STALL_MAX",
]);

describe.each(Object.entries(PRESETS))("preset %s", (name, preset) => {
  const { identification: id } = preset;

  it("announces only what is modelled", () => {
    const words = [[IDR0, id.idr0], [IDR1, id.idr1], [IDR3, id.idr3], [IDR5, id.idr5]] as const;
    const announced = words.flatMap(([table, value]) => decodeFields(table, [BigInt(value)])).filter((field) => field.value !== 0n);
    expect(announced.map((field) => field.name).filter((field) => !MODELLED.has(field))).toEqual([]);
  });

  it("breaks no rule of the identification registers", () => {
    const caps = readCapabilities(id);
    expect(IDENTIFICATION_RULES.filter((rule) => rule.broken(caps, id))).toEqual([]);
    // AArch32 tables are not modelled, and 3 of TTF announces them.
    expect(caps.aarch32).toBe(false);
  });

  it("is a unit by its name, and described", () => {
    expect(identificationOf({ preset: name })).toMatchObject(id);
    expect(describePreset(name, preset).announces.length).toBeGreaterThan(5);
  });
});

describe("options", () => {
  it("take the default unit, a preset, and words in its place", () => {
    expect(identificationOf({})).toMatchObject(PRESETS[DEFAULT_PRESET].identification);
    expect(identificationOf({ preset: "server", idr5: "0x74" })).toMatchObject({ ...PRESETS.server.identification, idr5: 0x74 });
  });

  it.each([[{ preset: "toString" }], [{ preset: 3 }], [{ idr0: 12 }], [{ idr0: "0x123456789" }]])("refuse %o", (options) => {
    expect(() => identificationOf(options)).toThrow(expect.objectContaining({ errno: "EINVAL" }) as Error);
  });

  it("say how large each cache is, and 0 sets make none", () => {
    expect(cacheGeometry({ tlbSets: 0, ipaTlbWays: 2, tableSets: 4, ipaTableSets: 0 })).toMatchObject({
      input: { sets: 0, ways: 8 }, intermediate: { sets: 64, ways: 2 }, inputTables: { sets: 4, ways: 4 }, intermediateTables: { sets: 0, ways: 4 },
    });
    for (const bad of [{ tlbSets: 3 }, { tableSets: "4" }, { ipaTableWays: 0 }, { tlbSets: 2 ** 17 }]) {
      expect(() => cacheGeometry(bad)).toThrow(expect.objectContaining({ errno: "EINVAL" }) as Error);
    }
  });
});
