import { iommuSuite } from "@iommukit/core/testing";
import { describe, it } from "vitest";
import { smmuIommuFactory } from "./plugin.js";
import { PRESETS } from "./presets.js";

describe.each(Object.keys(PRESETS))("a unit of preset %s", (preset) => {
  const factory = { ...smmuIommuFactory, create: (...[environment, options]: Parameters<typeof smmuIommuFactory.create>) => smmuIommuFactory.create(environment, { preset, ...options }) };
  for (const { name, run } of iommuSuite(factory)) it(name, run);
});
