/** Everything that can be decoded on its own, by the name that a person types. */
import type { FieldTable } from "@iommukit/core";
import type { StructureKind } from "@iommukit/core/decode";
import { COMMAND_BY_OPCODE, COMMANDS } from "../spec/commands.js";
import { CD, L1_CONTEXT_DESCRIPTOR } from "../spec/context.js";
import { EVENTS, eventType } from "../spec/events.js";
import { PAGE_REQUEST } from "../spec/page-requests.js";
import { REGISTER_LAYOUTS } from "../spec/register-fields.js";
import { L1_STREAM_DESCRIPTOR, STE } from "../spec/stream-table.js";
import { STAGE1_LEAF, STAGE1_TABLE, STAGE2_LEAF, STAGE2_TABLE } from "../spec/tables.js";

export interface Kind extends StructureKind {
  readonly table: FieldTable;
  /** Picks the table by the words: an event's type, a command's opcode. */
  readonly choose?: (words: readonly bigint[]) => FieldTable;
}

function kind(name: string, group: string, table: FieldTable, bits: number = table.bits): Kind {
  return { name, group, structure: table.structure, section: table.section, bits, table };
}

const typeOf = (words: readonly bigint[]): number => Number(words[0] & 0xffn);

function eventTable(words: readonly bigint[]): FieldTable {
  const event = eventType(typeOf(words));
  if (event === undefined) throw new RangeError(`no event has type 0x${typeOf(words).toString(16)} (SMMU 7.3)`);
  return event.table;
}

function commandTable(words: readonly bigint[]): FieldTable {
  const command = COMMAND_BY_OPCODE.get(typeOf(words));
  if (command === undefined) throw new RangeError(`no command has opcode 0x${typeOf(words).toString(16)}: the queue stops at it with CERROR_ILL (SMMU 7.1)`);
  return command.table;
}

const typed = (table: FieldTable): string => table.structure.toLowerCase().replaceAll("_", "-");

export const KINDS: readonly Kind[] = [
  kind("l1-stream-descriptor", "table entry", L1_STREAM_DESCRIPTOR),
  kind("ste", "table entry", STE),
  kind("l1-context-descriptor", "table entry", L1_CONTEXT_DESCRIPTOR),
  kind("cd", "table entry", CD),
  kind("stage1-table", "table entry", STAGE1_TABLE),
  kind("stage1-leaf", "table entry", STAGE1_LEAF),
  kind("stage2-table", "table entry", STAGE2_TABLE),
  kind("stage2-leaf", "table entry", STAGE2_LEAF),
  { ...kind("event", "record", EVENTS[0].table), structure: "Event record, of any type", section: "SMMU 7.3", choose: eventTable },
  ...EVENTS.map(({ table }) => kind(typed(table), "record", table)),
  kind("page-request", "record", PAGE_REQUEST),
  { ...kind("command", "command", COMMANDS[0].table), structure: "Command, of any opcode", section: "SMMU 4", choose: commandTable },
  ...COMMANDS.map(({ table }) => kind(typed(table), "command", table)),
  ...REGISTER_LAYOUTS.map(({ table, bits }) => kind(table.structure.replace("SMMU_", "").toLowerCase(), "register", table, bits)),
];
