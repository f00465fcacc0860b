import { readFileSync } from "node:fs";
import { playFile } from "@iommukit/core/testing";
import { expect, it } from "vitest";
import { smmuReplayUnitFactory } from "./hardware/index.js";
it.each(["stage1","stage2","nested","invalidation"])("%s", (n) => {
  const results = [...playFile(readFileSync(`/work/shared/data/vectors/smmuv3-${n}.jsonl.gz`), { replayUnits: [smmuReplayUnitFactory], decoders: [] })];
  const bad = results.filter((r) => r.failures.length > 0);
  console.log(n, results.length, bad.length, JSON.stringify(bad.slice(0, 6), null, 1).slice(0, 3000));
  expect(bad.length).toBe(0);
});
