// A guest's address space kept again on a host that does not walk the guest's tables.
export { ShadowRight, ShadowSpace } from "./shadow-space.js";
export type { GuestLeaf, GuestLeaves, OnRefusal, ShadowTarget } from "./shadow-space.js";
export { ChildShadow, UserShadow } from "./targets.js";
