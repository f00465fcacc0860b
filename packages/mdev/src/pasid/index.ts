// PASIDs of users and on the wire (RFC v2, 1.4 and 2.3).
export { translateGuestPasid } from "./cpu-translation.js";
export type { PasidDirectories } from "./cpu-translation.js";
export { DevicePasids } from "./device-pasids.js";
export type { PasidScopes } from "./device-pasids.js";
export { enqcmd, enqcmds } from "./enqcmd.js";
export type { Cpu, EnqueueOutcome, GuestTranslation, Portal } from "./enqcmd.js";
export { PASID_KINDS, PasidFlag, pasidFlags, pasidKind } from "./kinds.js";
export type { PasidKind, PasidPool } from "./kinds.js";
export { PasidNumberSpace } from "./number-space.js";
export { SharedPasids } from "./shared-pasids.js";
export { VirtualMachine } from "./virtual-machine.js";
