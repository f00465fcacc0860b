export type { DoorCounts } from "./door.js";
export { findCompiler } from "./preload/shim.js";
export { DOORS, runProgram } from "./run.js";
export type { DoorKind, RunOptions } from "./run.js";
