// @iommukit/hw-smmu: the hardware model. The manual's tables and the plugin have subpaths of their own.
export { DEFAULT_CACHES, smmuReplayUnitFactory, SmmuUnit } from "./hardware/index.js";
export type { CacheGeometry, SmmuUnitOptions, StalledTransaction, StallListener, UnitChoices } from "./hardware/index.js";
export { IDENTIFICATION_RULES, readCapabilities, REGISTER_BYTES } from "./spec/index.js";
export type { Capabilities, Identification } from "./spec/index.js";
