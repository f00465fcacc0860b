/** A run in words: what was set up, what was asked, what came of it. */
import { decodeFields, type DecodedField, encodeFields, type FaultDemonstration, type FieldTable, NO_PASID, type WalkStep } from "@iommukit/core";
import { COMMAND_BY_OPCODE } from "../spec/commands.js";
import { Event, eventType } from "../spec/events.js";
import { REGISTER_LAYOUTS } from "../spec/register-fields.js";
import { Cr0 } from "../spec/registers.js";
import type { Kind, Recipe, UnitChange, Values } from "./recipe.js";
import type { FaultRun } from "./run.js";
import { COMMAND_QUEUE, type Part, STREAM } from "./scene.js";

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** Registers that every scene sets alike and that say little. */
const USUAL: readonly string[] = ["CR0", "IRQ_CTRL", "GERROR_IRQ_CFG0", "EVENTQ_IRQ_CFG0", "PRIQ_IRQ_CFG0", "CMDQ_BASE", "EVENTQ_BASE", "PRIQ_BASE"];

export function unitLines({ given, change }: Recipe, { identification: { idr0, idr1, idr3, idr5, aidr }, registers }: FaultRun): string[] {
  const mark = (name: string): string => (change.registers?.[name] === undefined ? "" : " <- this");
  const line = (names: readonly string[]): string => names.map((name) => `${name} ${hex(registers[name])}${mark(name)}`).join("  ");
  return [
    `SMMUv3.${aidr}  IDR0 ${hex(idr0 >>> 0)}  IDR1 ${hex(idr1)}  IDR3 ${hex(idr3)}  IDR5 ${hex(idr5)}`,
    ...[...announced(given?.unit), ...announced(change.unit).map((text) => `${text} <- this`)],
    line(Object.keys(registers).filter((name) => !USUAL.includes(name))),
    line(USUAL.slice(0, 2)), line(USUAL.slice(2, 5)), line(USUAL.slice(5)),
  ];
}

/** "IDR0.HTTU=0", "tlbConflicts=true": what the unit is told to be that others are not. */
function announced(unit: UnitChange = {}): string[] {
  const words = (["idr0", "idr1", "idr3", "idr5"] as const).flatMap((word) => Object.entries(unit[word] ?? {}).map(([name, value]) => `${word.toUpperCase()}.${name}=${value}`));
  return [...words, ...Object.entries(unit.choices ?? {}).map(([name, value]) => `${name}=${String(value)}`)];
}

/** What happened beside the request. */
export function notesOf({ given, change }: Recipe): readonly string[] {
  return [
    ...(given?.neighbourFirst ? ["00:03.1 made a request first, so that its STE is cached"] : []),
    ...(given?.merge ? [`the page behind was translated first; then a block took the place of its table${change.uninvalidated ? ", and no TLBI followed" : ""}`] : []),
    ...(change.readOnly ? [`the page of the ${change.readOnly} descriptor takes no writes`] : []),
    ...(change.deaf ? ["00:03.0 does not answer invalidations"] : []),
  ];
}

/** Structures in the order in which the unit reads them, up to where it stops. */
export function structuresOf(recipe: Recipe, kind: Kind, run: FaultRun): readonly WalkStep[] {
  if (kind === "command") return [commandStep(recipe, run)];
  if (kind === "page") return [];
  // The type of a descriptor that became a block is what is new in it.
  const merged = recipe.given?.merge === undefined ? {} : { [recipe.given.merge.part]: { type: 0n } };
  const changed: Readonly<Record<string, Values>> = { ...merged, ...recipe.change.set };
  return run.parts.slice(0, partsRead(recipe, run, Object.keys(changed))).map((part) => partStep(part, changed[part.name]));
}

/** How many parts of the scene the unit reads, or has read before. */
function partsRead({ change, given, expect }: Recipe, { parts }: FaultRun, changed: readonly string[]): number {
  const upTo = (names: readonly string[]): number => parts.findLastIndex(({ name }) => names.includes(name)) + 1;
  // What is changed above (WXN, PAN, overrides) counts at the leaf.
  if (expect.event === Event.F_PERMISSION) return parts.length;
  if (changed.length > 0) return upTo(changed);
  if (expect.event === Event.F_UUT || expect.event === Event.C_BAD_STREAMID || change.registers?.STRTAB_BASE !== undefined) return 0;
  if (change.registers?.CR0 !== undefined) return (change.registers.CR0 & BigInt(Cr0.SMMUEN)) === 0n ? 0 : upTo(["STE"]);
  // A request that is wrong in itself, which an STE, or a CD with its halves, is enough to see.
  if (change.request !== undefined) return upTo(expect.event === Event.F_TRANSLATION ? ["STE", "CD"] : ["STE"]);
  if (change.readOnly !== undefined) return upTo([change.readOnly]);
  return upTo(Object.keys(given?.set ?? {}));
}

