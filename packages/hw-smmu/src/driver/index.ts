export { SmmuDriver } from "./driver.js";
export type { Wire } from "./driver.js";
