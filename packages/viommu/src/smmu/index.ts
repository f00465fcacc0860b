// A virtual SMMUv3 on a host's vIOMMU.
export { shownTo } from "./identification.js";
export { HostObjects } from "./host-objects.js";
export type { HostDevice } from "./host-objects.js";
export { VirtualSmmu } from "./virtual-smmu.js";
export type { GuestUnit } from "./guest-unit.js";
export type { VirtualSmmuOptions } from "./virtual-smmu.js";
