export { smmuReplayUnitFactory } from "./replay.js";
export type { StalledTransaction, StallListener } from "./stalls.js";
export type { TransactionAttributes } from "./attribute-walk.js";
export { DEFAULT_CACHES, SmmuUnit } from "./unit.js";
export type { CacheGeometry, SmmuUnitOptions, UnitChoices } from "./unit.js";
