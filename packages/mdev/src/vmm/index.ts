// What a virtual machine monitor does with mediated devices.
export { GuestBinds } from "./guest-binds.js";
export type { BindEvent, HostDevice } from "./guest-binds.js";
export { checkTopology } from "./topology.js";
export type { ShownDevice } from "./topology.js";
