/** Events, command errors and global errors, each with a recipe that is run when asked for. */
import { type FaultCatalogue, type FaultDemonstration, type FaultOptions, type FaultSummary } from "@iommukit/core";
import { flaws, kindsOf, problems, switchOf } from "./check.js";
import type { Kind, Recipe } from "./recipe.js";
import { COMMAND_RECIPES } from "./recipes-commands.js";
import { ILLEGAL_RECIPES } from "./recipes-illegal.js";
import { PERMISSION_RECIPES } from "./recipes-permissions.js";
import { STREAM_RECIPES } from "./recipes-streams.js";
import { WALK_RECIPES } from "./recipes-walks.js";
import { runCase } from "./run.js";
import { notesOf, recordOf, requestLine, responseLine, structuresOf, unitLines } from "./show.js";
import { type Uncaused, UNCAUSED } from "./uncaused.js";

/** By event number; command errors and global errors behind. */
export const RECIPES: readonly Recipe[] = [...STREAM_RECIPES, ...ILLEGAL_RECIPES, ...WALK_RECIPES, ...PERMISSION_RECIPES, ...COMMAND_RECIPES]
  .map((recipe, i) => ({ recipe, i }))
  .sort((a, b) => orderOf(a.recipe) - orderOf(b.recipe) || a.i - b.i)
  .map(({ recipe }) => recipe);

/** Global errors and command errors have no event number, though an event may come with one. */
function codeOf({ name, expect }: Recipe): number | undefined {
  return name.startsWith("GERROR") ? undefined : expect.event;
}
function orderOf(recipe: Recipe): number {
  return codeOf(recipe) ?? Infinity;
}

function summary(recipe: Recipe): FaultSummary {
  const { name, text } = recipe;
  const code = codeOf(recipe);
  const kinds = kindsOf(recipe);
  const suppressedBy = switchOf(recipe, kinds[0])?.text;
  return { name, ...(code === undefined ? {} : { code }), text, section: sectionOf(recipe), kinds, ...(suppressedBy === undefined ? {} : { suppressedBy }) };
}

const sectionOf = ({ section }: { readonly section: string }): string => (section.startsWith("DDI") ? section : `SMMU ${section}`);

function absent({ name, code, text, section, why }: Uncaused): FaultSummary {
  return { name, ...(code === undefined ? {} : { code }), text, section: `SMMU ${section}`, kinds: [], uncaused: why };
}

export const smmuFaultCatalogue: FaultCatalogue = {
  iommu: "smmuv3",
  codeName: "event",
  list: () => [...RECIPES.map(summary), ...UNCAUSED.map(absent)],
  demonstrate,
};

function recipeOf(name: string): Recipe {
  const recipe = RECIPES.find((candidate) => candidate.name === name);
  if (recipe !== undefined) return recipe;
  const uncaused = UNCAUSED.find((candidate) => candidate.name === name);
  if (uncaused !== undefined) throw new RangeError(`nothing causes ${name}: ${uncaused.why}`);
  throw new RangeError(`SMMUv3 has no fault ${name}`);
}

function kindOf(recipe: Recipe, wanted: string | undefined): Kind {
  const kinds = kindsOf(recipe);
  const kind = wanted === undefined ? kinds[0] : kinds.find((candidate) => candidate === wanted);
  if (kind === undefined) throw new RangeError(`${recipe.name} has no request of kind "${wanted}"; there are: ${kinds.join(", ")}`);
  return kind;
}

function demonstrate(name: string, { kind: wanted, suppressed = false }: FaultOptions = {}): FaultDemonstration {
  const recipe = recipeOf(name);
  const kind = kindOf(recipe, wanted);
  const off = suppressed ? switchOf(recipe, kind) : undefined;
  const run = runCase({ recipe, kind, ...(off ? { over: off.over } : {}) });
  const record = recordOf(recipe, run);
  return {
    fault: summary(recipe),
    kind,
    suppressed,
    ...(off ? { suppressedBy: off.text } : {}),
    unit: unitLines(recipe, run),
    structures: structuresOf(recipe, kind, run),
    notes: notesOf(recipe),
    request: requestLine(kind, run),
    response: responseLine(recipe, run),
    ...(record ? { record } : {}),
    why: recipe.why,
    cause: recipe.cause,
    mend: recipe.mend,
    asExpected: verify(recipe, kind, suppressed).length === 0,
  };
}

/** What is not as the recipe says, with its change and without; empty when all is. */
export function verify(recipe: Recipe, kind: Kind, suppressed: boolean): string[] {
  const off = suppressed ? switchOf(recipe, kind) : undefined;
  const run = runCase({ recipe, kind, ...(off ? { over: off.over } : {}) });
  return [...problems(recipe, kind, run, suppressed), ...flaws(recipe, kind, runCase({ recipe, kind, unchanged: true }))];
}
