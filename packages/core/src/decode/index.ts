export { isElf, loadCore, loadTables, readRegisters } from "./load.js";
export { mergeLeaves } from "./ranges.js";
export type { MappedRange } from "./ranges.js";
