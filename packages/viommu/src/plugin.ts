/** What the package adds to a composition root. */
import { type Plugin, TOKENS } from "@iommukit/core";
import { stories } from "./story/index.js";
import { virtioIommuFactory, virtioReplayUnitFactory } from "./virtio/index.js";

export const plugin: Plugin = {
  name: "@iommukit/viommu",
  register(container) {
    container.register(TOKENS.iommus, { useValue: virtioIommuFactory });
    container.register(TOKENS.replayUnits, { useValue: virtioReplayUnitFactory });
    for (const story of stories) container.register(TOKENS.stories, { useValue: story });
  },
};

export default plugin;
