export { smmuTableDecoder } from "./decoder.js";
export { dueInvalidation, ownFlags } from "./staleness.js";
