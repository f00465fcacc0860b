import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { gunzipIfNeeded, playFile } from "./conform.js";

const root = new URL("../../../../conformance/transcripts/", import.meta.url);
const files = [...readdirSync(root), ...readdirSync(new URL("directed/", root)).map((name) => `directed/${name}`)].filter((name) => name.includes(".jsonl"));
const players = { replayUnits: [], decoders: [] };

/** Platforms that need no real IOMMU's package. */
const mine = files.filter((name) => /"platform":"(none|mock)"/.test(new TextDecoder().decode(gunzipIfNeeded(readFileSync(new URL(name, root)))).slice(0, 400)));

describe("recorded answers of a kernel", () => {
  it("are here", () => {
    expect(mine.length).toBeGreaterThan(40);
  });

  it.each(mine)("%s", (name) => {
    const results = [...playFile(readFileSync(new URL(name, root)), players)];
    expect(results.flatMap((result) => result.failures)).toEqual([]);
  });

  it("notices one byte that differs", () => {
    const text = readFileSync(new URL("directed/id-reuse.jsonl", root), "utf8");
    const lines = text.trimEnd().split("\n");
    const at = lines.findIndex((line) => line.includes('"name":"IOMMU_IOAS_ALLOC"') && line.includes('"ret":0'));
    lines[at] = lines[at].replace(/("out":".{16})../, "$1ff");
    const [result] = [...playFile(new TextEncoder().encode(lines.join("\n")), players)];
    expect(result.failures).toHaveLength(1);
    expect(result.failures[0]).toMatchObject({ step: at, what: "IOMMU_IOAS_ALLOC: out" });
  });
});
