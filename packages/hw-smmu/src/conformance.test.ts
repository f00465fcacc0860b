import { readdirSync, readFileSync } from "node:fs";
import { loadCore, readRegisters } from "@iommukit/core/decode";
import { gunzipIfNeeded, playFile } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { smmuTableDecoder } from "./decode/index.js";
import { smmuReplayUnitFactory } from "./hardware/index.js";
import { smmuIommuFactory } from "./plugin.js";
import { transcriptPlatform } from "./transcripts.js";

const root = new URL("../../../conformance/", import.meta.url);
const players = { replayUnits: [smmuReplayUnitFactory], decoders: [smmuTableDecoder], platforms: [transcriptPlatform(smmuIommuFactory)] };
/** Which recordings are of an SMMUv3. */
const OURS: Readonly<Record<string, RegExp>> = { vectors: /smmu.*\.jsonl(\.gz)?$/, tables: /^linux-arm64.*\.tables\.json(\.gz)?$/, transcripts: /smmu.*\.jsonl(\.gz)?$/ };
const files = ["vectors/", "tables/", "transcripts/", "transcripts/directed/"].flatMap((folder) =>
  readdirSync(new URL(folder, root)).filter((name) => OURS[folder.split("/")[0]].test(name)).map((name) => folder + name),
);

describe("recorded behaviour", () => {
  it.each(files)("%s", (name) => {
    const results = [...playFile(readFileSync(new URL(name, root)), players)];
    expect(results.length).toBeGreaterThan(0);
    expect(results.filter((result) => result.failures.length > 0)).toEqual([]);
  });

  it("notices a translation that differs by one page", () => {
    const text = new TextDecoder().decode(gunzipIfNeeded(readFileSync(new URL("vectors/smmuv3-stage1.jsonl.gz", root))));
    const bent = text.replace(/"expect":\{"pa":"(0x[0-9a-f]+)"\}/, (_match, pa: string) => `"expect":{"pa":"0x${(BigInt(pa) ^ 0x1000n).toString(16)}"}`);
    const failed = [...playFile(new TextEncoder().encode(bent), players)].filter((result) => result.failures.length > 0);
    expect(failed).toHaveLength(1);
    expect(failed[0].failures[0].what).toContain("physical address");
  });

  it("notices an event record that lies in another slot", () => {
    const text = new TextDecoder().decode(gunzipIfNeeded(readFileSync(new URL("vectors/smmuv3-stage1.jsonl.gz", root))));
    const bent = text.replace(/"expectMem":"(0x[0-9a-f]+)"/, (_match, pa: string) => `"expectMem":"0x${(BigInt(pa) + 32n).toString(16)}"`);
    expect([...playFile(new TextEncoder().encode(bent), players)].filter((result) => result.failures.length > 0)).toHaveLength(1);
  });
});

describe("ELF cores", () => {
  it("hold the same tables as the JSON file of the same name", () => {
    const read = (name: string): Uint8Array => gunzipIfNeeded(readFileSync(new URL(`tables/${name}`, root)));
    const json = JSON.parse(new TextDecoder().decode(read("linux-arm64-core.tables.json.gz"))) as Record<string, unknown>;
    const core = loadCore(read("linux-arm64-core.core.gz"), "smmuv3", readRegisters(json));
    const leaves = [...smmuTableDecoder.dump(core)].map((space) => [space.rid, [...space.leaves()].length]);
    expect(leaves).toEqual([[0, 0], [8, 3], [0x10, 25], [0x18, 259]]);
  });
});
