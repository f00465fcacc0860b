/** What the package adds to a composition root. */
import { type Plugin, TOKENS } from "@iommukit/core";
import { smmuReplayUnitFactory } from "./hardware/index.js";

export const plugin: Plugin = {
  name: "@iommukit/hw-smmu",
  register(container) {
    container.register(TOKENS.replayUnits, { useValue: smmuReplayUnitFactory });
  },
};

export default plugin;
