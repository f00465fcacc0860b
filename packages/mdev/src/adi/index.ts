// Assignable device interfaces of a DSA.
export { VirtualDsa } from "./device.js";
export { mediateDsa } from "./mediate.js";
