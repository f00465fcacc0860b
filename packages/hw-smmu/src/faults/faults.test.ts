/** Row by row: each recipe causes exactly what it says, by every request that meets it, and nothing goes wrong without its change. */
import { encodeFields } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { COMMANDS } from "../spec/commands.js";
import { CD } from "../spec/context.js";
import { EVENTS } from "../spec/events.js";
import { readCapabilities } from "../spec/identification.js";
import { CD_RULES, hasStage1, STE_RULES, streamWorld } from "../spec/illegal.js";
import { STE } from "../spec/stream-table.js";
import { type Fields, readFields } from "../spec/words.js";
import { expectedRecord, kindsOf, problems, switchOf } from "./check.js";
import { RECIPES, smmuFaultCatalogue, verify } from "./catalogue.js";
import { type FaultRun, runCase } from "./run.js";
import { UNCAUSED } from "./uncaused.js";

const ruleName = (rule: { readonly name: string; readonly text: string }): string => `${rule.name}: ${rule.text}`;
const numbers = (words: readonly bigint[]): Uint32Array => Uint32Array.from(words.flatMap((word) => [Number(word & 0xffff_ffffn), Number(word >> 32n)]));

/** The rules that the structures of a run break, by the tables alone. */
function brokenRules({ identification, parts }: FaultRun): string[] {
  const fields = (name: string, table: typeof STE): Fields => readFields(table, numbers(encodeFields(table, parts.find((part) => part.name === name)?.values ?? {})));
  const caps = readCapabilities(identification);
  const ste = fields("STE", STE);
  const world = streamWorld(ste, caps, false);
  const found = STE_RULES.filter((rule) => rule.when({ f: ste, caps, world })).map(ruleName);
  if (found.length > 0 || !hasStage1(ste)) return found;
  return CD_RULES.filter((rule) => rule.when({ f: fields("CD", CD), ste, caps, world })).map(ruleName);
}

describe("the catalogue", () => {
  const rows = smmuFaultCatalogue.list();

  it("has every event of the manual, caused or with the reason why nothing causes it", () => {
    const named = new Set(rows.filter(({ code }) => code !== undefined).map(({ name, code }) => `${name.split(":")[0]} ${code}`));
    expect([...named].sort()).toEqual(EVENTS.map(({ table, code }) => `${table.structure} ${code}`).sort());
  });

  it("has every rule of ILLEGAL structures", () => {
    expect([...new Set(RECIPES.flatMap(({ rule }) => rule ?? []))].sort()).toEqual([...new Set([...STE_RULES, ...CD_RULES].map(ruleName))].sort());
  });

  it("has every command that some unit finds illegal, whatever its fields are", () => {
    const bare = readCapabilities({ idr0: 1 << 24, idr1: 0, idr3: 0, idr5: 0, aidr: 0 });
    const needy = COMMANDS.filter(({ table, illegal }) => illegal(readFields(table, new Uint32Array(4)), bare)).map(({ table }) => table.structure.replace("CMD_", "CERROR_ILL:"));
    for (const name of needy) expect(RECIPES.map((recipe) => recipe.name)).toContain(name);
  });

  it("names each fault once, and the plain case of each before its variants", () => {
    const names = rows.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names.filter((other) => other.includes(":"))) expect(names.indexOf(name.split(":")[0]), name).toBeGreaterThanOrEqual(0);
  });

  it.each(UNCAUSED)("says why nothing causes $name", ({ name, why }) => {
    expect(() => smmuFaultCatalogue.demonstrate(name)).toThrow(why);
  });

  it("refuses names and kinds that it has not", () => {
    expect(() => smmuFaultCatalogue.demonstrate("F_NONE")).toThrow("no fault F_NONE");
    expect(() => smmuFaultCatalogue.demonstrate("F_PERMISSION", { kind: "translated" })).toThrow("there are: untranslated");
  });
});

describe.each(RECIPES)("$name ($section)", (recipe) => {
  const kinds = kindsOf(recipe);

  it.each(kinds)("%s: exactly this, and without the change nothing", (kind) => {
    expect(verify(recipe, kind, false)).toEqual([]);
  });

  it.each(kinds)("%s: with what keeps the record off, silent, or recorded all the same", (kind) => {
    expect(verify(recipe, kind, true)).toEqual([]);
    const off = switchOf(recipe, kind);
    if (off !== undefined && kind === "untranslated") expect(smmuFaultCatalogue.demonstrate(recipe.name, { kind, suppressed: true })).not.toHaveProperty("record");
  });

  it("is held to something: what comes of it without the change is not taken for the fault", () => {
    expect(problems(recipe, kinds[0], runCase({ recipe, kind: kinds[0], unchanged: true }), false)).not.toEqual([]);
  });

  it("breaks one rule, or none where it is about something else", () => {
    if (recipe.rule === undefined) return;
    expect(brokenRules(runCase({ recipe, kind: "untranslated" }))).toEqual([recipe.rule]);
    expect(brokenRules(runCase({ recipe, kind: "untranslated", unchanged: true }))).toEqual([]);
  });

  it("explains itself, and marks what is wrong", () => {
    const shown = smmuFaultCatalogue.demonstrate(recipe.name);
    const marks = [...shown.unit, ...shown.structures.flatMap(({ fields }) => fields.map(({ violation }) => violation ?? ""))].filter((text) => text.includes("<- this"));
    const inRequest = recipe.change.request !== undefined || recipe.change.deaf || recipe.change.readOnly !== undefined || recipe.change.sync !== undefined || recipe.change.command?.reserved !== undefined;
    expect(marks.length > 0 || inRequest, marks.join()).toBe(true);
    for (const text of [shown.why, shown.cause, shown.mend, shown.request, shown.response, shown.fault.text]) expect(text).not.toBe("");
    if (recipe.expect.event !== undefined && !recipe.name.startsWith("GERROR")) expect(shown.record?.words).toEqual(expectedRecord(recipe, shown.kind as never, runCase({ recipe, kind: shown.kind as never })));
  });
});
