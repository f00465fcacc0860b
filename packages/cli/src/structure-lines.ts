/** How a structure is shown, wherever it came from: words, fields, meanings, violations. */
import type { DecodedField } from "@iommukit/core";
import { hex, style } from "./style.js";

const WORDS_A_LINE = 4;

export interface ShowOptions {
  /** Fields that are 0 and mean nothing more. */
  readonly all?: boolean;
  readonly indent?: string;
}

/** Words, then a line a field. */
export function* structureLines(words: readonly bigint[], fields: readonly DecodedField[], { all = false, indent = "" }: ShowOptions = {}): Generator<string> {
  for (let i = 0; i < words.length; i += WORDS_A_LINE) {
    yield style.dim(`${indent}  ${words.slice(i, i + WORDS_A_LINE).map((word) => `0x${word.toString(16).padStart(16, "0")}`).join(" ")}`);
  }
  if (!all && words.every((word) => word === 0n) && fields.every((field) => field.violation === undefined)) {
    yield `${indent}  every field is 0`;
    return;
  }
  for (const field of fields) {
    if (!all && field.value === 0n && field.meaning === undefined && field.violation === undefined) continue;
    const meaning = field.meaning ? `  ${field.meaning}` : "";
    const violation = field.violation ? `  ${style.bad(field.violation)}` : "";
    yield `${indent}  ${field.bits.padStart(7)}  ${style.name(field.name.padEnd(12))} ${hex(field.value)}${meaning}${violation}`;
  }
}
