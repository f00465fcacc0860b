/** One structure from its words: fields, rules that it breaks, and what they come to. */
import { type FieldTable, formatRid } from "@iommukit/core";
import type { DecodedStructure, UnitRegisters } from "@iommukit/core/decode";
import { COMMANDS } from "../spec/commands.js";
import { CD } from "../spec/context.js";
import { EVENTS } from "../spec/events.js";
import { streamWorld, World } from "../spec/illegal.js";
import { STE } from "../spec/stream-table.js";
import { adviceFor } from "./advice.js";
import { type Kind, KINDS } from "./kinds.js";
import { brokenCdRules, brokenSteRules } from "./rules.js";
import { type BrokenRule, explainFields, fieldsOf } from "./trail.js";
import { unitCapabilities } from "./unit.js";

export function decodeStructure(name: string, words: readonly bigint[], unit: UnitRegisters = {}): DecodedStructure {
  const kind = KINDS.find((candidate) => candidate.name === name.toLowerCase());
  if (kind === undefined) throw new RangeError(`SMMUv3 has no structure "${name}"`);
  const count = Math.ceil(kind.bits / 64);
  if (words.length !== count) throw new RangeError(`${name} has ${count} words, not ${words.length}`);
  const table = kind.choose?.(words) ?? kind.table;
  const broken = brokenRules(table, words, unit);
  return { structure: table.structure, section: table.section, bits: kind.bits, words, fields: explainFields(table, words, broken), notes: [...notesOf(kind, table, words, broken, unit)] };
}

function brokenRules(table: FieldTable, words: readonly bigint[], unit: UnitRegisters): readonly BrokenRule[] {
  const caps = unitCapabilities(unit);
  const f = fieldsOf(table, words);
  if (table === STE && f.V === 1 && f.Config >= 4) return brokenSteRules({ f, caps, world: streamWorld(f, caps, ((unit.CR2 ?? 1n) & 1n) === 1n) });
  // Of the STE before it, only S1STALLD matters to a CD: it is taken to be 0.
  return table === CD && f.V === 1 ? brokenCdRules({ f, ste: { S1STALLD: 0 }, caps, world: World.EL1 }) : [];
}

function* notesOf(kind: Kind, table: FieldTable, words: readonly bigint[], broken: readonly BrokenRule[], unit: UnitRegisters): Generator<string> {
  const f = fieldsOf(table, words);
  if (table === STE || table === CD) yield* structureNotes(table, f, broken);
  else if (kind.group === "command") yield* commandNotes(table, words, unit);
  else if (kind.group === "record") yield* eventNotes(table, f);
}

function* structureNotes(table: FieldTable, f: Readonly<Record<string, number>>, broken: readonly BrokenRule[]): Generator<string> {
  const event = table === STE ? "C_BAD_STE" : "C_BAD_CD";
  if (f.V === 0) yield `V is 0: a transaction that meets it ends with ${event}; hardware looks at nothing else in it`;
  else if (table === STE && f.Config < 4) yield "Config is abort: a transaction that meets it ends without a record";
  for (const { text } of broken) yield `ILLEGAL, a transaction that meets it ends with ${event}: ${text}`;
}

function* commandNotes(table: FieldTable, words: readonly bigint[], unit: UnitRegisters): Generator<string> {
  const command = COMMANDS.find((row) => row.table === table);
  if (command === undefined) return;
  const opcode = Number(words[0] & 0xffn);
  if (opcode !== command.opcode) yield `the opcode is 0x${opcode.toString(16)}, that of another command: this one has 0x${command.opcode.toString(16)}`;
  else if (fieldsOf(table, words).SSec === 1 || command.illegal(fieldsOf(table, words), unitCapabilities(unit))) yield "the queue stops at it with CERROR_ILL";
}

function* eventNotes(table: FieldTable, f: Readonly<Record<string, number>>): Generator<string> {
  const event = EVENTS.find((row) => row.table === table);
  if (event === undefined) return;
  const substream = f.SSV === 1 ? ` with SubstreamID 0x${f.SubstreamID.toString(16)}` : "";
  yield `${table.structure} of StreamID 0x${f.StreamID.toString(16)}${f.StreamID < 65_536 ? ` (${formatRid(f.StreamID)} where it is the requester id)` : ""}${substream}`;
  if (f.Stall === 1) yield `the transaction waits for CMD_RESUME with STAG 0x${f.STAG.toString(16)}`;
  const advice = adviceFor(table.structure);
  if (advice !== undefined) yield `look at: ${advice}`;
}
