import type { MdevDriver } from "@iommukit/core";
import { copyDriver } from "./copy.js";
import { serialDriver } from "./serial.js";

export { copyDriver } from "./copy.js";
export { CopyControl, CopyInterrupt, CopyRegister, CopyStatus, Descriptor, DESCRIPTOR_BYTES, DescriptorFlag, DescriptorStatus, FaultReason } from "./copy-layout.js";
export { serialDriver } from "./serial.js";

export const softwareDrivers: readonly MdevDriver[] = [serialDriver, copyDriver];
