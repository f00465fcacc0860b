// A guest's address space kept again on a host that does not walk the guest's tables.
export { IoasShadow } from "./ioas-shadow.js";
export { ShadowSpace } from "./shadow-space.js";
export type { GuestLeaf, GuestLeaves, OnRefusal, ShadowTarget } from "./shadow-space.js";
