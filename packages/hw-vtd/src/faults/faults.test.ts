/** Row by row through the fault table (VT-d 7.1, tables 25 to 30; 5.1.4): each cell, with and without FPD. */
import { describe, expect, it } from "vitest";
import { FAULTS } from "../spec/faults.js";
import { vtdFaultCatalogue } from "./index.js";

const rows = vtdFaultCatalogue.list();

describe("the fault table", () => {
  it("has a recipe for every row, and every row a request that meets it", () => {
    expect(rows.map(({ name }) => name)).toEqual(FAULTS.map(({ name }) => name));
    expect(rows.filter(({ kinds }) => kinds.length === 0)).toEqual([]);
  });

  it("has every qualified and every unqualified row of the manual", () => {
    expect(rows.filter(({ suppressedBy }) => suppressedBy === undefined).map(({ name }) => name)).toEqual([
      "LRT.1", "LRT.2", "LRT.3", "LCT.1", "RTA.1.1", "RTA.1.2", "RTA.1.3", "RTA.1.4", "RTA.2", "RTA.3", "RTA.4", "RTA.5", "SRT.1", "SRT.2", "SRT.3",
      "SCT.1", "SPD.1", "SPT.1", "IRR.20", "IRR.21", "IRR.23", "IRR.25", "IRR.29", "IRR.2A", "IRR.2B",
    ]);
  });

  describe.each(rows)("$name ($section)", ({ name, code, kinds, suppressedBy }) => {
    it.each(kinds)(`%s request: exactly reason ${code?.toString(16)}h, and the response of the table`, (kind) => {
      const shown = vtdFaultCatalogue.demonstrate(name, { kind });
      expect({ kind, response: shown.response, record: shown.record?.fields.map((field) => `${field.name}=${field.value.toString(16)}`), good: shown.asExpected }).toMatchObject({ good: true });
    });

    it.each(kinds)(`%s request with FPD=1: ${suppressedBy ? "silent" : "recorded all the same"}`, (kind) => {
      const shown = vtdFaultCatalogue.demonstrate(name, { kind, suppressed: true });
      expect(shown.asExpected).toBe(true);
      if (suppressedBy) expect(shown.record).toBeUndefined();
    });

    it("marks what is wrong, and says why, what causes it and how to mend it", () => {
      const shown = vtdFaultCatalogue.demonstrate(name);
      for (const text of [shown.why, shown.cause, shown.mend, shown.request, shown.response]) expect(text).not.toBe("");
    });
  });
});
