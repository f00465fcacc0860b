import { readdirSync, readFileSync } from "node:fs";
import { gunzipIfNeeded, playFile } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { smmuReplayUnitFactory } from "./hardware/index.js";
import { smmuIommuFactory } from "./plugin.js";
import { transcriptPlatform } from "./transcripts.js";

const root = new URL("../../../conformance/vectors/", import.meta.url);
const players = { replayUnits: [smmuReplayUnitFactory], decoders: [], platforms: [transcriptPlatform(smmuIommuFactory)] };
const files = ["./", "../transcripts/", "../transcripts/directed/"].flatMap((folder) =>
  readdirSync(new URL(folder, root)).filter((name) => /smmu.*\.jsonl(\.gz)?$/.test(name)).map((name) => folder + name),
);

describe("recorded behaviour", () => {
  it.each(files)("%s", (name) => {
    const results = [...playFile(readFileSync(new URL(name, root)), players)];
    expect(results.length).toBeGreaterThan(0);
    expect(results.filter((result) => result.failures.length > 0)).toEqual([]);
  });

  it("notices a translation that differs by one page", () => {
    const text = new TextDecoder().decode(gunzipIfNeeded(readFileSync(new URL("smmuv3-stage1.jsonl.gz", root))));
    const bent = text.replace(/"expect":\{"pa":"(0x[0-9a-f]+)"\}/, (_match, pa: string) => `"expect":{"pa":"0x${(BigInt(pa) ^ 0x1000n).toString(16)}"}`);
    const failed = [...playFile(new TextEncoder().encode(bent), players)].filter((result) => result.failures.length > 0);
    expect(failed).toHaveLength(1);
    expect(failed[0].failures[0].what).toContain("physical address");
  });

  it("notices an event record that lies in another slot", () => {
    const text = new TextDecoder().decode(gunzipIfNeeded(readFileSync(new URL("smmuv3-stage1.jsonl.gz", root))));
    const bent = text.replace(/"expectMem":"(0x[0-9a-f]+)"/, (_match, pa: string) => `"expectMem":"0x${(BigInt(pa) + 32n).toString(16)}"`);
    expect([...playFile(new TextEncoder().encode(bent), players)].filter((result) => result.failures.length > 0)).toHaveLength(1);
  });
});
