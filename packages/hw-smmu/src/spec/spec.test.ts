import { decodeFields, encodeFields, type FieldTable } from "@iommukit/core";
import { formatSuite } from "@iommukit/core/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as spec from "./index.js";
import { fieldsByName, putField, readFields } from "./words.js";

const isTable = (value: unknown): value is FieldTable => typeof value === "object" && value !== null && "fields" in value && "section" in value;
const tables = [
  ...Object.values(spec as Record<string, unknown>).filter(isTable),
  ...spec.EVENTS.map((event) => event.table),
  ...spec.COMMANDS.map((command) => command.table),
];
const named = (table: FieldTable): FieldTable["fields"] => table.fields.filter((field) => field.name !== "" && field.name !== "-");

describe("structures", () => {
  it.each(tables.map((table) => [table.structure, table] as const))("%s decodes to what was encoded", (_name, table) => {
    const fields = named(table);
    fc.assert(
      fc.property(fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: fields.length, maxLength: fields.length }), (noise) => {
        const values = Object.fromEntries(fields.map((field, i) => [field.name, noise[i] & ((1n << BigInt(field.width)) - 1n)]));
        const encoded = encodeFields(table, values);
        const decoded = decodeFields(table, encoded);
        for (const field of fields) expect(decoded.find((row) => row.name === field.name)?.value).toBe(values[field.name]);
        // The hardware's numbers say the same, and write the same.
        const words = Uint32Array.from({ length: table.bits / 32 }, (_, i) => Number((encoded[i >> 1] >> BigInt(32 * (i & 1))) & 0xffff_ffffn));
        const numbers = readFields(table, words);
        const written = new Uint32Array(words.length);
        for (const field of fields) {
          if (field.width > 53) continue;
          const isAddress = field.meaning !== undefined && numbers[field.name] !== Number(values[field.name]);
          expect(BigInt(numbers[field.name])).toBe(isAddress ? values[field.name] << BigInt(field.low & 63) : values[field.name]);
          putField(written, fieldsByName(table)[field.name], numbers[field.name]);
        }
        if (fields.every((field) => field.width <= 53)) expect(written).toEqual(words);
      }),
      { numRuns: 20 },
    );
  });

  it("have each name once, and are all here", () => {
    for (const table of tables) {
      const names = named(table).map((field) => field.name);
      expect(new Set(names).size, table.structure).toBe(names.length);
    }
    expect(tables.length).toBeGreaterThanOrEqual(55);
  });

  it("lie where the manual says (a sample of each)", () => {
    const low = (table: FieldTable, name: string): number | undefined => table.fields.find((field) => field.name === name)?.low;
    expect([low(spec.STE, "S1CDMax"), low(spec.STE, "EATS"), low(spec.STE, "S2VMID"), low(spec.STE, "S2TTB"), low(spec.STE, "VMSPtr"), low(spec.STE, "S_S2TTB")]).toEqual([59, 92, 128, 196, 332, 388]);
    expect([low(spec.CD, "V"), low(spec.CD, "ASID"), low(spec.CD, "TTB0"), low(spec.CD, "TTB1"), low(spec.CD, "MAIR0"), low(spec.CD, "PIIP")]).toEqual([31, 48, 68, 132, 192, 448]);
    const fault = spec.EVENTS.find((event) => event.code === spec.Event.F_PERMISSION)?.table;
    expect(["STAG", "Stall", "PnU", "RnW", "S2", "CLASS", "TTRnW", "InputAddr", "IPA"].map((name) => fault && low(fault, name))).toEqual([64, 95, 97, 99, 103, 104, 108, 128, 204]);
    expect([low(spec.PAGE_REQUEST, "Priv"), low(spec.PAGE_REQUEST, "SSV"), low(spec.PAGE_REQUEST, "PRGIndex"), low(spec.PAGE_REQUEST, "Address")]).toEqual([58, 63, 64, 76]);
  });

  it("a stage-2 F_TRANSLATION of a user read, stalled with STAG 7, has the word that the manual gives it (7.3.13)", () => {
    const table = spec.eventType(spec.Event.F_TRANSLATION)?.table;
    expect(table && encodeFields(table, { STAG: 7n, Stall: 1n, RnW: 1n, S2: 1n, CLASS: 2n })[1]).toBe(0x0000_0288_8000_0007n);
  });
});

