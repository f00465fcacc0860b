// Every event, command error and global error of the unit, with a configuration that produces exactly it.
export { RECIPES, smmuFaultCatalogue, verify } from "./catalogue.js";
export type { Kind, Recipe } from "./recipe.js";
export { runCase } from "./run.js";
export type { FaultCase, FaultRun } from "./run.js";
export { UNCAUSED } from "./uncaused.js";
