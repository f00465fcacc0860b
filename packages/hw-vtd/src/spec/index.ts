// What the manual says, as data: Intel VT-d Rev 5.10.
export { CAP, ECAP, readCapabilities } from "./capabilities.js";
export type { Capabilities } from "./capabilities.js";
export * from "./descriptors.js";
export * from "./entries.js";
export { explainReason, FAULTS, faultIndex, outcomeOf } from "./faults.js";
export type { FaultCondition, Outcome, Outcomes } from "./faults.js";
export * from "./formats.js";
export * from "./registers.js";
