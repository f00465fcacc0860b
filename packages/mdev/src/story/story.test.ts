import { buildMachine, type IommuFactory } from "@iommukit/core";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { describe, expect, it } from "vitest";
import { deviceModels, mdevBus, mdevDrivers } from "../index.js";
import { mdevStory } from "./story.js";

function tell(factory: IommuFactory): { what: string; held: boolean }[] {
  const spec = mdevStory.machine({ type: factory.name, options: factory.everything ?? {} });
  const machine = buildMachine(spec, { iommus: [factory], devices: deviceModels, mdevBus, mdevDrivers });
  const checks: { what: string; held: boolean }[] = [];
  mdevStory.tell(machine, { step: (_title, run) => run({ say: () => undefined, check: (what, held) => void checks.push({ what, held }) }) }, { iommus: [factory] });
  return checks;
}

describe("the story of two mediated devices of one parent", () => {
  it.each([vtdIommuFactory, smmuIommuFactory])("holds on $name", (factory) => {
    const checks = tell(factory);
    expect(checks.filter(({ held }) => !held)).toEqual([]);
    expect(checks.length).toBe(20);
  });
});
