/** Any entry, register, descriptor or record from its words. */
import { type FieldTable, fieldValue, formatRid } from "@iommukit/core";
import type { DecodedStructure, UnitRegisters } from "@iommukit/core/decode";
import { breaksRules, isIgnored, type UnitRules } from "../spec/conditions.js";
import { PASID_TABLE_ENTRY, SCALABLE_ROOT_ENTRY } from "../spec/entries.js";
import { FAULTS, faultIndex } from "../spec/faults.js";
import { FAULT_RECORD, PAGE_REQUEST } from "../spec/records.js";
import { adviceFor } from "./advice.js";
import { descriptorType, type Kind, KINDS, TYPE_OF_DESCRIPTOR } from "./kinds.js";
import { secondStageRights } from "./stages.js";
import { explainFields } from "./trail.js";
import { unitCapabilities } from "./unit.js";

const EVERYTHING = 0xffff_ffff_ffff_ffffn;

/** Rules of the unit that is described; none when nothing is. A register that is not given takes nothing away. */
function rulesOf(unit: UnitRegisters | undefined): UnitRules | undefined {
  if (unit === undefined || Object.keys(unit).length === 0) return undefined;
  const caps = unitCapabilities({ CAP: EVERYTHING, ECAP: EVERYTHING, ...unit });
  return {
    caps,
    ...(unit.RTADDR === undefined ? {} : { ssirwe: caps.secondStageIoRights && (unit.RTADDR & 0x80n) !== 0n }),
    ...(unit.IRTA === undefined ? {} : { eime: (unit.IRTA & 0x800n) !== 0n }),
  };
}

function reasonOf(condition: string): string {
  const fault = FAULTS[faultIndex(condition)];
  return `reason 0x${fault.code.toString(16)} (${fault.name})`;
}

export function decodeStructure(name: string, words: readonly bigint[], unit: UnitRegisters = {}): DecodedStructure {
  const kind = KINDS.find((candidate) => candidate.name === name.toLowerCase());
  if (kind === undefined) throw new RangeError(`VT-d has no structure "${name}"`);
  const bits = kind.bits ?? kind.table.bits;
  if (words.length !== Math.ceil(bits / 64)) throw new RangeError(`${name} has ${Math.ceil(bits / 64)} words, not ${words.length}`);
  const table = kind.choose?.(words) ?? kind.table;
  const rules = rulesOf(unit);
  // A 128-bit slot can hold the lower half of a 256-bit descriptor, and a 256-bit slot a 128-bit one.
  const all = [...words, ...Array.from({ length: Math.max(0, table.bits / 64 - words.length) }, () => 0n)];
  return {
    structure: table.structure,
    section: table.section,
    bits: Math.max(bits, table.bits),
    words: all,
    fields: explainFields(table, all, rules),
    notes: [...notesOf(kind, table, all, rules)],
  };
}

function* notesOf(kind: Kind, table: FieldTable, words: readonly bigint[], rules: UnitRules | undefined): Generator<string> {
  if (table === FAULT_RECORD) yield* faultNotes(words);
  else if (table === PAGE_REQUEST) yield* pageRequestNotes(words);
  else if (kind.group === "invalidation descriptor") yield* descriptorNotes(table, words, rules);
  else if (kind.group === "table entry") yield* entryNotes(kind, table, words, rules);
}

