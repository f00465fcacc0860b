// Virtual VT-d: a unit that a guest programs, carried out on the host.
export { GuestPasids, VirtualCommand, VirtualCommandReg, VirtualCommands, VirtualCommandStatus } from "./virtual-commands.js";
