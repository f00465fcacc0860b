import { readdirSync, readFileSync } from "node:fs";
import { loadCore, readRegisters } from "@iommukit/core/decode";
import { gunzipIfNeeded, playFile } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { vtdTableDecoder } from "./decode/index.js";
import { vtdReplayUnitFactory } from "./hardware/index.js";
import { vtdIommuFactory } from "./plugin.js";
import { transcriptPlatform } from "./transcripts.js";

const root = new URL("../../../conformance/", import.meta.url);
const players = { replayUnits: [vtdReplayUnitFactory], decoders: [vtdTableDecoder], platforms: [transcriptPlatform(vtdIommuFactory)] };
/** Which recordings are of VT-d, or of no unit. */
const OURS: Readonly<Record<string, RegExp>> = { vectors: /^vtd/, tables: /^(?!linux-arm64)/, transcripts: /vtd|group-container/ };
const files = ["vectors/", "tables/", "transcripts/", "transcripts/directed/"].flatMap((folder) =>
  readdirSync(new URL(folder, root))
    .filter((name) => /\.jsonl(\.gz)?$|\.tables\.json(\.gz)?$/.test(name) && OURS[folder.split("/")[0]].test(name))
    .map((name) => folder + name),
);

describe("recorded behaviour", () => {
  it.each(files)("%s", (name) => {
    const results = [...playFile(readFileSync(new URL(name, root)), players)];
    expect(results.length).toBeGreaterThan(0);
    expect(results.filter((result) => result.failures.length > 0)).toEqual([]);
  });

  it("notices a translation that differs by one page", () => {
    const text = new TextDecoder().decode(gunzipIfNeeded(readFileSync(new URL("vectors/vtd-legacy.jsonl.gz", root))));
    const bent = text.replace(/"expect":\{"pa":"(0x[0-9a-f]+)"\}/, (_match, pa: string) => `"expect":{"pa":"0x${(BigInt(pa) ^ 0x1000n).toString(16)}"}`);
    const failed = [...playFile(new TextEncoder().encode(bent), players)].filter((result) => result.failures.length > 0);
    expect(failed).toHaveLength(1);
    expect(failed[0].failures[0].what).toContain("physical address");
  });

  it("refuses an IOMMU that nothing models", () => {
    const file = new TextEncoder().encode('{"format":"iommu-vectors/1","iommu":"riscv","registers":{},"ram":[]}\n');
    expect(() => [...playFile(file, players)]).toThrow('no unit to replay "riscv" on');
  });
});

describe("ELF cores", () => {
  const parse = (name: string): Record<string, unknown> =>
    JSON.parse(new TextDecoder().decode(gunzipIfNeeded(readFileSync(new URL(name, root))))) as Record<string, unknown>;

  it("hold the same tables as the JSON file of the same name", () => {
    const json = parse("tables/linux-fs-core.tables.json.gz");
    const core = loadCore(gunzipIfNeeded(readFileSync(new URL("tables/linux-fs-core.core.gz", root))), "vtd", readRegisters(json));
    const leaves = [...vtdTableDecoder.dump(core)].map((space) => [space.rid, [...space.leaves()].length]);
    expect(leaves).toContainEqual([0x18, 258]);
    expect(leaves).toContainEqual([0x10, 24]);
  });
});
