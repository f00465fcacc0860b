// What the manual says, as data: Intel VT-d Rev 5.10.
export { CAP, ECAP, readCapabilities } from "./capabilities.js";
export type { Capabilities } from "./capabilities.js";
export * from "./descriptors.js";
export * from "./entries.js";
export { explainReason, FAULTS, faultIndex, outcomeOf } from "./faults.js";
export type { FaultCondition, Outcome, Outcomes } from "./faults.js";
export * from "./formats.js";
export * from "./interrupts.js";
export * from "./orders.js";
export * from "./paging-entries.js";
export * from "./records.js";
export { NOT_MODELLED, REGISTER_LAYOUTS } from "./register-fields.js";
export type { RegisterLayout } from "./register-fields.js";
export * from "./registers.js";
export { breaksRules, isIgnored, violations } from "./conditions.js";
export type { UnitRules, Violation } from "./conditions.js";
