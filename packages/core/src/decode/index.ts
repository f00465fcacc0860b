export { isElf, loadCore, loadTables, readRegisters } from "./load.js";
export { mergeLeaves } from "./ranges.js";
export type { MappedRange } from "./ranges.js";
export { isText, parseStructures, splitStructures } from "./words.js";
export type { DecodedStructure, LogExplanation, StructureDecoder, StructureKind, UnitRegisters } from "./structures.js";
export { blockedSpace, BudgetedSpace, dumpBudget, readWords, Right, rightLetters } from "./unit.js";
export type { DumpBudget, StepContext } from "./unit.js";
