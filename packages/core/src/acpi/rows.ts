/** Structures inside ACPI tables as rows of bytes, little endian: the same rows read, explain and write them. */
import { decodeFields, type FieldTable } from "../spec/fields.js";
import type { AcpiField } from "./table.js";

/** Reserved bytes have an empty name. */
export interface AcpiRow {
  readonly name: string;
  readonly size: number;
  /** Bits of the value; those that are reserved must be 0. */
  readonly bits?: FieldTable;
  readonly meaning?: (value: bigint) => string | undefined;
}

export type AcpiValues = Readonly<Record<string, bigint>>;

export interface AcpiRowsRead {
  readonly values: AcpiValues;
  readonly fields: readonly AcpiField[];
  /** Reserved bits and bytes that are not 0. */
  readonly problems: readonly string[];
}

export const acpiHex = (value: bigint | number): string => `0x${value.toString(16)}`;

export function acpiRowBytes(rows: readonly AcpiRow[]): number {
  return rows.reduce((sum, { size }) => sum + size, 0);
}

/** @param bytes the table, which holds the rows from `offset` on */
export function readAcpiRows(bytes: Uint8Array, offset: number, rows: readonly AcpiRow[]): AcpiRowsRead {
  const values: Record<string, bigint> = {};
  const fields: AcpiField[] = [];
  const problems: string[] = [];
  let at = offset;
  for (const row of rows) {
    let value = 0n;
    for (let i = row.size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i]);
    if (row.name !== "") {
      values[row.name] = value;
      const meaning = row.bits === undefined ? row.meaning?.(value) : bitsText(row.bits, value);
      fields.push({ name: row.name, offset: at, size: row.size, value, ...(meaning === undefined ? {} : { meaning }) });
      problems.push(...reservedBits(row, value));
    } else if (value !== 0n) problems.push(`reserved bytes at offset ${acpiHex(at)} are not 0`);
    at += row.size;
  }
  return { values, fields, problems };
}

/** "HTTU: access flag, COHACC" */
function bitsText(table: FieldTable, value: bigint): string | undefined {
  if (value === 0n) return undefined;
  const set = decodeFields(table, [value]).filter((field) => field.value !== 0n && field.violation === undefined);
  const words = set.map(({ name, bits, value: part, meaning }) => (bits.includes(":") || meaning !== undefined ? `${name}: ${meaning ?? part}` : name));
  return words.length === 0 ? undefined : words.join(", ");
}

function reservedBits({ name, bits: table }: AcpiRow, value: bigint): string[] {
  if (table === undefined || (value & table.reserved[0]) === 0n) return [];
  const wrong = decodeFields(table, [value]).filter(({ violation }) => violation !== undefined);
  return wrong.map(({ bits }) => `${name} ${acpiHex(value)}: ${bits.includes(":") ? `bits ${bits} are` : `bit ${bits} is`} reserved`);
}

/**
 * Values that are not given are 0.
 * @throws RangeError for a value that does not fit its bytes
 */
export function writeAcpiRows(bytes: Uint8Array, offset: number, rows: readonly AcpiRow[], values: AcpiValues, structure: string): void {
  let at = offset;
  for (const { name, size } of rows) {
    const value = name === "" ? 0n : (values[name] ?? 0n);
    if (value < 0n || value >= 1n << BigInt(8 * size)) throw new RangeError(`${structure}: ${name} ${acpiHex(value)} does not fit ${size} bytes`);
    for (let i = 0; i < size; i++) bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
    at += size;
  }
}

/** Path of an object in the ACPI namespace, as text that ends with a 0 byte. */
export interface AcpiPathRead {
  readonly path: string;
  /** With the 0 byte. */
  readonly length: number;
  readonly field: AcpiField;
  readonly problems: readonly string[];
}

export function readAcpiPath(bytes: Uint8Array, offset: number, end: number): AcpiPathRead {
  const zero = bytes.subarray(offset, end).indexOf(0);
  const path = String.fromCharCode(...bytes.subarray(offset, zero === -1 ? end : offset + zero));
  const shown = path.replace(/[^ -~]/g, "?");
  const problems = [
    ...(zero === -1 ? ["the object name does not end with a 0 byte"] : []),
    ...(/^[\\^]*[A-Z0-9_.]+$/.test(path) ? [] : [`"${shown}" is no path in the ACPI namespace`]),
  ];
  const length = zero === -1 ? Math.max(end - offset, 0) : zero + 1;
  return { path, length, field: { name: "object", offset, size: length, value: shown }, problems };
}
