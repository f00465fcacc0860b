/** `iommu fault`: causes a fault and explains it. */
import type { FaultCatalogue, FaultDemonstration, FaultSummary } from "@iommukit/core";
import { distance } from "fastest-levenshtein";
import { compose, type GlobalOptions } from "../composition.js";
import { hex, print, printJson, style } from "../style.js";
import { structureLines } from "../structure-lines.js";
import { stepLines } from "./walk.js";

interface FaultCommandOptions {
  readonly kind?: string;
  readonly fpd?: boolean;
  readonly json?: boolean;
}

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
  const chosen = options.kind === undefined ? found : found.filter(({ kinds }) => kinds.includes(options.kind ?? ""));
  if (chosen.length === 0) throw new Error(`${wanted} has no request of kind "${options.kind}"; there are: ${[...new Set(found.flatMap(({ kinds }) => kinds))].join(", ")}`);
  const shown = chosen.map(({ name }) =>
    catalogue.demonstrate(name, { ...(options.kind === undefined ? {} : { kind: options.kind }), suppressed: options.fpd === true }),
  );
  if (options.json) printJson(shown);
  else for (const demonstration of shown) for (const line of demonstrationLines(demonstration)) print(line);
  process.exitCode = shown.every(({ asExpected }) => asExpected) ? 0 : 1;
}

/** By the manual's name, or by code: then every condition that shares it. */
export function find(catalogue: FaultCatalogue, wanted: string): readonly FaultSummary[] {
  const all = catalogue.list();
  const code = /^(0x[0-9a-f]{1,4}|\d{1,5})$/i.test(wanted) ? Number(wanted) : /^[0-9a-f]{1,4}h$/i.test(wanted) ? Number.parseInt(wanted, 16) : undefined;
  const found = all.filter(({ name, code: own }) => (code === undefined ? name.toLowerCase() === wanted.toLowerCase() : own === code));
  if (found.length > 0) return found;
  throw new Error(`${catalogue.iommu} has no fault ${wanted}; near it: ${nearest(all, wanted, code).join(", ")} (iommu fault ${catalogue.iommu} lists all)`);
}

const NEAR = 4;

function nearest(all: readonly FaultSummary[], wanted: string, code: number | undefined): string[] {
  const away = ({ name, code: own }: FaultSummary): number => (code === undefined ? distance(name.toLowerCase(), wanted.toLowerCase()) : Math.abs(own - code));
  const sorted = [...all].sort((a, b) => away(a) - away(b));
  return sorted.slice(0, NEAR).map(({ name, code: own }) => `${name} (${hex(own)})`);
}

function* listLines(catalogue: FaultCatalogue): Generator<string> {
  for (const { name, code, text, kinds, suppressible } of catalogue.list()) {
    const qualified = suppressible ? "" : style.dim("  (recorded even with FPD)");
    yield `${hex(code).padStart(6)}  ${style.name(name.padEnd(8))} ${text}${qualified}  ${style.dim(`[${kinds.join(", ")}]`)}`;
  }
}

export function* demonstrationLines(shown: FaultDemonstration): Generator<string> {
  const { fault: summary, record } = shown;
  yield style.title(`${summary.name}, reason ${hex(summary.code)}: ${summary.text}  [${summary.section}]`);
  yield "";
  for (const line of shown.unit) yield `  ${line}`;
  for (const line of shown.notes) yield `  ${style.bad(line)}`;
  yield "";
  for (const step of shown.structures) yield* stepLines(step);
  yield "";
  yield `${style.title("request")}   ${shown.request}`;
  yield `${style.title("response")}  ${shown.response}`;
  if (record === undefined) yield `${style.title("record")}    none${shown.suppressed && summary.suppressible ? ": the fault is qualified, and FPD=1" : ""}`;
  else {
    yield style.title("record");
    yield* structureLines(record.words, record.fields);
  }
  yield "";
  yield `${style.title("why")}       ${shown.why}`;
  yield `${style.title("cause")}     ${shown.cause}`;
  yield `${style.title("mend")}      ${shown.mend}`;
  yield shown.asExpected ? style.good("=> as the manual says") : style.bad("=> this is not what the manual says");
  yield "";
}
