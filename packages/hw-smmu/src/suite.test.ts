import { iommuSuite } from "@iommukit/core/testing";
import { describe, it } from "vitest";
import { smmuIommuFactory } from "./plugin.js";

describe("the default unit", () => {
  for (const { name, run } of iommuSuite(smmuIommuFactory)) it(name, run);
});
