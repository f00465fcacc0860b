export { DEFAULT_CACHES } from "./caches.js";
export type { CacheGeometry } from "./caches.js";
export { DEFAULT_POLICIES, POLICY_VALUES } from "./policies.js";
export type { VtdPolicies } from "./policies.js";
export { vtdReplayUnitFactory } from "./replay.js";
export { DEFAULT_DEVICE_TLB_TIMEOUT, DEFAULT_INTERRUPT_ENTRIES, REGISTER_BYTES, VtdUnit } from "./unit.js";
export type { VtdUnitOptions } from "./unit.js";
