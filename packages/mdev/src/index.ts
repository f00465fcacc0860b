// @iommukit/mdev: mediated devices and their parents.
import type { DeviceModel, MdevDriver } from "@iommukit/core";
import { dsaModel } from "./dsa/index.js";
import { softwareDrivers } from "./software/index.js";

/** Parents, by their names in machine files. */
export const deviceModels: readonly DeviceModel[] = [dsaModel];

/** Parents that are no devices of the bus. */
export const mdevDrivers: readonly MdevDriver[] = [...softwareDrivers];

export {
  CopyControl, copyDriver, CopyInterrupt, CopyRegister, CopyStatus, Descriptor, DESCRIPTOR_BYTES, DescriptorFlag, DescriptorStatus, FaultReason, serialDriver,
} from "./software/index.js";
export { mdevBus, MediatedBus } from "./bus/index.js";

export { DsaDevice, dsaModel, dsaParent } from "./dsa/index.js";
export type { DsaParent } from "./dsa/index.js";
export { DevicePasids, enqcmd, enqcmds, PASID_KINDS, PasidFlag, pasidFlags, pasidKind, PasidNumberSpace, SharedPasids, translateGuestPasid, VirtualMachine } from "./pasid/index.js";
export type { Cpu, EnqueueOutcome, GuestTranslation, PasidDirectories, PasidKind, PasidPool, PasidScopes, Portal } from "./pasid/index.js";
