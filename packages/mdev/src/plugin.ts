/** What the package adds to a composition root. */
import type { Plugin } from "@iommukit/core";
import { TOKENS } from "@iommukit/core";
import { deviceModels, mdevBus, mdevDrivers } from "./index.js";
import { mdevStory } from "./story/story.js";

export const plugin: Plugin = {
  name: "@iommukit/mdev",
  register(container) {
    container.register(TOKENS.mdevBus, { useValue: mdevBus });
    for (const model of deviceModels) container.register(TOKENS.devices, { useValue: model });
    container.register(TOKENS.stories, { useValue: mdevStory });
    for (const driver of mdevDrivers) container.register(TOKENS.mdevDrivers, { useValue: driver });
  },
};

export default plugin;
