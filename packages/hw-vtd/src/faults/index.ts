// Every fault of the unit, with a configuration that produces exactly it.
export { problems, RECIPES, vtdFaultCatalogue } from "./catalogue.js";
export type { Recipe } from "./recipe.js";
export { INTERRUPT, runCase } from "./run.js";
export type { FaultCase, FaultRun } from "./run.js";
