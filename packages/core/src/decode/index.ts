export { isElf, loadCore, loadTables, readRegisters } from "./load.js";
export { mergeLeaves } from "./ranges.js";
export type { MappedRange } from "./ranges.js";
export { isText, parseStructures, splitStructures } from "./words.js";
export type { DecodedStructure, LogExplanation, StructureDecoder, StructureKind, UnitRegisters } from "./structures.js";
export { blockedSpace, Right, DumpBudget, readWords, rightLetters } from "./unit.js";
export type { StepContext } from "./unit.js";
