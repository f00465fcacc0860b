/** `iommu walk`: one address explained. */
import { parseRid, type WalkAccess, type WalkReport, type WalkStep } from "@iommukit/core";
import { compose, type GlobalOptions } from "../composition.js";
import { openSource, parseNumber, type SourceOptions } from "../source.js";
import { structureLines } from "../structure-lines.js";
import { hex, print, printJson, size, style } from "../style.js";

interface WalkOptions extends SourceOptions {
  readonly rid: string;
  readonly iova: string;
  readonly pasid?: string;
  readonly access?: string;
  readonly read?: boolean;
  readonly write?: boolean;
  readonly atomic?: boolean;
  readonly execute?: boolean;
  readonly privileged?: boolean;
  readonly json?: boolean;
}

const ACCESSES = ["read", "write", "atomic", "execute"] as const;

/** What the request does: --access NAME, or a flag of that name. An execute request is a read that says so. */
function accessOf(options: WalkOptions): { readonly access: WalkAccess; readonly execute?: true } {
  const flags = ACCESSES.filter((name) => options[name]);
  const chosen = [...new Set([...(options.access === undefined ? [] : [options.access]), ...flags])];
  if (chosen.length > 1) throw new Error(`a request does one thing: ${chosen.join(" or ")}`);
  const [name = "read"] = chosen;
  const access = ACCESSES.find((candidate) => candidate === name);
  if (access === undefined) throw new Error(`--access ${name}: expected read or write, atomic or execute`);
  return access === "execute" ? { access: "read", execute: true } : { access };
}

export async function walk(file: string, options: WalkOptions, globals: GlobalOptions): Promise<void> {
  const rid = parseRid(options.rid);
  const iova = parseNumber(options.iova, "--iova", 64);
  const pasid = options.pasid === undefined ? undefined : Number(parseNumber(options.pasid, "--pasid", 20));
  if (options.privileged && pasid === undefined) throw new Error("--privileged needs --pasid: only a request with PASID asks for privilege");
  const request = { rid, iova, ...accessOf(options), ...(pasid === undefined ? {} : { pasid }), ...(options.privileged ? { privileged: true } : {}) };
  const { decoders } = await compose(globals);
  const { source, decoder } = openSource(file, options, decoders);
  const report = decoder.walk(source, request);
  if (options.json) printJson(report);
  else for (const line of walkLines(report)) print(line);
  process.exitCode = report.verdict.ok ? 0 : 1;
}

/** Every structure with its fields, then the verdict. */
export function* walkLines({ steps, verdict }: WalkReport): Generator<string> {
  for (const step of steps) yield* stepLines(step);
  const note = verdict.note ? `  (${verdict.note})` : "";
  if (verdict.ok) yield style.good(`=> physical address ${hex(verdict.pa)}, page of ${size(verdict.pageSize)}, ${verdict.permissions}${verdict.attributes === undefined ? "" : `, ${verdict.attributes}`}${note}`);
  else yield style.bad(`=> blocked: reason ${verdict.code}: ${verdict.reason}${note}  [${verdict.section}]`);
}

export function* stepLines({ structure, section, pa, index, words, fields, depth = 0, purpose }: WalkStep): Generator<string> {
  const indent = "    ".repeat(depth);
  const from = index ? style.dim(`  index ${hex(index.value)} = ${index.from}`) : "";
  yield `${indent}${style.title(structure)}  at ${hex(pa)}${from}${purpose ? `  ${purpose}` : ""}  ${style.dim(`[${section}]`)}`;
  yield* structureLines(words, fields, { indent });
}
