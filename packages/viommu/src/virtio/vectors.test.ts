import { readFileSync } from "node:fs";
import { playFile } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { virtioReplayUnitFactory } from "./index.js";

const FILE = new URL("../../../../conformance/vectors/virtio-iommu.jsonl.gz", import.meta.url);

describe("answers and events recorded of QEMU 11.1", () => {
  it("are given here, too", () => {
    const results = [...playFile(readFileSync(FILE), { replayUnits: [virtioReplayUnitFactory], decoders: [] })];
    expect(results.length).toBe(20);
    expect(results.filter(({ failures }) => failures.length > 0)).toEqual([]);
  });
});
