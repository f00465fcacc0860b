import { iommuSuite } from "@iommukit/core/testing";
import { describe, it } from "vitest";
import { smmuIommuFactory } from "./plugin.js";
import { PRESETS } from "./presets.js";

/** Sizes whose tables differ: a fifth level of stage 1 (LPA2), start tables of stage 2 side by side. */
const SIZES: readonly (readonly [name: string, options: Readonly<Record<string, string>>])[] = [
  ["stage 1, 52 bits", { preset: "server-52" }],
  ...([["40", "0x72"], ["42", "0x73"], ["44", "0x74"], ["48", "0x75"], ["52", "0x4f6"]] as const).map(
    // As "server-52", without stage 1.
    ([bits, idr5]) => [`stage 2, ${bits} bits`, { preset: "server-52", idr0: "0xd467099", idr5 }] as const,
  ),
];
describe.each(SIZES)("a unit with tables of %s", (_name, unit) => {
  for (const { name, run } of iommuSuite(smmuIommuFactory, { unit })) it(name, run);
});

describe.each(Object.keys(PRESETS))("a unit of preset %s", (preset) => {
  const factory = { ...smmuIommuFactory, create: (...[environment, options]: Parameters<typeof smmuIommuFactory.create>) => smmuIommuFactory.create(environment, { preset, ...options }) };
  for (const { name, run } of iommuSuite(factory)) it(name, run);
});
