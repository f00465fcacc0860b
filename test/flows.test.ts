/** Flows of RFC v2 as `iommu tour` tells them, on both kinds of hardware. */
import { buildMachine } from "@iommukit/core";
import { dmaTestModel } from "@iommukit/core/devices";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { stories } from "@iommukit/viommu/story";
import { expect, it } from "vitest";

const FACTORIES = [vtdIommuFactory, smmuIommuFactory];
const TOLD = stories.flatMap((story) => FACTORIES.flatMap((factory) => Object.keys(story.modes?.(factory.name) ?? { "as it is": "" }).map((mode) => [story.name, factory.name, mode, story, factory] as const)));

it.each(TOLD)("the story %s holds on %s, %s", (_story, _name, mode, story, factory) => {
  const machine = buildMachine(story.machine({ type: factory.name, options: factory.everything ?? {} }), { iommus: [factory], devices: [dmaTestModel] });
  const checks: { what: string; held: boolean }[] = [];
  story.tell(machine, { step: (_title, run) => run({ say: () => undefined, check: (what, held) => void checks.push({ what, held }) }) }, { iommus: FACTORIES, ...(story.modes ? { mode } : {}) });
  expect(checks.filter(({ held }) => !held)).toEqual([]);
  expect(checks.length).toBeGreaterThan(7);
});

it("a mode that a story has not is refused", () => {
  const story = stories.find(({ name }) => name === "page-fault")!;
  const machine = buildMachine(story.machine({ type: "smmuv3", options: smmuIommuFactory.everything ?? {} }), { iommus: [smmuIommuFactory], devices: [dmaTestModel] });
  expect(() => story.tell(machine, { step: (_title, run) => run({ say: () => undefined, check: () => undefined }) }, { iommus: FACTORIES, mode: "nested" })).toThrow('there is no mode "nested"');
});
