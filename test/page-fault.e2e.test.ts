/** The native example that pages for its device, through the preload door. Needs a C compiler. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildMachine } from "@iommukit/core";
import { cHeader } from "@iommukit/core/abi";
import { dmaTestModel } from "@iommukit/core/devices";
import { findCompiler, runProgram } from "@iommukit/door";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const compiler = findCompiler();
if (compiler === undefined) console.warn("SKIPPED: the door needs a C compiler (cc, gcc or clang), and none is on the PATH");
const example = (name: string): URL => new URL(`../examples/native/${name}`, import.meta.url);

describe.skipIf(compiler === undefined)("a native program that pages for its device", () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "iommukit-pages-"));
    writeFileSync(join(folder, "iommukit-abi.h"), cHeader());
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("runs unmodified: request, record, map, answer", async () => {
    const program = join(folder, "page-fault");
    execFileSync(compiler ?? "cc", ["-Wall", "-Werror", `-I${folder}`, "-o", program, example("page-fault.c").pathname]);
    const machine = buildMachine(JSON.parse(readFileSync(example("page-fault.json"), "utf8")), { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
    const output: string[] = [];
    const push = (text: string): void => void output.push(text);
    const code = await runProgram({ nodes: machine.nodes, command: program, args: [], onOutput: push, warn: push });
    expect(output.join("")).toContain("all is well");
    expect(code).toBe(0);
  });
});
