// What the manual says, as data: Arm IHI0070 G.b (SMMUv3.0 to 3.4), DDI0487 M.a.
export { consistent, formatAttributes, INCOMING, type CacheLevel, type MemoryAttributes } from "./attributes.js";
export * from "./commands.js";
export * from "./context.js";
export * from "./events.js";
export * from "./identification.js";
export * from "./illegal.js";
export type { CommandRefusal, StreamView, UnitObserver } from "./orders.js";
export * from "./page-requests.js";
export * from "./registers.js";
export * from "./stream-table.js";
export * from "./tables.js";
export { fieldsByName, putField, readBits, readFields } from "./words.js";
export type { Fields } from "./words.js";
