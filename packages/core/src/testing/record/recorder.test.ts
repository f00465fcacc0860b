/** Transcripts of a real kernel, played and recorded at once, and the recording played again: the answers are the same. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { gunzipIfNeeded } from "../conform.js";
import type { JsonObject } from "../json.js";
import { bareNodes } from "../mock/index.js";
import { playTranscript } from "../transcripts.js";
import { recordNodes } from "./recorder.js";

const root = new URL("../../../../../conformance/transcripts/", import.meta.url);
const files = [...readdirSync(root), ...readdirSync(new URL("directed/", root)).map((name) => `directed/${name}`)].filter((name) => name.includes(".jsonl"));

/** What a recording cannot hold: two processes, two addresses of one memory, an answer that a program's own buffer refused. */
const BEYOND = new Map([
  ["directed/event-fd-reads.jsonl", "a read into memory that is not there: the event stays"],
  ["directed/lazy-pinning.jsonl", "memory that was taken away and mapped anew at the same place"],
  ["directed/map-file.jsonl", "the same memfd by descriptor and by address"],
  ["mock-0002.jsonl", "the same memfd at two addresses"],
  ["mock-0003.jsonl", "the same memfd at two addresses"],
]);

const parse = (name: string): { header: JsonObject; lines: string[] } => {
  const [head, ...lines] = new TextDecoder().decode(gunzipIfNeeded(readFileSync(new URL(name, root)))).split("\n");
  return { header: JSON.parse(head) as JsonObject, lines };
};
const suited = files.filter((name) => {
  const { header, lines } = parse(name);
  return (header.platform === "none" || header.platform === "mock") && !lines.some((line) => /"op":"(fork|dma)"/.test(line)) && !BEYOND.has(name);
});

/** Plays a transcript on nodes that are recorded; returns the recording. */
function recorded(header: JsonObject, lines: readonly string[]): string[] {
  const out: string[] = [];
  const build = () => ({
    nodes: recordNodes(bareNodes(header.iommufd_test === true), { machine: { platform: "again", iommufd_test: header.iommufd_test }, about: "", write: (line) => out.push(line), warn: (text) => expect.fail(text) }),
  });
  for (const { failures } of playTranscript({ ...header, platform: "recorded" }, lines, [{ platform: "recorded", build }])) expect(failures).toEqual([]);
  return out;
}

function failuresOf(recording: readonly string[], header: JsonObject): unknown[] {
  const again = { platform: "again", build: () => ({ nodes: bareNodes(header.iommufd_test === true) }) };
  return [...playTranscript(JSON.parse(recording[0]) as JsonObject, recording.slice(1), [again])].flatMap(({ failures }) => failures);
}

describe("a recording", () => {
  it("is tried on many transcripts", () => {
    expect(suited.length).toBeGreaterThan(35);
  });

  it.each(suited)("of %s plays as it was recorded", (name) => {
    const { header, lines } = parse(name);
    const recording = recorded(header, lines);
    const calls = (text: readonly string[]): number => text.filter((line) => line.includes('"op":"ioctl"')).length;
    expect(calls(recording)).toBeGreaterThan(0);
    expect(calls(recording)).toBeLessThanOrEqual(calls(lines));
    expect(failuresOf(recording, header)).toEqual([]);
  });

  it("holds the memory that a call read: without it the replay differs", () => {
    const { header, lines } = parse("directed/iova-ranges-and-allowed.jsonl");
    const recording = recorded(header, lines);
    expect(failuresOf(recording.filter((line) => !line.includes('"op":"poke"')), header)).not.toEqual([]);
  });

  it("ends where a second process comes in", () => {
    const warnings: string[] = [];
    const out: string[] = [];
    const { header, lines } = parse("ioas-0001.jsonl");
    const nodes = bareNodes(false);
    let pid = 1;
    const shifted = { ...nodes, open: (call: Parameters<typeof nodes.open>[0], path: string) => nodes.open(call, path) };
    const build = () => {
      const heard = recordNodes(shifted, { machine: { platform: "again" }, about: "", write: (line) => out.push(line), warn: (text) => warnings.push(text) });
      return { nodes: { ...heard, open: (call: Parameters<typeof nodes.open>[0], path: string) => heard.open({ ...call, pid: pid++ }, path) } };
    };
    for (const _ of playTranscript({ ...header, platform: "recorded" }, lines, [{ platform: "recorded", build }])) break;
    expect(warnings).toEqual([expect.stringContaining("a transcript holds one process")]);
    expect(out.at(-1)).toContain("recording ends here");
  });
});
