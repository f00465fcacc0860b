export { smmuTableDecoder } from "./decoder.js";
export { dueInvalidation, ownFlags } from "./staleness.js";
export { smmuStructureDecoder } from "./structure-decoder.js";