function* entryNotes(kind: Kind, table: FieldTable, words: readonly bigint[], rules: UnitRules | undefined): Generator<string> {
  if (kind.absent !== undefined && !isPresent(kind, table, words, rules)) {
    yield `not present: a request that meets it faults with ${reasonOf(kind.absent)}; hardware looks at nothing else in it${words.length > 0 && /FPD/.test(table.fields[1]?.name ?? "") ? " but FPD" : ""}`;
    return;
  }
  const broken = rules === undefined ? table.reserved.some((mask, i) => (words[i] & mask) !== 0n) : breaksRules(table, words, rules);
  if (broken && kind.reserved !== undefined) yield `a request that meets it faults with ${reasonOf(kind.reserved)}: bits are set that must be 0`;
  if (table !== PASID_TABLE_ENTRY) return;
  const pgtt = Number(fieldValue(table, words, "PGTT"));
  const ignored = table.fields.filter(({ name }) => isIgnored(name, pgtt) && fieldValue(table, words, name) !== 0n).map(({ name }) => name);
  if (ignored.length > 0) yield `PGTT ${pgtt} makes hardware ignore the value of ${ignored.join(", ")}`;
  if (pgtt === 0 || pgtt > 4) yield `a request that meets it faults with ${reasonOf("SPT.4.2")}: PGTT ${pgtt} is reserved`;
}

function isPresent(kind: Kind, table: FieldTable, words: readonly bigint[], rules: UnitRules | undefined): boolean {
  if (table === SCALABLE_ROOT_ENTRY) return ((words[0] | words[1]) & 1n) !== 0n;
  if (kind.name.startsWith("ss-")) return secondStageRights(words[0], rules?.ssirwe === true) !== 0;
  return (words[0] & 1n) !== 0n;
}

function* descriptorNotes(table: FieldTable, words: readonly bigint[], rules: UnitRules | undefined): Generator<string> {
  const type = descriptorType(words);
  const expected = TYPE_OF_DESCRIPTOR.get(table);
  if (type !== expected) yield `the type is 0x${type.toString(16)}, that of another descriptor: this one has 0x${expected?.toString(16)}`;
  const broken = rules === undefined ? table.reserved.some((mask, i) => (words[i] & mask) !== 0n) : breaksRules(table, words, rules);
  const behind = words.slice(table.bits / 64).some((word) => word !== 0n);
  if (broken || behind) yield `the queue stops at it: IQE with IQEI 4, ${broken ? "a reserved field is set" : "the upper 128 bits must be 0"}`;
  if (table.bits === 256) yield "256 bits: only in a queue with IQA.DW=1";
}

const REQUESTS = ["a write", "a page request", "a read", "an atomic operation"];

function* faultNotes(words: readonly bigint[]): Generator<string> {
  const value = (name: string): number => Number(fieldValue(FAULT_RECORD, words, name));
  if (value("F") === 0) {
    yield "F is 0: the record is empty, or was cleared";
    return;
  }
  const request = REQUESTS[value("T1") * 2 + value("T2")];
  const who = `${formatRid(value("SID"))}${value("PP") ? ` with PASID 0x${value("PV").toString(16)}` : ""}`;
  const reason = value("FR");
  const where = reason >= 0x20 && reason <= 0x2f
    ? `interrupt index 0x${Number(fieldValue(FAULT_RECORD, words, "FI") >> 36n).toString(16)}`
    : `${request} at 0x${(fieldValue(FAULT_RECORD, words, "FI") << 12n).toString(16)}`;
  yield `${where} by ${who}`;
  yield* explainFault(reason);
}

/** Each condition that a reason stands for, and where to look. */
export function* explainFault(reason: number): Generator<string> {
  const rows = FAULTS.filter(({ code }) => code === reason);
  if (rows.length === 0) yield `reason 0x${reason.toString(16)} is not in the manual's table (VT-d 7.1)`;
  for (const { name, text } of rows) {
    yield `0x${reason.toString(16)} ${name}: ${text}`;
    const advice = adviceFor(name);
    if (advice !== undefined) yield `  look at: ${advice}`;
  }
}

function* pageRequestNotes(words: readonly bigint[]): Generator<string> {
  const value = (name: string): number => Number(fieldValue(PAGE_REQUEST, words, name));
  if (value("LPIG") === 1 && value("RDR") === 0 && value("WRR") === 0) yield "a stop marker: it gets no response";
  else if (value("LPIG") === 1) yield "one page group response is due to it";
  else yield "no response is due: LPIG is 0";
  if (value("PMR") === 1 && value("PP") === 0) yield "PMR means nothing without a PASID";
}
