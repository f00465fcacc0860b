/** `iommu conform`: recorded data against what is loaded. */
import { readFileSync } from "node:fs";
import { buildMachine } from "@iommukit/core";
import { type CaseResult, playFile, type TranscriptPlatform } from "@iommukit/core/testing";
import { compose, type GlobalOptions } from "../composition.js";
import { print, printJson, style } from "../style.js";

interface ConformOptions {
  readonly failures: string;
  readonly json?: boolean;
}

interface FileResult {
  readonly file: string;
  passed: number;
  failed: number;
  error?: string;
  readonly failures: CaseResult[];
}

export async function conform(files: readonly string[], options: ConformOptions, globals: GlobalOptions): Promise<void> {
  const shown = Number(options.failures);
  if (!Number.isInteger(shown) || shown < 0) throw new Error(`--failures ${options.failures}: expected a number`);
  const composition = await compose(globals);
  // What `iommu run --record` wrote names its machine.
  const recorded: TranscriptPlatform = { platform: "machine", build: (header) => ({ nodes: buildMachine(header.machine, composition).nodes }) };
  const players = { ...composition, platforms: [...composition.platforms, recorded] };
  const results: FileResult[] = [];
  for (const file of files) {
    const result: FileResult = { file, passed: 0, failed: 0, failures: [] };
    results.push(result);
    try {
      for (const played of playFile(readFileSync(file), players)) count(result, played, shown);
      if (result.passed + result.failed === 0) throw new Error("the file holds no case");
    } catch (error) {
      result.error = error instanceof Error ? error.message : String(error);
      result.failed++;
    }
    if (!options.json) for (const line of lines(result)) print(line);
  }
  const passed = results.reduce((sum, result) => sum + result.passed, 0);
  const failed = results.reduce((sum, result) => sum + result.failed, 0);
  if (options.json) printJson({ passed, failed, files: results });
  else print(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

function count(result: FileResult, played: CaseResult, shown: number): void {
  if (played.failures.length === 0) result.passed++;
  else {
    result.failed++;
    if (result.failures.length < shown) result.failures.push(played);
  }
  progress(`${result.file}: ${result.passed + result.failed} cases`);
}

/** One line that overwrites itself, on a terminal only. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function* lines(result: FileResult): Generator<string> {
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  const verdict = result.failed === 0 ? style.good("ok") : style.bad("FAILED");
  yield `${verdict}  ${result.file}  ${result.passed} of ${result.passed + result.failed} cases`;
  if (result.error) yield `    ${style.bad(result.error)}`;
  for (const { id, failures } of result.failures) {
    const [first] = failures;
    yield `    case ${id}, step ${first.step}: ${first.what}`;
    yield `      expected ${first.expected}`;
    yield `      got      ${first.got}`;
    if (failures.length > 1) yield style.dim(`      and ${failures.length - 1} more in this case`);
  }
}
