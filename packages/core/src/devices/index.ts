// Device models that come with core.
import type { Plugin } from "../plugin.js";
import { TOKENS } from "../tokens.js";
import { dmaTestModel } from "./dma-test.js";

export { DmaTestCommand, dmaTestModel, DmaTestRegister, DmaTestStatus } from "./dma-test.js";

/** Registers every model of this package. */
export const devicesPlugin: Plugin = {
  name: "@iommukit/core/devices",
  register(container) {
    container.register(TOKENS.devices, { useValue: dmaTestModel });
  },
};

export default devicesPlugin;
