/** The fault table was written down twice: in `spec/faults.ts`, and for the naive translator. */
import { expect, it } from "vitest";
import { FAULTS, outcomeOf } from "../spec/faults.js";
import { CONDITIONS, RECORDED_THOUGH_RECOVERABLE, type Response } from "./conditions.js";

const SHORT: Readonly<Record<Response, string>> = { UR: "UR", CA: "CA", IR: "IR", none: "S0", rest: "SE", "-": "-" };

it("both fault tables say the same (VT-d 7.1, tables 25 to 30)", () => {
  // Interrupts have a table of their own (5.1.4).
  const rows = FAULTS.filter(({ name }) => !name.startsWith("IRR.") || name === "IRR.29");
  expect(rows.map(({ name }) => name).sort()).toEqual([...CONDITIONS.keys()].sort());
  for (const row of rows) {
    const { name, code, qualified, alwaysRecorded } = row;
    const condition = CONDITIONS.get(name);
    expect({ name, code, qualified, alwaysRecorded }).toEqual({
      name, code: condition?.code, qualified: condition?.qualified, alwaysRecorded: name === RECORDED_THOUGH_RECOVERABLE,
    });
    (["untranslated", "translation", "translated", "page"] as const).forEach((kind, i) => {
      // Where requests with and without PASID differ, one of them cannot meet the condition.
      const met = [outcomeOf(row, i, false), outcomeOf(row, i, true)].filter((outcome) => outcome !== "-");
      const own = condition?.[kind] ?? "-";
      expect({ name, kind, outcomes: [...new Set(met)] }).toEqual({ name, kind, outcomes: own === "-" ? [] : [SHORT[own]] });
    });
  }
});
