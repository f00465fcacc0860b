/** The shim's decoder of instructions against the CPU it runs on. Needs a C compiler, on x86-64. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SAMPLES, UNKNOWN } from "./mmio-samples.js";
import { compiler, Workshop } from "./native.js";

const NATIVE = join(import.meta.dirname, "../packages/door/native");

describe.skipIf(compiler === undefined || process.arch !== "x64")("instructions on registers", () => {
  let shop: Workshop;
  beforeAll(() => void (shop = new Workshop()));
  afterAll(() => shop.close());

  it("do what they do on memory, as the CPU does it", () => {
    const write = (name: string, lines: readonly string[]): void => writeFileSync(join(shop.folder, name), `${lines.join("\n")}\n`);
    const quoted = (text: string): string => JSON.stringify(text);
    write("samples.h", [
      ...SAMPLES.map(({ text }, i) => `SAMPLE("s${i}", ${quoted(text.replaceAll("@", "page"))}, ${quoted(text.replaceAll("@", "trap"))})`),
      ...UNKNOWN.map((text, i) => `REFUSED("u${i}", ${quoted(text)})`),
    ]);
    write("declared.h", [...SAMPLES.map((_, i) => `void s${i}_native(void), s${i}_trapped(void);`), ...UNKNOWN.map((_, i) => `void u${i}(void);`)]);
    write("list.h", SAMPLES.map(({ text, needs }, i) => `{ s${i}_native, s${i}_trapped, ${quoted(text)}, ${needs ? `HAS_${needs}` : "1"} },`));
    write("refused.h", UNKNOWN.map((text, i) => `{ u${i}, ${quoted(text)} },`));
    const sources = ["mmio-decode.c", "mmio-run.c", "mmio-alu.c", "mmio-vector.c"].map((name) => join(NATIVE, name));
    const harness = readFileSync(join(import.meta.dirname, "mmio-harness.c"), "utf8");
    const program = shop.compile("mmio", harness, `-I${NATIVE}`, "-no-pie", "-fno-pie", "-Wno-pointer-arith", ...sources);
    const { stdout, status } = spawnSync(program, { encoding: "utf8" });
    const summary = stdout.trim().split("\n").at(-1) ?? "";
    if (!summary.endsWith(" 0 beyond this CPU")) console.warn(`SKIPPED: instructions that this CPU lacks: ${summary}`);
    expect(stdout.trim().split("\n").slice(0, 20)).toEqual([summary]);
    expect(summary).toMatch(/^\d+ done, 0 bad, \d+ beyond this CPU$/);
    expect(status).toBe(0);
  });
});
