/** What the package adds to a composition root. */
import type { Plugin } from "@iommukit/core";
import { deviceModels } from "./index.js";
import { TOKENS } from "@iommukit/core";

export const plugin: Plugin = {
  name: "@iommukit/mdev",
  register(container) {
    for (const model of deviceModels) container.register(TOKENS.devices, { useValue: model });
  },
};

export default plugin;
