import { decodeFields, encodeFields, type FieldTable } from "@iommukit/core";
import { formatSuite } from "@iommukit/core/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PRESETS } from "../presets.js";
import * as spec from "./index.js";

const isTable = (value: unknown): value is FieldTable => typeof value === "object" && value !== null && "fields" in value && "section" in value;
const registers = spec.REGISTER_LAYOUTS.map(({ table }) => table);
const tables = [...new Set([...Object.values(spec as Record<string, unknown>).filter(isTable), ...registers])];

describe("structures", () => {
  it.each(tables.map((table) => [table.structure, table] as const))("%s decodes to what was encoded", (_name, table) => {
    const named = table.fields.filter((field) => field.name !== "" && field.name !== "-");
    fc.assert(
      fc.property(fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: named.length, maxLength: named.length }), (noise) => {
        const values = Object.fromEntries(named.map((field, i) => [field.name, noise[i] & ((1n << BigInt(field.width)) - 1n)]));
        const decoded = decodeFields(table, encodeFields(table, values));
        for (const field of named) expect(decoded.find((row) => row.name === field.name)?.value).toBe(values[field.name]);
      }),
      { numRuns: 20 },
    );
  });

  it("are all here, each field with a name of its own", () => {
    expect(tables.length).toBe(89);
    for (const table of tables) {
      const names = table.fields.map((field) => field.name).filter((name) => name !== "" && name !== "-");
      expect(new Set(names).size, table.structure).toBe(names.length);
      expect(table.section).toMatch(/^VT-d \d/);
    }
  });

  it("have a layout for every register that the unit has, of the same width", () => {
    for (const register of spec.REGISTERS) {
      const layout = spec.REGISTER_LAYOUTS.find(({ offset }) => offset === register.offset);
      expect(layout?.table.structure).toBe(register.name);
      expect(layout?.table.bits).toBe(register.width * 8);
    }
  });

  // Constants of an independent model (QEMU 11.1). PFSID, and RID_PRIV of a context entry, are reserved by capability: conditions.ts has them.
  it.each([
    ["CC", spec.CC_DESCRIPTOR, [0xfffc0000_0000f1c0n]],
    ["IOTLB", spec.IOTLB_DESCRIPTOR, [0xffffffff_0000f100n, 0xf80n]],
    ["IEC", spec.IEC_DESCRIPTOR, [0xffff0000_07fff1e0n]],
    ["wait", spec.WAIT_DESCRIPTOR, [0xfffff100n, 3n]],
    ["device-TLB", spec.DEV_TLB_DESCRIPTOR, [0x000f0000_ffe001f0n, 0xffen]],
    ["P_IOTLB", spec.P_IOTLB_DESCRIPTOR, [0xfff00000_0000f1c0n, 0xf80n]],
    ["PASID cache", spec.PC_DESCRIPTOR, [0xfff00000_0000f1c0n]],
    ["P_DEV_TLB", spec.P_DEV_TLB_DESCRIPTOR, [0n, 0x7fen]],
    ["page group response", spec.PGR_DESCRIPTOR, [0xfff00000_000001e0n]],
    ["context", spec.LEGACY_CONTEXT_ENTRY, [0xff0n, 0xffffffff_ff000080n]],
    ["scalable-mode context", spec.SCALABLE_CONTEXT_ENTRY, [0x180n, 0xffffffff_ffe00000n]],
  ])("the reserved bits of a %s structure are those of another model", (_name, table, words) => {
    expect(table.reserved.slice(0, words.length)).toEqual(words);
  });
});

describe.each(Object.entries(PRESETS))("page-table formats of a %s unit", (_name, preset) => {
  const caps = spec.readCapabilities(preset.version, preset.cap, preset.ecap, preset.haw);
  const checks = [
    ...formatSuite(spec.firstStageFormat(caps), { leafLo: 7 }),
    ...[3, 4, 5].flatMap((levels) => formatSuite(spec.secondStageFormat(caps), { leafLo: 3, topLevel: levels - 1 }).map((check) => ({ ...check, name: `${levels} levels, ${check.name}` }))),
  ];
  it.each(checks.map((check) => [check.name, check] as const))("%s", (_check, check) => {
    expect(check.run).not.toThrow();
  });
});
