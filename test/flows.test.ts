/** Flows of RFC v2 as `iommu tour` tells them, on both kinds of hardware. */
import { buildMachine } from "@iommukit/core";
import { dmaTestModel } from "@iommukit/core/devices";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { stories } from "@iommukit/viommu/story";
import { describe, expect, it } from "vitest";

describe.each(stories.map((story) => [story.name, story] as const))("the story %s", (_name, story) => {
  it.each([vtdIommuFactory, smmuIommuFactory])("holds on $name", (factory) => {
    const machine = buildMachine(story.machine({ type: factory.name, options: factory.everything ?? {} }), { iommus: [factory], devices: [dmaTestModel] });
    const checks: { what: string; held: boolean }[] = [];
    story.tell(machine, { step: (_title, run) => run({ say: () => undefined, check: (what, held) => void checks.push({ what, held }) }) }, { iommus: [vtdIommuFactory, smmuIommuFactory] });
    expect(checks.filter(({ held }) => !held)).toEqual([]);
    expect(checks.length).toBeGreaterThan(7);
  });
});
