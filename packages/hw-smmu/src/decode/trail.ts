/** What a walk has read so far, and how it may end early. */
import { decodeFields, type DecodedField, type FieldTable, type WalkStep } from "@iommukit/core";
import { readWords, type StepContext } from "@iommukit/core/decode";
import { eventName, eventType } from "../spec/events.js";
import { type Fields, readFields } from "../spec/words.js";
import type { Unit } from "./unit.js";

/** What was being translated when a fault came (SMMU 7.3, CLASS). */
export type Cause = "CD" | "TT" | "IN";

export interface StopDetails {
  /** A, R and S of this stage decide what becomes of the transaction and its record. */
  readonly controlledBy?: 1 | 2;
  readonly cause?: Cause;
}

/** A walk that ended early, with the event that records it; none for what ends in silence. */
export class Stopped extends Error {
  readonly event: number | undefined;
  readonly details: StopDetails;

  constructor(event: number | undefined, reason: string, details: StopDetails = {}) {
    super(reason);
    this.event = event;
    this.details = details;
  }

  /** "0x10 (F_TRANSLATION)". */
  get code(): string {
    return this.event === undefined ? "abort" : `0x${this.event.toString(16).padStart(2, "0")} (${eventName(this.event)})`;
  }

  get section(): string {
    return (this.event === undefined ? undefined : eventType(this.event)?.table.section) ?? "SMMU 5.2";
  }
}

/** A rule that a structure breaks, and the fields that it is about. */
export interface BrokenRule {
  readonly fields: (name: string) => boolean;
  readonly text: string;
}

export class Trail {
  readonly unit: Unit;
  readonly steps: WalkStep[] = [];
  readonly notes: string[] = [];
  /** The STE and the CD as far as they are known: A, R and S of a fault are theirs. */
  ste: Fields | undefined;
  cd: Fields | undefined;

  constructor(unit: Unit) {
    this.unit = unit;
  }

  /** @throws Stopped with `unreadable` when the memory is not there */
  read(table: FieldTable, pa: bigint, unreadable: number): bigint[] {
    const words = readWords(this.unit.source, pa, table.bits);
    if (words === undefined) throw new Stopped(unreadable, `the ${table.structure} at 0x${pa.toString(16)} cannot be read`);
    return words;
  }

  show(table: FieldTable, pa: bigint, words: readonly bigint[], context: StepContext, broken: readonly BrokenRule[] = []): void {
    this.steps.push({ structure: table.structure, section: table.section, pa: Number(pa), words, fields: explainFields(table, words, broken), ...context });
  }
}

export function explainFields(table: FieldTable, words: readonly bigint[], broken: readonly BrokenRule[]): DecodedField[] {
  return decodeFields(table, words).map((field) => {
    // Reserved bits are not checked by an SMMU: what counts is told by the rules.
    const { violation: _reserved, ...plain } = field;
    const own = broken.filter((rule) => rule.fields(field.name));
    return own.length === 0 ? plain : { ...plain, violation: own.map(({ text }) => `${table.section}: ${text}`).join("; ") };
  });
}

/** A structure as numbers, as the rules read it. */
export function fieldsOf(table: FieldTable, words: readonly bigint[]): Fields {
  return readFields(table, Uint32Array.from({ length: table.bits / 32 }, (_, i) => Number((words[i >> 1] >> BigInt(32 * (i & 1))) & 0xffff_ffffn)));
}
