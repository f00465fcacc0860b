/** What a recipe says must come out, and what differs from it. */
import { decodeFields, encodeFields, NO_PASID } from "@iommukit/core";
import { Event, eventName, eventType } from "../spec/events.js";
import { Cr2 } from "../spec/registers.js";
import type { Kind, Recipe, Setting, Values } from "./recipe.js";
import type { FaultRun, Response } from "./run.js";
import { sceneOf } from "./scene.js";

/** Events that ATS traffic meets too, and that CR2.REC_CFG_ATS is about: of the stream, and of what comes behind (3.9.1). */
const STREAM_ERRORS: readonly number[] = [Event.C_BAD_STREAMID, Event.F_STE_FETCH, Event.C_BAD_STE, Event.F_CFG_CONFLICT];
const CONTEXT_ERRORS: readonly number[] = [Event.C_BAD_SUBSTREAMID, Event.F_STREAM_DISABLED, Event.F_CD_FETCH, Event.C_BAD_CD, Event.F_WALK_EABT, Event.F_TLB_CONFLICT];

export function kindsOf({ kinds, expect }: Recipe): readonly Kind[] {
  if (kinds !== undefined) return kinds;
  if (expect.commandError !== undefined) return ["command"];
  if (STREAM_ERRORS.includes(expect.event ?? 0)) return ["untranslated", "translation", "translated"];
  return ["untranslated", "translation"];
}

const stalls = ({ expect: { record = {} } }: Recipe): boolean => record.Stall === 1n;
const controlled = ({ expect: { event = 0 } }: Recipe): boolean => eventType(event)?.controlled === true;

/** What keeps the record off, in words and as a setting (5.5, 6.3.12). */
export function switchOf(recipe: Recipe, kind: Kind): { readonly text: string; readonly over: Setting } | undefined {
  const { event = 0, record = {} } = recipe.expect;
  const cr2 = recipe.given?.registers?.CR2 ?? BigInt(Cr2.RECINVSID | Cr2.REC_CFG_ATS);
  const without = (name: "RECINVSID" | "REC_CFG_ATS"): { text: string; over: Setting } => ({ text: `CR2.${name}=0`, over: { registers: { CR2: cr2 & ~BigInt(Cr2[name]) } } });
  if (kind !== "untranslated") return STREAM_ERRORS.includes(event) || CONTEXT_ERRORS.includes(event) ? without("REC_CFG_ATS") : undefined;
  if (event === Event.C_BAD_STREAMID) return without("RECINVSID");
  // Bypassed stages have no R.
  if (!controlled(recipe) || stalls(recipe) || recipe.scene === "bypass" || record.S2 === undefined) return undefined;
  return record.S2 === 1n ? { text: "STE.S2R=0", over: { set: { STE: { S2R: 0n } } } } : { text: "CD.R=0", over: { set: { CD: { R: 0n } } } };
}

/** How the device is answered. */
export function expectedResponse(recipe: Recipe, kind: Kind): Response {
  switch (kind) {
    case "command":
      return recipe.expect.stopsAt === undefined ? "consumed" : "stopped";
    case "page":
      return recipe.expect.queued === undefined ? "Failure" : "queued";
    case "translation":
      if (recipe.expect.event === Event.F_BAD_ATS_TREQ) return "Unsupported Request";
      // Translation faults are told to the device alone, as a translation without rights (3.9.1.2).
      if (recipe.expect.reads) return "reads only";
      return controlled(recipe) ? "no access" : "Completer Abort";
    default:
      return "abort";
  }
}

