/** Every row of CORNER-CASES.md is a test, or says what is not modelled; and no test cites a row that is not there. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const here = import.meta.dirname;
const list = readFileSync(join(here, "../../CORNER-CASES.md"), "utf8");
const rows = list.split("\n").filter((line) => /^\| \d/.test(line)).map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
const tests = [here, join(here, "../spec")].flatMap((folder) => readdirSync(folder).filter((name) => name.endsWith(".test.ts")).map((name) => join(folder, name)));
const titles = tests.flatMap((file) => readFileSync(file, "utf8").match(/corner cases? [\d, and]+/g) ?? []);
const cited = new Set(titles.flatMap((title) => title.match(/\d+/g) ?? []).map(Number));

describe("the list of corner cases", () => {
  it("has 56 rows in order, each with a section", () => {
    expect(rows.map(([number]) => Number(number))).toEqual(Array.from({ length: 56 }, (_, i) => i + 1));
    for (const [number, section, what] of rows) expect([/\d/.test(section), what.length > 10], `row ${number}`).toEqual([true, true]);
  });

  it.each(rows)("%s (%s)", (number, _section, _what, state) => {
    expect(state).toMatch(/^(tested|not modelled: )/);
    expect(cited.has(Number(number))).toBe(state.startsWith("tested"));
  });

  it("has every number that a test cites", () => {
    expect([...cited].filter((number) => number < 1 || number > rows.length)).toEqual([]);
  });
});
