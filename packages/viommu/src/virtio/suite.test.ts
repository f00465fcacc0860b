import { iommuSuite } from "@iommukit/core/testing";
import { describe, it } from "vitest";
import { virtioIommuFactory } from "./factory.js";

describe.each(["strict", "qemu"])("a virtio-iommu, %s", (mode) => {
  for (const { name, run } of iommuSuite(virtioIommuFactory, { unit: { mode } })) it(name, run);
});
