// Virtual VT-d: a unit that a guest programs, carried out on the host.
export { GuestPasids, VirtualCommand, VirtualCommandReg, VirtualCommands, VirtualCommandStatus } from "./virtual-commands.js";
export { VirtualVtd } from "./virtual-vtd.js";
export type { HostDevice, VirtualUnit } from "./virtual-vtd.js";
