import { describe, expect, it } from "vitest";
import { identify, UNITS } from "../reference/units.js";
import { IDENTIFICATION_RULES, type Identification, readCapabilities } from "./index.js";

const brokenBy = (id: Identification): string[] => IDENTIFICATION_RULES.filter((rule) => rule.broken(readCapabilities(id), id)).map(({ name, text }) => `${name}: ${text}`);

describe("identification registers (6.3.1 to 6.3.8)", () => {
  it.each(Object.entries(UNITS))("a unit %s is one that the manual allows", (_name, id) => {
    expect(brokenBy(id)).toEqual([]);
  });

  const zero = { S1P: 1n, S2P: 1n, TTF: 2n, TTENDIAN: 2n, STALL_MODEL: 1n };
  const one = { SIDSIZE: 6n, CMDQS: 8n, EVENTQS: 8n };
  const late = { HAD: 1n, XNX: 1n, RIL: 1n, FWB: 1n, BBML: 1n, E0PD: 1n, PTWNNC: 1n, EPAN: 1n };
  const five = { OAS: 5n, GRAN4K: 1n };
  const cases: readonly (readonly [rule: string, id: Identification])[] = [
    ["S1P, S2P: at least one stage", identify(0, { ...zero, S1P: 0n, S2P: 0n }, one, {}, five)],
    ["TTF: at least one table format", identify(0, { ...zero, TTF: 0n }, one, {}, five)],
    ["GRAN: at least one granule for AArch64 tables", identify(0, zero, one, {}, { OAS: 5n })],
    ["SIDSIZE: 7 bits of StreamID or more need two-level stream tables", identify(0, zero, { ...one, SIDSIZE: 7n }, {}, five)],
    ["SIDSIZE: at most 32", identify(0, { ...zero, ST_LEVEL: 1n }, { ...one, SIDSIZE: 33n }, {}, five)],
    ["SSIDSIZE: at most 20", identify(0, zero, { ...one, SSIDSIZE: 21n }, {}, five)],
    ["CMDQS, EVENTQS, PRIQS: at most 19", identify(0, zero, { ...one, EVENTQS: 20n }, {}, five)],
    ["CD2L: two-level CD tables need SubstreamIDs", identify(0, { ...zero, CD2L: 1n }, one, {}, five)],
    ["PRI: page requests need ATS", identify(0, { ...zero, PRI: 1n }, one, {}, five)],
    ["STALL_MODEL: 3 is reserved", identify(0, { ...zero, STALL_MODEL: 3n }, one, {}, { ...five, STALL_MAX: 1n })],
    ["STALL_MAX: must not be 0 where stalls are supported", identify(0, { ...zero, STALL_MODEL: 0n }, one, {}, five)],
    ["TTENDIAN: 1 is reserved", identify(0, { ...zero, TTENDIAN: 1n }, one, {}, five)],
    ["XNX, HAD: from 3.1 on with their stage", identify(1, zero, one, { HAD: 1n }, five)],
    ["RIL: from 3.2 on", identify(2, { ...zero, Hyp: 1n }, one, { ...late, RIL: 0n }, five)],
    ["FWB: from 3.2 on with stage 2", identify(2, { ...zero, Hyp: 1n }, one, { ...late, FWB: 0n }, five)],
    ["Hyp: from 3.2 on with both stages", identify(2, zero, one, late, five)],
    ["BBML: 1 or 2 from 3.2 on", identify(2, { ...zero, Hyp: 1n }, one, { ...late, BBML: 3n }, five)],
    ["E0PD: from 3.3 on with stage 1", identify(3, { ...zero, Hyp: 1n }, one, { ...late, E0PD: 0n }, five)],
    ["PTWNNC: from 3.3 on with stage 2", identify(3, { ...zero, Hyp: 1n }, one, { ...late, PTWNNC: 0n }, five)],
    ["EPAN: from 3.4 on", identify(4, { ...zero, Hyp: 1n }, one, { ...late, EPAN: 0n }, five)],
  ];
  it.each(cases)("%s", (rule, id) => {
    expect(brokenBy(id)).toEqual([rule]);
  });

  it("every rule has a case", () => {
    expect(cases.map(([rule]) => rule).sort()).toEqual(IDENTIFICATION_RULES.map(({ name, text }) => `${name}: ${text}`).sort());
  });
});
