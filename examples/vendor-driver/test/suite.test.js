// The conformance kit over an IOMMU that iommukit has never heard of.
import { test } from "node:test";
import { formatSuite, iommuSuite } from "@iommukit/core/testing";
import { acmeIommuFactory } from "../dist/plugin.js";
import { FORMAT } from "../dist/spec.js";

for (const { name, run } of formatSuite(FORMAT, { leafLo: 2 })) test(name, run);
for (const { name, run } of iommuSuite(acmeIommuFactory)) test(name, run);
for (const { name, run } of iommuSuite(acmeIommuFactory, { unit: { entries: 0 } })) test(`without a cache: ${name}`, run);
