export { vtdTableDecoder } from "./decoder.js";
export { dueInvalidation, ownFlags } from "./staleness.js";
export { vtdStructureDecoder } from "./structure-decoder.js";
