// Virtual VT-d: a unit that a guest programs, carried out on the host.
export { GUEST_UNITS } from "./capabilities.js";
export type { GuestWords } from "./capabilities.js";
export { checkTopology } from "../host/topology.js";
export type { ShownDevice } from "../host/topology.js";
export { HostObjects } from "./host-objects.js";
export type { HostDevice } from "./host-objects.js";
export { GuestPasids, VirtualCommand, VirtualCommandReg, VirtualCommands, VirtualCommandStatus } from "./virtual-commands.js";
export { VirtualVtd } from "./virtual-vtd.js";
export type { GuestUnit, VirtualVtdOptions } from "./virtual-vtd.js";
