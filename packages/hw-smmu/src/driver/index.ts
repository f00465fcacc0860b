export { SmmuDriver } from "./driver.js";
export type { SmmuDriverOptions, Wire } from "./driver.js";
