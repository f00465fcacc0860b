/** The rows of `spec/faults.ts`, each with a recipe that is run when asked for. */
import {
  decodeFields, type DecodedField, type FaultCatalogue, type FaultDemonstration, type FaultOptions, type FaultSummary, NO_PASID, type WalkStep,
} from "@iommukit/core";
import { RequestKind } from "../hardware/request.js";
import { type FaultCondition, FAULTS, outcomeOf } from "../spec/faults.js";
import { FAULT_RECORD } from "../spec/records.js";
import { INTERRUPT_RECIPES } from "./recipes-interrupts.js";
import { LEGACY_RECIPES } from "./recipes-legacy.js";
import { SCALABLE_RECIPES } from "./recipes-scalable.js";
import { STAGE_RECIPES } from "./recipes-stages.js";
import type { Recipe } from "./recipe.js";
import { type FaultCase, type FaultRun, INTERRUPT, runCase } from "./run.js";
import { type Part, PASID } from "./scene.js";

export const RECIPES: readonly Recipe[] = [...LEGACY_RECIPES, ...SCALABLE_RECIPES, ...STAGE_RECIPES, ...INTERRUPT_RECIPES];

interface Kind {
  readonly name: string;
  readonly kind: number;
  readonly hasPasid: boolean;
}

const MEMORY_KINDS: readonly Kind[] = [
  ["untranslated", RequestKind.UNTRANSLATED], ["translation", RequestKind.TRANSLATION], ["translated", RequestKind.TRANSLATED], ["page", RequestKind.PAGE],
].flatMap(([name, kind]) => [
  { name: String(name), kind: Number(kind), hasPasid: false },
  { name: `${name} with PASID`, kind: Number(kind), hasPasid: true },
]);
const INTERRUPT_KIND: Kind = { name: "interrupt", kind: INTERRUPT, hasPasid: false };

/** One row of the fault table and what can meet it. */
interface Row {
  readonly condition: FaultCondition;
  readonly recipe: Recipe;
  readonly kinds: readonly Kind[];
}

const ROWS: ReadonlyMap<string, Row> = new Map(
  FAULTS.map((condition) => {
    const recipe = RECIPES.find((candidate) => candidate.condition === condition.name);
    if (recipe === undefined) throw new RangeError(`no recipe for ${condition.name}`);
    return [condition.name, { condition, recipe, kinds: kindsOf(condition, recipe) }];
  }),
);

/** Kinds whose cell in the fault table is not empty. Legacy mode has no PASIDs; a wide PASID needs one. */
function kindsOf(condition: FaultCondition, recipe: Recipe): Kind[] {
  if (condition.name.startsWith("IRR.") && condition.name !== "IRR.29") return [INTERRUPT_KIND];
  const legacy = recipe.base.startsWith("legacy");
  return MEMORY_KINDS.filter(({ kind, hasPasid }) => {
    if (hasPasid && legacy && condition.name !== "RTA.2" && !/^RTA\.1\.[123]$|RTA\.4/.test(condition.name)) return false;
    if (!hasPasid && recipe.request?.pasid !== undefined) return false;
    // The column of page requests does not tell them apart.
    const needsPasid = outcomeOf(condition, RequestKind.UNTRANSLATED, true) !== "-" && outcomeOf(condition, RequestKind.UNTRANSLATED, false) === "-";
    if (kind === RequestKind.PAGE && !hasPasid && needsPasid) return false;
    return outcomeOf(condition, kind, hasPasid) !== "-";
  });
}

/** Fault Processing Disable, in the structure that a request reaches first. */
const SWITCH = "FPD=1";

function summary({ condition, recipe, kinds }: Row): FaultSummary {
  const { name, code, text, qualified } = condition;
  return { name, code, text, section: `VT-d ${recipe.section}`, kinds: kinds.map((kind) => kind.name), ...(qualified ? { suppressedBy: SWITCH } : {}) };
}

function rowOf(name: string): Row {
  const row = ROWS.get(name);
  if (row === undefined) throw new RangeError(`VT-d has no fault condition ${name}`);
  return row;
}

const RESPONSES: Readonly<Record<FaultRun["response"], string>> = {
  UR: "Unsupported Request",
  CA: "Completer Abort",
  IR: "page group response Invalid Request",
  success: "Success",
  dropped: "dropped, without an answer",
};

export const vtdFaultCatalogue: FaultCatalogue = {
  iommu: "vtd",
  codeName: "reason",
  list: () => [...ROWS.values()].map(summary),
  demonstrate,
};

function demonstrate(name: string, { kind: wanted, suppressed = false }: FaultOptions = {}): FaultDemonstration {
  const row = rowOf(name);
  const kind = wanted === undefined ? row.kinds[0] : row.kinds.find((candidate) => candidate.name === wanted);
  if (kind === undefined) throw new RangeError(`${name} has no request of kind "${wanted}"; there are: ${row.kinds.map((other) => other.name).join(", ")}`);
  const { condition, recipe } = row;
  const chosen: FaultCase = { recipe, kind: kind.kind, pasid: kind.hasPasid ? (recipe.request?.pasid ?? PASID) : NO_PASID, suppressed };
  const run = runCase(chosen);
  return {
    fault: summary(row),
    kind: kind.name,
    suppressed,
    ...(suppressed && condition.qualified ? { suppressedBy: SWITCH } : {}),
    unit: unitLines(run),
    structures: readParts(run.parts, recipe).map((part) => structure(part.name, run, recipe)),
    notes: recipe.readOnly === undefined ? [] : [`the page of the ${recipe.readOnly} takes no writes`],
    request: requestLine(chosen, run),
    response: responseLine(condition, kind, run),
    ...(run.record ? { record: { structure: FAULT_RECORD.structure, words: run.record, fields: decodeFields(FAULT_RECORD, run.record) } } : {}),
    why: recipe.why,
    cause: recipe.cause,
    mend: recipe.mend,
    asExpected: problems(condition, chosen, run).length === 0,
  };
}

