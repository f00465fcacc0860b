// The conformance kit.
export { gunzipIfNeeded, playFile } from "./conform.js";
export type { Players } from "./conform.js";
export { formatSuite } from "./format-suite.js";
export type { FormatCheck, FormatSuiteOptions } from "./format-suite.js";
export { FormatError } from "./json.js";
export type { CaseResult, Failure } from "./result.js";
export { playTables } from "./tables.js";
export { playVectors } from "./vectors.js";