/** The whole record: what repeats the request, what the recipe names, and zeros. */
export function expectedRecord({ expect }: Recipe, kind: Kind, { request }: FaultRun): readonly bigint[] {
  const type = eventType(expect.event ?? 0);
  if (type === undefined) throw new RangeError(`no event ${expect.event}`);
  const { stream, substream, access, privileged } = request;
  const write = access === "write" || access === "atomic";
  // ATS traffic has no offset in its page.
  const address = kind === "untranslated" ? request.address : request.address & ~0xfffn;
  const repeated: Values = {
    SSV: substream === NO_PASID ? 0n : 1n,
    SubstreamID: substream === NO_PASID ? 0n : BigInt(substream),
    RnW: write ? 0n : 1n,
    InD: access === "execute" ? 1n : 0n,
    PnU: privileged ? 1n : 0n,
    Span: 1n,
    R: 1n,
    W: write ? 1n : 0n,
    InputAddr: address,
  };
  const fields = type.table.fields.filter(({ name }) => name in repeated && !(name in (expect.record ?? {})));
  const own = Object.fromEntries(fields.map(({ name, width }) => [name, name === "InputAddr" ? repeated[name] >> BigInt(64 - width) : repeated[name]]));
  return encodeFields(type.table, { type: BigInt(type.code), StreamID: BigInt(stream), ...own, ...expect.record });
}

/** What differs from what the recipe says; empty when exactly that came out. */
export function problems(recipe: Recipe, kind: Kind, run: FaultRun, suppressed: boolean): string[] {
  const { expect, before = {} } = recipe;
  const found: string[] = [];
  const same = (what: string, actual: unknown, expected: unknown): void => {
    if (actual !== expected) found.push(`${what} is ${String(actual)}, not ${String(expected)}`);
  };
  same("the response", run.response, expectedResponse(recipe, kind));
  same("GERROR", run.gerror, BigInt(expect.gerror ?? before.gerror ?? 0));
  same("CMDQ_CONS", run.commands, expectedCommands(recipe, kind));
  same("PRIQ_PROD", run.pageRequests, BigInt(expect.queued ?? 0));
  same("written", run.written.join(", "), "");
  const silent = expect.event === undefined || (kind === "translation" && controlled(recipe)) || (suppressed && switchOf(recipe, kind) !== undefined);
  same("the number of events", run.events.length, silent ? 0 : 1);
  if (!silent && run.events[0] !== undefined) found.push(...recordProblems(recipe, kind, run, run.events[0]));
  if (stalls(recipe) && !run.resumed) found.push("CMD_RESUME with the record's STAG does not let go of the transaction");
  return found;
}

/** CONS.RD and CONS.ERR: at the bad command, behind both, or untouched. */
function expectedCommands({ expect, before = {} }: Recipe, kind: Kind): bigint {
  if (kind !== "command") return 0n;
  if (expect.stopsAt === undefined && before.gerror === undefined) return 2n;
  return BigInt(expect.stopsAt ?? 0) | (BigInt(expect.commandError ?? 0) << 24n);
}

function recordProblems(recipe: Recipe, kind: Kind, run: FaultRun, words: readonly bigint[]): string[] {
  const expected = expectedRecord(recipe, kind, run);
  if (expected.every((word, i) => word === words[i])) return [];
  return [`the record is ${show(words)}, not ${show(expected)}`];
}

function show(words: readonly bigint[]): string {
  const code = Number(words[0] & 0xffn);
  const table = eventType(code)?.table;
  const fields = table === undefined ? [] : decodeFields(table, words).filter(({ name, value }) => name !== "type" && value !== 0n);
  return [eventName(code), ...fields.map(({ name, value }) => `${name}=0x${value.toString(16)}`)].join(" ");
}

/** What does not work though nothing was changed. */
export function flaws(recipe: Recipe, kind: Kind, run: FaultRun): string[] {
  const { before = {} } = recipe;
  const found: string[] = [];
  const good: Response = kind === "command" ? "consumed" : kind === "page" ? "queued" : "passes";
  const event = run.events.length === 0 ? undefined : Number(run.events[0][0] & 0xffn);
  if (before.event === undefined && before.gerror === undefined && run.response !== good) found.push(`without the change, the response is ${run.response}`);
  if (event !== before.event || run.events.length > 1) found.push(`without the change, there are ${run.events.length} events: ${run.events.map(show).join("; ")}`);
  if (run.gerror !== BigInt(before.gerror ?? 0)) found.push(`without the change, GERROR is 0x${run.gerror.toString(16)}`);
  const { target } = sceneOf(recipe.scene);
  if (kind === "untranslated" && before.event === undefined && run.page !== target) found.push(`without the change, the page is 0x${run.page.toString(16)}`);
  return found;
}