/** What differs from the manual's table; empty when the run came out as it says. */
export function problems(condition: FaultCondition, chosen: FaultCase, run: FaultRun): string[] {
  const found: string[] = [];
  const interrupt = chosen.kind === INTERRUPT;
  const outcome = interrupt ? "UR" : outcomeOf(condition, chosen.kind, chosen.pasid !== NO_PASID);
  const recoverable = outcome === "S0" || outcome === "SE";
  const response = recoverable ? "success" : outcome === "CA" && chosen.kind === RequestKind.TRANSLATED ? "UR" : outcome;
  if (run.response !== response) found.push(`the response is ${run.response}, not ${response}`);
  const { completion } = run;
  if (outcome === "S0" && (completion?.read || completion?.write)) found.push("a right was granted");
  if (outcome === "SE" && completion?.read && completion.write) found.push("no right was taken away");
  const silent = (condition.qualified && chosen.suppressed) || (recoverable && !condition.alwaysRecorded);
  const reason = run.record === undefined ? undefined : Number((run.record[1] >> 32n) & 0xffn);
  const expected = silent ? undefined : condition.code;
  if (reason !== expected) found.push(`recorded is ${show(reason)}, not ${show(expected)}`);
  return found;
}

const show = (reason: number | undefined): string => (reason === undefined ? "nothing" : `0x${reason.toString(16)}`);

/** Parts that the unit reads: none when a register is wrong, and none behind the one that is. */
function readParts(parts: readonly Part[], recipe: Recipe): readonly Part[] {
  if (recipe.registers !== undefined) return [];
  const wrong = [...Object.keys(recipe.set ?? {}), ...Object.keys(recipe.bits ?? {})];
  const last = parts.findLastIndex(({ name }) => wrong.includes(name));
  return last === -1 ? parts : parts.slice(0, last + 1);
}

const bits = (word: bigint): string => `0x${word.toString(16)}`;

function unitLines(run: FaultRun): string[] {
  return [
    `VER ${run.version >> 4}.${run.version & 15}  CAP ${bits(run.cap)}  ECAP ${bits(run.ecap)}  host addresses of ${run.haw} bits`,
    `RTADDR ${bits(run.rtaddr)}  IRTA ${bits(run.irta)}  translation on`,
  ];
}

/** A structure with its fields; what the recipe changed is marked. */
function structure(name: string, run: FaultRun, recipe: Recipe): WalkStep {
  const part = run.parts.find((candidate) => candidate.name === name);
  const words = run.words.get(name);
  if (part === undefined || words === undefined) throw new RangeError(`no part ${name}`);
  const changed = Object.keys(recipe.set?.[name] ?? {});
  const fields = decodeFields(part.table, words).map((field): DecodedField => (changed.includes(field.name) ? { ...field, violation: "<- this" } : field));
  const { structure: title } = part.table;
  const titled = name.startsWith(title) && name !== title ? name : title;
  return { structure: titled, section: part.table.section, pa: part.pa, index: part.index, words, fields };
}

function requestLine({ kind, pasid, recipe }: FaultCase, { address, access, data }: FaultRun): string {
  const { request = {} } = recipe;
  const from = `00:03.0${pasid === NO_PASID ? "" : ` PASID ${bits(BigInt(pasid))}`}`;
  if (kind === INTERRUPT) return `${from} sends a message: ${bits(BigInt(data))} to ${bits(address)}`;
  const what = ["untranslated request", "translation request (reads, and asks to write)", "translated request", "page request"][kind];
  const does = kind === RequestKind.TRANSLATION ? "" : (access & 2) !== 0 ? ", a write" : request.zeroLength ? ", a read of no bytes" : request.execute ? ", a read to execute" : ", a read";
  return `${from} ${what}${does}${request.privileged && pasid !== NO_PASID ? ", privileged" : ""}, at ${bits(address)}`;
}

/** What the unit was seen to answer. */
function responseLine(condition: FaultCondition, { kind, hasPasid }: Kind, { response, completion }: FaultRun): string {
  // A translated request has one answer here: the manual tells two apart.
  if (kind === RequestKind.TRANSLATED && response === "UR") return `blocked (by the manual ${RESPONSES[outcomeOf(condition, kind, hasPasid) === "CA" ? "CA" : "UR"]})`;
  if (completion === undefined) return RESPONSES[response];
  const rights = [completion.read ? "read" : "", completion.write ? "write" : ""].filter((right) => right !== "");
  return `Success, ${rights.length === 0 ? "without any permission" : `to ${rights.join(" and ")} only`}: recoverable`;
}
