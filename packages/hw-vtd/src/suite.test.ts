import { iommuSuite } from "@iommukit/core/testing";
import { describe, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";
import { PRESETS } from "./presets.js";

describe.each(Object.keys(PRESETS))("preset %s", (preset) => {
  for (const { name, run } of iommuSuite(vtdIommuFactory, { unit: { preset } })) it(name, run);
});
