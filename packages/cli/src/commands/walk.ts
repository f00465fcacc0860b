/** `iommu walk`: one address explained. */
import { parseRid, type WalkReport } from "@iommukit/core";
import { compose, type GlobalOptions } from "../composition.js";
import { openSource, parseNumber, type SourceOptions } from "../source.js";
import { hex, print, printJson, size, style } from "../style.js";

interface WalkOptions extends SourceOptions {
  readonly rid: string;
  readonly iova: string;
  readonly pasid?: string;
  readonly access: string;
  readonly json?: boolean;
}

export async function walk(file: string, options: WalkOptions, globals: GlobalOptions): Promise<void> {
  const rid = parseRid(options.rid);
  const iova = parseNumber(options.iova, "--iova", 64);
  const pasid = options.pasid === undefined ? undefined : Number(parseNumber(options.pasid, "--pasid", 20));
  if (options.access !== "read" && options.access !== "write") throw new Error(`--access ${options.access}: expected read or write`);
  const { decoders } = await compose(globals);
  const { source, decoder } = openSource(file, options, decoders);
  const report = decoder.walk(source, { rid, iova, access: options.access, ...(pasid === undefined ? {} : { pasid }) });
  if (options.json) printJson(report);
  else for (const line of walkLines(report)) print(line);
  process.exitCode = report.verdict.ok ? 0 : 1;
}

const WORDS_A_LINE = 4;

/** Every structure with its fields, then the verdict. */
export function* walkLines({ steps, verdict }: WalkReport): Generator<string> {
  for (const step of steps) {
    const index = step.index ? style.dim(`  index ${hex(step.index.value)} = ${step.index.from}`) : "";
    yield `${style.title(step.structure)}  at ${hex(step.pa)}${index}  ${style.dim(`[${step.section}]`)}`;
    for (let i = 0; i < step.words.length; i += WORDS_A_LINE) {
      yield style.dim(`  ${step.words.slice(i, i + WORDS_A_LINE).map((word) => `0x${word.toString(16).padStart(16, "0")}`).join(" ")}`);
    }
    if (step.words.every((word) => word === 0n)) {
      yield "  every field is 0";
      continue;
    }
    for (const field of step.fields) {
      if (field.value === 0n && field.meaning === undefined) continue;
      const meaning = field.meaning ? `  ${field.meaning}` : "";
      const violation = field.violation ? `  ${style.bad(field.violation)}` : "";
      yield `  ${field.bits.padStart(7)}  ${style.name(field.name.padEnd(12))} ${hex(field.value)}${meaning}${violation}`;
    }
  }
  if (verdict.ok) {
    const note = verdict.note ? `  (${verdict.note})` : "";
    yield style.good(`=> physical address ${hex(verdict.pa)}, page of ${size(verdict.pageSize)}, ${verdict.permissions}${note}`);
  } else {
    yield style.bad(`=> blocked: reason ${verdict.code}: ${verdict.reason}  [${verdict.section}]`);
  }
}
