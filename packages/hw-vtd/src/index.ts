// @iommukit/hw-vtd: the hardware model. The driver, the decoder and the plugin have subpaths of their own.
export { DEFAULT_CACHES, DEFAULT_POLICIES, REGISTER_BYTES, VtdUnit, vtdReplayUnitFactory } from "./hardware/index.js";
export type { CacheGeometry, VtdPolicies, VtdUnitOptions } from "./hardware/index.js";
export { readCapabilities } from "./spec/index.js";
export type { Capabilities } from "./spec/index.js";
