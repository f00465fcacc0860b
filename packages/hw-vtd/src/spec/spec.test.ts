import { decodeFields, encodeFields, type FieldTable } from "@iommukit/core";
import { formatSuite } from "@iommukit/core/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PRESETS } from "../presets.js";
import * as spec from "./index.js";

const isTable = (value: unknown): value is FieldTable => typeof value === "object" && value !== null && "fields" in value && "section" in value;
const tables = Object.values(spec as Record<string, unknown>).filter(isTable);

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

  it("are all here", () => {
    expect(tables.length).toBeGreaterThanOrEqual(15);
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
