/** `iommu fault`: causes a fault and explains it. */
import type { FaultCatalogue, FaultDemonstration, FaultSummary } from "@iommukit/core";
import { distance } from "fastest-levenshtein";
import { compose, type GlobalOptions } from "../composition.js";
import { hex, print, printJson, style } from "../style.js";
import { structureLines } from "../structure-lines.js";
import { stepLines } from "./walk.js";

interface FaultCommandOptions {
  readonly kind?: string;
  readonly suppress?: boolean;
  readonly all?: boolean;
  readonly json?: boolean;
}

/** Exit code for a fault that the manual has, and nothing here causes. */
const UNCAUSED = 3;

export async function fault(iommu: string, wanted: string | undefined, options: FaultCommandOptions, globals: GlobalOptions): Promise<void> {
  const { faultCatalogues } = await compose(globals);
  const catalogue = faultCatalogues.find((candidate) => candidate.iommu === iommu);
  if (catalogue === undefined) throw new Error(`no faults of "${iommu}" are known; there are: ${faultCatalogues.map((candidate) => candidate.iommu).join(", ")}`);
  if (wanted === undefined) {
    if (options.json) printJson(catalogue.list());
    else for (const line of listLines(catalogue)) print(line);
    return;
  }
  const found = find(catalogue, wanted);
  const { shown, variants } = options.all ? { shown: found, variants: [] } : withoutVariants(found);
  if (shown.every(({ uncaused }) => uncaused !== undefined)) {
    if (options.json) printJson(shown);
    else for (const summary of shown) for (const line of uncausedLines(catalogue, summary)) print(line);
    process.exitCode = UNCAUSED;
    return;
  }
  const demonstrations = demonstrate(catalogue, wanted, shown, options);
  if (options.json) printJson(demonstrations);
  else {
    for (const demonstration of demonstrations) for (const line of demonstrationLines(catalogue, demonstration)) print(line);
    for (const line of variantLines(variants)) print(line);
  }
  process.exitCode = demonstrations.every(({ asExpected }) => asExpected) ? 0 : 1;
}

function demonstrate(catalogue: FaultCatalogue, wanted: string, found: readonly FaultSummary[], { kind, suppress = false }: FaultCommandOptions): FaultDemonstration[] {
  const chosen = kind === undefined ? found : found.filter(({ kinds }) => kinds.includes(kind));
  if (chosen.length === 0) throw new Error(`${wanted} has no request of kind "${kind}"; there are: ${[...new Set(found.flatMap(({ kinds }) => kinds))].join(", ")}`);
  return chosen
    .filter(({ uncaused }) => uncaused === undefined)
    .map(({ name }) => catalogue.demonstrate(name, { ...(kind === undefined ? {} : { kind }), suppressed: suppress }));
}

/** By the manual's name, with its variants, or by code: then every condition that shares it. */
export function find(catalogue: FaultCatalogue, wanted: string): readonly FaultSummary[] {
  const all = catalogue.list();
  const code = /^(0x[0-9a-f]{1,4}|\d{1,5})$/i.test(wanted) ? Number(wanted) : /^[0-9a-f]{1,4}h$/i.test(wanted) ? Number.parseInt(wanted, 16) : undefined;
  const name = wanted.toLowerCase();
  const found = all.filter(({ name: own, code: number }) => (code === undefined ? own.toLowerCase() === name || own.toLowerCase().startsWith(`${name}:`) : number === code));
  if (found.length > 0) return found;
  throw new Error(`${catalogue.iommu} has no fault ${wanted}; near it: ${nearest(all, wanted, code).join(", ")} (iommu fault ${catalogue.iommu} lists all)`);
}

/** Faults whose variants (a name, a colon, what differs) are found too stand for them. */
function withoutVariants(found: readonly FaultSummary[]): { readonly shown: readonly FaultSummary[]; readonly variants: readonly FaultSummary[] } {
  const isVariant = ({ name }: FaultSummary): boolean => found.some((other) => name.startsWith(`${other.name}:`));
  return { shown: found.filter((summary) => !isVariant(summary)), variants: found.filter(isVariant) };
}

const NEAR = 4;

function nearest(all: readonly FaultSummary[], wanted: string, code: number | undefined): string[] {
  const numbered = code === undefined ? all : all.filter(({ code: own }) => own !== undefined);
  const away = ({ name, code: own = 0 }: FaultSummary): number => (code === undefined ? distance(name.toLowerCase(), wanted.toLowerCase()) : Math.abs(own - code));
  const sorted = [...numbered].sort((a, b) => away(a) - away(b));
  return sorted.slice(0, NEAR).map(({ name, code: own }) => (own === undefined ? name : `${name} (${hex(own)})`));
}

function* listLines(catalogue: FaultCatalogue): Generator<string> {
  const all = catalogue.list();
  const width = Math.max(...all.map(({ name }) => name.length));
  for (const { name, code, text, kinds, suppressedBy, uncaused } of all) {
    const number = code === undefined ? "" : hex(code);
    const note = uncaused !== undefined ? "  (nothing here causes it)" : suppressedBy === undefined ? "" : `  (silent with ${suppressedBy})`;
    yield `${number.padStart(6)}  ${style.name(name.padEnd(width))} ${text}${style.dim(note)}${kinds.length === 0 ? "" : `  ${style.dim(`[${kinds.join(", ")}]`)}`}`;
  }
}

function titleLine({ codeName }: FaultCatalogue, { name, code, text, section }: FaultSummary): string {
  return style.title(`${name}${code === undefined ? "" : `, ${codeName} ${hex(code)}`}: ${text}  [${section}]`);
}

function* uncausedLines(catalogue: FaultCatalogue, summary: FaultSummary): Generator<string> {
  yield titleLine(catalogue, summary);
  yield "";
  yield style.bad(`Nothing here causes it: ${summary.uncaused}`);
}

function* variantLines(variants: readonly FaultSummary[]): Generator<string> {
  if (variants.length === 0) return;
  yield style.title("other ways to the same fault (--all shows them)");
  const width = Math.max(...variants.map(({ name }) => name.length));
  for (const { name, text } of variants) yield `  ${style.name(name.padEnd(width))} ${text}`;
}

export function* demonstrationLines(catalogue: FaultCatalogue, shown: FaultDemonstration): Generator<string> {
  const { fault: summary, record, suppressedBy } = shown;
  yield titleLine(catalogue, summary);
  yield "";
  for (const line of shown.unit) yield `  ${line}`;
  for (const line of shown.notes) yield `  ${style.bad(line)}`;
  yield "";
  for (const step of shown.structures) yield* stepLines(step);
  yield "";
  yield `${style.title("request")}   ${shown.request}`;
  yield `${style.title("response")}  ${shown.response}`;
  if (record === undefined) yield `${style.title("record")}    none${suppressedBy === undefined ? "" : `: ${suppressedBy}`}`;
  else {
    yield `${style.title("record")}    ${record.structure}`;
    yield* structureLines(record.words, record.fields);
  }
  yield "";
  yield `${style.title("why")}       ${shown.why}`;
  yield `${style.title("cause")}     ${shown.cause}`;
  yield `${style.title("mend")}      ${shown.mend}`;
  yield shown.asExpected ? style.good("=> as the manual says") : style.bad("=> this is not what the manual says");
  yield "";
}
