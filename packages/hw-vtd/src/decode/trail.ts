/** What a walk has read so far, and how it may end early. */
import { decodeFields, type DecodedField, type FieldTable, type WalkStep } from "@iommukit/core";
import { readWords, type StepContext } from "@iommukit/core/decode";
import { type UnitRules, violations } from "../spec/conditions.js";
import { FAULTS, faultIndex } from "../spec/faults.js";
import type { Unit } from "./unit.js";

/** A walk that ended early. */
export class Blocked extends Error {
  readonly condition: string;

  constructor(condition: string) {
    super(condition);
    this.condition = condition;
  }
}

export class Trail {
  readonly unit: Unit;
  readonly steps: WalkStep[] = [];
  readonly notes: string[] = [];
  /** The structure whose FPD is set, the outermost one. */
  faultDisable: string | undefined;

  constructor(unit: Unit) {
    this.unit = unit;
  }

  /** Reads a structure and shows it. @throws Blocked with `unreadable` when the memory is not there */
  read(table: FieldTable, pa: number, context: StepContext, unreadable: string): bigint[] {
    const words = readWords(this.unit.source, pa, table.bits);
    if (words === undefined) throw new Blocked(unreadable);
    this.show(table, pa, words, context);
    return words;
  }

  show(table: FieldTable, pa: number, words: readonly bigint[], context: StepContext): void {
    this.steps.push({ structure: table.structure, section: table.section, pa, words, fields: explainFields(table, words, this.unit), ...context });
  }

  /** FPD counts even in an entry that is not present (7.2). */
  noteFaultDisable(table: FieldTable, words: readonly bigint[]): void {
    if ((words[0] & 2n) !== 0n) this.faultDisable ??= table.structure;
  }
}

/** Fields with the violations that this unit's capabilities add to those of the rows. */
export function explainFields(table: FieldTable, words: readonly bigint[], rules: UnitRules | undefined): DecodedField[] {
  const fields = decodeFields(table, words);
  if (rules === undefined) return fields;
  const found = violations(table, words, rules);
  return fields.map((field) => {
    const own = found.filter((violation) => violation.field === field.name);
    if (own.length === 0) return field;
    return { ...field, violation: own.map(({ bits, why }) => `${table.section}: ${bits.includes(":") ? "bits" : "bit"} ${bits} must be 0: ${why}`).join("; ") };
  });
}

/** "0x71 (SFS.2)" and its sentence. */
export function describeCondition(name: string): { readonly code: string; readonly reason: string; readonly qualified: boolean } {
  const row = FAULTS[faultIndex(name)];
  return { code: `0x${row.code.toString(16)} (${row.name})`, reason: row.text, qualified: row.qualified };
}
