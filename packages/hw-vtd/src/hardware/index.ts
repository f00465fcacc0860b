export { DEFAULT_CACHES } from "./caches.js";
export type { CacheGeometry } from "./caches.js";
export { DEFAULT_POLICIES } from "./policies.js";
export type { VtdPolicies } from "./policies.js";
export { vtdReplayUnitFactory } from "./replay.js";
export { REGISTER_BYTES, VtdUnit } from "./unit.js";
export type { VtdUnitOptions } from "./unit.js";