describe("where walks start", () => {
  /** T0SZ ranges by level, from the manual's table (DDI0487 D8.2). */
  const stage1: readonly (readonly [granule: number, level: number, from: number, to: number])[] = [
    [0, 4, 12, 15], [0, 3, 16, 24], [0, 2, 25, 33], [0, 1, 34, 42], [0, 0, 43, 48],
    [2, 3, 12, 16], [2, 2, 17, 27], [2, 1, 28, 38], [2, 0, 39, 48],
    [1, 2, 12, 21], [1, 1, 22, 34], [1, 0, 35, 47],
  ];
  it.each(stage1)("stage 1, granule %i: level %i for T0SZ %i to %i", (granule, level, from, to) => {
    for (let size = from; size <= to; size++) expect(spec.stage1TopLevel(granule, 64 - size)).toBe(level);
  });

  const caps = spec.readCapabilities({ idr0: 2 << 2, idr1: 0, idr3: 1 << 9, idr5: 6 | (7 << 4) | (1 << 7), aidr: 4 });
  /** Legal S2T0SZ by granule, S2SL0 and S2SL0_2, concatenated tables included (SMMU 5.2). */
  const stage2: readonly (readonly [granule: number, sl0: number, sl02: number, ds: number, from: number, to: number])[] = [
    [0, 0, 1, 1, 12, 15], [0, 2, 0, 1, 12, 24], [0, 1, 0, 0, 21, 33], [0, 0, 0, 0, 30, 42], [0, 3, 0, 0, 39, 51],
    [2, 3, 0, 1, 12, 16], [2, 2, 0, 0, 13, 27], [2, 1, 0, 0, 24, 38], [2, 0, 0, 0, 35, 49],
    [1, 2, 0, 0, 12, 21], [1, 1, 0, 0, 18, 34], [1, 0, 0, 0, 31, 47],
  ];
  it.each(stage2)("stage 2, granule %i, S2SL0 %i, S2SL0_2 %i, S2DS %i: S2T0SZ %i to %i", (S2TG, S2SL0, S2SL0_2, S2DS, from, to) => {
    for (let S2T0SZ = 5; S2T0SZ < 63; S2T0SZ++) {
      const bits = spec.stage2StartBits({ S2TG, S2SL0, S2SL0_2, S2DS, S2T0SZ }, caps);
      expect(bits !== undefined, `S2T0SZ ${S2T0SZ}`).toBe(S2T0SZ >= from && S2T0SZ <= to);
    }
  });

  it("reserved S2SL0 values start nowhere", () => {
    expect(spec.stage2TopLevel({ S2TG: 1, S2SL0: 3, S2SL0_2: 0, S2DS: 0 }, caps)).toBeUndefined();
    expect(spec.stage2TopLevel({ S2TG: 2, S2SL0: 3, S2SL0_2: 0, S2DS: 0 }, caps)).toBeUndefined();
    expect(spec.stage2TopLevel({ S2TG: 0, S2SL0: 1, S2SL0_2: 1, S2DS: 1 }, caps)).toBeUndefined();
  });
});

const geometries: spec.TableGeometry[] = [
  { granule: 0, outputBits: 48, ds: false, wide: false },
  { granule: 0, outputBits: 40, ds: false, wide: false },
  { granule: 0, outputBits: 52, ds: true, wide: true },
  { granule: 2, outputBits: 44, ds: false, wide: false },
  { granule: 2, outputBits: 52, ds: true, wide: true },
  { granule: 1, outputBits: 48, ds: false, wide: false },
  { granule: 1, outputBits: 48, ds: false, wide: true },
  { granule: 1, outputBits: 52, ds: false, wide: true },
];
describe.each(geometries)("tables of granule $granule, $outputBits bits, DS $ds", (geometry) => {
  const checks = formatSuite(spec.vmsaFormat(geometry), { leafLo: 0x4c0 });
  it.each(checks.map((check) => [check.name, check] as const))("%s", (_check, check) => {
    expect(check.run).not.toThrow();
  });
});
