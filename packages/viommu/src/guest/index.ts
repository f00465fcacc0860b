// A guest to test with: a machine of its own on a program's memory, whose programs can run guests in turn.
export type { AssignedFunction } from "./assigned-device.js";
export { GuestMachine } from "./guest-machine.js";
export type { AssignedDevice, GuestMachineOptions } from "./guest-machine.js";
export type { GuestProgram } from "./types.js";
