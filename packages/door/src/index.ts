export { findCompiler } from "./shim.js";
export { runProgram } from "./run.js";
export type { RunOptions } from "./run.js";
