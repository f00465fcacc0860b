export type { CacheGeometry } from "./caches.js";
export { vtdReplayUnitFactory } from "./replay.js";
export { DEFAULT_CACHES, REGISTER_BYTES, VtdUnit } from "./unit.js";
export type { VtdUnitOptions } from "./unit.js";
