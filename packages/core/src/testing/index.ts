// The conformance kit.
export { gunzipIfNeeded, playFile } from "./conform.js";
export type { Players } from "./conform.js";
export { FormatError } from "./json.js";
export type { CaseResult, Failure } from "./result.js";
export { playTables } from "./tables.js";
export { playVectors } from "./vectors.js";
