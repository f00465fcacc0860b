/**
 * Fields of a structure, declared once as the manual prints them: in bit order,
 * reserved bits included. The same rows give the decoder its names, the tests
 * their round trips and the checks their masks.
 */
import type { DecodedField } from "../decode/types.js";

/** One row: `[width, name, meaning?]`. A name of "" is reserved, "-" is ignored by the hardware. */
export type FieldRow = readonly [width: number, name: string, meaning?: (value: bigint) => string | undefined];

export interface Field {
  /** "" for reserved bits, "-" for ignored ones. */
  readonly name: string;
  readonly low: number;
  readonly width: number;
  readonly meaning: ((value: bigint) => string | undefined) | undefined;
}

export interface FieldTable {
  /** The manual's name: "Legacy root entry". */
  readonly structure: string;
  /** "VT-d 9.1". */
  readonly section: string;
  /** Size in bits. */
  readonly bits: number;
  readonly fields: readonly Field[];
  /** Every reserved bit, as 64-bit words. */
  readonly reserved: readonly bigint[];
}

/** Fields by name, addresses by the bits that hold them; what is left out is 0. */
export type FieldValues = Readonly<Record<string, bigint>>;

/**
 * Declares a structure.
 * @throws RangeError when the widths do not add up to `bits`: a wrong width shifts every row above it
 */
export function defineFields(structure: string, section: string, bits: number, rows: readonly FieldRow[]): FieldTable {
  const fields: Field[] = [];
  let low = 0;
  for (const [width, name, meaning] of rows) {
    fields.push({ name, low, width, meaning });
    low += width;
  }
  if (low !== bits) throw new RangeError(`${structure}: rows cover ${low} of ${bits} bits`);
  return { structure, section, bits, fields, reserved: reservedMask(bits, fields) };
}

/** Value of bits [low + width - 1 : low] over little-endian 64-bit words. */
export function extractBits(words: readonly bigint[], low: number, width: number): bigint {
  let whole = 0n;
  for (let i = words.length - 1; i >= 0; i--) whole = (whole << 64n) | words[i];
  return (whole >> BigInt(low)) & ((1n << BigInt(width)) - 1n);
}

/** Value of the named field. Throws RangeError for a name that the table lacks. */
export function fieldValue(table: FieldTable, words: readonly bigint[], name: string): bigint {
  const field = table.fields.find((row) => row.name === name);
  if (field === undefined) throw new RangeError(`${table.structure} has no field ${name}`);
  return extractBits(words, field.low, field.width);
}

/** Words with the named fields set and everything else 0. */
export function encodeFields(table: FieldTable, values: FieldValues): bigint[] {
  let whole = 0n;
  for (const [name, value] of Object.entries(values)) {
    const field = table.fields.find((row) => row.name === name);
    if (field === undefined) throw new RangeError(`${table.structure} has no field ${name}`);
    if (value < 0n || value >= 1n << BigInt(field.width)) throw new RangeError(`${name} = ${value} does not fit ${field.width} bits`);
    whole |= value << BigInt(field.low);
  }
  return Array.from({ length: Math.ceil(table.bits / 64) }, (_, i) => (whole >> BigInt(i * 64)) & 0xffff_ffff_ffff_ffffn);
}

/** Every field by name; reserved bits appear only when they are set. */
export function decodeFields(table: FieldTable, words: readonly bigint[]): DecodedField[] {
  const decoded: DecodedField[] = [];
  for (const field of table.fields) {
    const value = extractBits(words, field.low, field.width);
    if (field.name === "-" || (field.name === "" && value === 0n)) continue;
    const bits = field.width === 1 ? `${field.low}` : `${field.low + field.width - 1}:${field.low}`;
    if (field.name === "") decoded.push({ name: "reserved", bits, value, violation: `${table.section}: ${field.width === 1 ? "bit" : "bits"} ${bits} must be 0` });
    else {
      const meaning = field.meaning?.(value);
      decoded.push(meaning === undefined ? { name: field.name, bits, value } : { name: field.name, bits, value, meaning });
    }
  }
  return decoded;
}

/** What registers announce: fields that are not 0, "SAGAW: 48 bits, 57 bits". */
export function announcements(registers: readonly (readonly [table: FieldTable, value: bigint])[]): string[] {
  const fields = registers.flatMap(([table, value]) => decodeFields(table, [value]));
  return fields.filter(({ value }) => value !== 0n).map(({ name, meaning, value }) => `${name}: ${meaning ?? String(value)}`);
}

function reservedMask(bits: number, fields: readonly Field[]): bigint[] {
  const masks = Array.from({ length: Math.ceil(bits / 64) }, () => 0n);
  for (const field of fields) {
    if (field.name !== "") continue;
    for (let bit = field.low; bit < field.low + field.width; bit++) masks[bit >> 6] |= 1n << BigInt(bit & 63);
  }
  return masks;
}
