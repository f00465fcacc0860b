/** What the package adds to a composition root. */
import { type Plugin, TOKENS } from "@iommukit/core";
import { virtioReplayUnitFactory } from "./virtio/index.js";

export const plugin: Plugin = {
  name: "@iommukit/viommu",
  register(container) {
    container.register(TOKENS.replayUnits, { useValue: virtioReplayUnitFactory });
  },
};

export default plugin;
