/** The tour's last stop: the native example, compiled here and run through the door. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildMachine } from "@iommukit/core";
import { cHeader } from "@iommukit/core/abi";
import { findCompiler, runProgram } from "@iommukit/door";
import { chooseMachine, type Composition } from "../composition.js";
import { style } from "../style.js";

export interface NativeStop {
  readonly lines: string[];
  readonly checks: { readonly what: string; readonly held: boolean }[];
  /** Why it was left out, if it was. */
  readonly skipped?: string;
}

/** In a checkout, or beside the installed package. */
const EXAMPLES = ["../../../../examples/native/dma-roundtrip.c", "../../examples/dma-roundtrip.c"];

export async function nativeStop(composition: Composition, machineName: string | undefined): Promise<NativeStop> {
  const title = `\n${style.title("11. The same from a native program, through the door")}`;
  const skip = (why: string): NativeStop => ({ lines: [title, `  left out: ${why}`], checks: [], skipped: why });
  const example = EXAMPLES.map((path) => fileURLToPath(new URL(path, import.meta.url))).find((path) => existsSync(path));
  if (example === undefined) return skip("the example's source, dma-roundtrip.c, is not part of this installation");
  const compiler = findCompiler();
  if (compiler === undefined) return skip("no C compiler (cc, gcc or clang) is on the PATH; install one, for example Debian's gcc");
  const folder = mkdtempSync(join(tmpdir(), "iommu-tour-"));
  try {
    writeFileSync(join(folder, "iommukit-abi.h"), cHeader());
    const program = join(folder, "dma-roundtrip");
    const compiled = spawnSync(compiler, ["-O1", "-Wall", `-I${folder}`, "-o", program, example], { encoding: "utf8" });
    if (compiled.status !== 0) return { lines: [title, compiled.stderr], checks: [{ what: "the example compiles", held: false }] };
    const machine = buildMachine(chooseMachine(composition, machineName), composition);
    const output: string[] = [];
    const code = await runProgram({ nodes: machine.nodes, command: program, args: [], onOutput: (text) => output.push(text) });
    const lines = output.join("").trimEnd().split("\n");
    const check = { what: `dma-roundtrip ended with exit code ${code}`, held: code === 0 };
    const verdict = `  ${check.held ? style.good("check ") : style.bad("FAILED")} ${check.what}`;
    return { lines: [title, ...lines.map((line) => `  | ${line}`), verdict], checks: [check] };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