function partStep({ table, pa, index, purpose, values }: Part, changed: Values | undefined): WalkStep {
  const words = encodeFields(table, values);
  return { structure: table.structure, section: table.section, pa, index, words, fields: marked(table, words, changed), ...(purpose === undefined ? {} : { purpose }) };
}

/** Fields, with a mark at those that the recipe changes. */
function marked(table: FieldTable, words: readonly bigint[], changed: Values = {}): DecodedField[] {
  return decodeFields(table, words).map((field) => (field.name in changed ? { ...field, violation: "<- this" } : field));
}

function commandStep({ change }: Recipe, { command }: FaultRun): WalkStep {
  const known = COMMAND_BY_OPCODE.get(Number(command[0] & 0xffn));
  const fields = known === undefined
    ? [{ name: "opcode", bits: "7:0", value: command[0] & 0xffn, violation: "<- this" }]
    : marked(known.table, command, change.command);
  return {
    structure: known?.table.structure ?? "a command", section: known?.table.section ?? "SMMU 4.1", pa: COMMAND_QUEUE, index: { value: 0, from: "CMDQ_CONS.RD" }, words: command, fields,
    purpose: change.sync === undefined ? "a CMD_SYNC follows" : `a CMD_SYNC follows with ${Object.entries(change.sync).map(([name, value]) => `${name} ${hex(value)}`).join(", ")}`,
  };
}

const FROM: Readonly<Record<Exclude<Kind, "command">, string>> = {
  untranslated: "", translation: "translation request, ", translated: "translated request, ", page: "page request, ",
};
const DOES = { read: "a read", write: "a write", atomic: "an atomic access", execute: "an instruction fetch" } as const;
const ASKS = { read: "asks to read", write: "asks to read and to write", atomic: "asks to read and to write", execute: "asks to execute" } as const;

export function requestLine(kind: Kind, { request }: FaultRun): string {
  if (kind === "command") return "CMDQ_PROD=2: two commands";
  const { stream, substream, access, privileged, address } = request;
  const who = stream === STREAM ? "00:03.0" : `StreamID ${hex(stream)}`;
  const at = kind === "untranslated" ? address : address & ~0xfffn;
  return `${who}${substream === NO_PASID ? "" : ` SubstreamID ${hex(substream)}`} ${FROM[kind]}${kind === "translation" ? ASKS[access] : DOES[access]}${privileged ? ", privileged" : ""}, at ${hex(at)}`;
}

/** What the unit was seen to answer. */
export function responseLine(recipe: Recipe, { response, events, page }: FaultRun): string {
  const stalled = events.some((words) => recipe.expect.record?.Stall === 1n && ((words[1] >> 31n) & 1n) === 1n);
  if (stalled) return "none yet: the transaction is stalled until CMD_RESUME or CMD_STALL_TERM";
  switch (response) {
    case "passes":
      return `Success, page ${hex(page)}`;
    case "reads only":
      return `Success, to read only, page ${hex(page)}`;
    case "no access":
      return "Success, without any permission";
    case "Failure":
      return "page request group response: Response Failure";
    case "queued":
      return "none yet: the request waits in the queue";
    case "consumed":
      return "both commands are consumed";
    case "stopped":
      return `the queue has stopped, and ${recipe.expect.stopsAt === 1 ? "the CMD_SYNC is not complete" : "neither command is done"}`;
    default:
      return response;
  }
}

/** The event's record; without one the register that tells of the error. */
export function recordOf({ name, expect }: Recipe, run: FaultRun): FaultDemonstration["record"] {
  if (name.startsWith("GERROR")) return register("SMMU_GERROR", run.gerror);
  if (expect.commandError !== undefined) return register("SMMU_CMDQ_CONS", run.commands);
  const [words] = run.events;
  const table = words === undefined ? undefined : eventType(Number(words[0] & 0xffn))?.table;
  return table === undefined ? undefined : { structure: `${table.structure}  [${table.section}]`, words, fields: decodeFields(table, words) };
}

function register(name: string, value: bigint): FaultDemonstration["record"] {
  const table = REGISTER_LAYOUTS.find((layout) => layout.table.structure === name)?.table;
  return table === undefined ? undefined : { structure: name, words: [value], fields: decodeFields(table, [value]) };
}
