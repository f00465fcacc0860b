// Assignable device interfaces of a DSA.
export { VirtualDsa } from "./device.js";
export { mediateDsa, virtualDsa } from "./mediate.js";
