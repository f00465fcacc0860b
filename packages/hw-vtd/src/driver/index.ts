export { VtdDriver } from "./driver.js";
export type { VtdDriverOptions } from "./driver.js";
export { FaultLog } from "./fault-log.js";
export type { ReservedMemory } from "./reserved-memory.js";
