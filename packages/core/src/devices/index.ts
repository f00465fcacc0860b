// Device models that come with core.
import type { Plugin } from "../plugin.js";
import { TOKENS } from "../tokens.js";
import { dmaTestModel } from "./dma-test.js";
import { eduModel } from "./edu.js";
import { iommuTestdevModel } from "./iommu-testdev.js";

export { DeviceTlb, PageOutcome } from "./device-tlb.js";
export type { DeviceTlbOptions, PageAccess } from "./device-tlb.js";
export { AtsCapabilities, EXPRESS_CAPABILITY } from "./ats-capabilities.js";
export { PageRequestStatus } from "./page-request-client.js";
export { StallingDma } from "./stalling-dma.js";
export { eduModel } from "./edu.js";
export { IOMMU_TESTDEV_WORD, iommuTestdevModel, IommuTestdevRegister } from "./iommu-testdev.js";
export { DmaTestCommand, dmaTestModel, DmaTestRegister, DmaTestStatus } from "./dma-test.js";

/** Registers every model of this package. */
export const devicesPlugin: Plugin = {
  name: "@iommukit/core/devices",
  register(container) {
    for (const model of [dmaTestModel, iommuTestdevModel, eduModel]) container.register(TOKENS.devices, { useValue: model });
  },
};

export default devicesPlugin;
