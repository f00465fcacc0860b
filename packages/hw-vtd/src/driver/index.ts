export { VtdDomain } from "./domain.js";
export { VtdDriver } from "./driver.js";
export type { VtdDriverOptions } from "./driver.js";
