/** Structures as 32-bit words and numbers: what the hardware reads and writes. Core's `fields` does the same in bigint, for people. */
import type { Field, FieldTable } from "@iommukit/core";

export type Fields = Readonly<Record<string, number>>;

/** Widest field that is read as a number: of 54 bits, only addresses of messages, exact below 2^55. */
const WIDEST = 54;

/** Value of bits [low + width - 1 : low], up to WIDEST of them. */
export function readBits(words: Uint32Array, low: number, width: number): number {
  let value = 0;
  let scale = 1;
  for (let at = low, left = width; left > 0; ) {
    const shift = at & 31;
    const take = Math.min(32 - shift, left);
    value += ((words[at >>> 5] >>> shift) % 2 ** take) * scale;
    scale *= 2 ** take;
    at += take;
    left -= take;
  }
  return value;
}

/** Every named field but the widest. An address field gives the address, not the bits that hold it. */
export function readFields(table: FieldTable, words: Uint32Array): Record<string, number> {
  const fields: Record<string, number> = {};
  for (const field of table.fields) {
    if (!isNamed(field) || field.width > WIDEST) continue;
    const value = readBits(words, field.low, field.width);
    fields[field.name] = isAddress(field) ? value * 2 ** (field.low & 63) : value;
  }
  return fields;
}

/** Puts a number into a field; bits that do not fit are left off. The field holds 0 before. */
export function putField(words: Uint32Array, field: Field, value: number): void {
  let rest = isAddress(field) ? Math.floor(value / 2 ** (field.low & 63)) : value;
  for (let at = field.low, left = field.width; left > 0; ) {
    const shift = at & 31;
    const take = Math.min(32 - shift, left);
    words[at >>> 5] |= (rest % 2 ** take) << shift;
    rest = Math.floor(rest / 2 ** take);
    at += take;
    left -= take;
  }
}

/** The fields of a table by name, for those who fill records. */
export function fieldsByName(table: FieldTable): Readonly<Record<string, Field>> {
  return Object.fromEntries(table.fields.filter(isNamed).map((field) => [field.name, field]));
}

function isNamed(field: Field): boolean {
  return field.name !== "" && field.name !== "-";
}

type Meaning = NonNullable<Field["meaning"]>;
const addressMeanings = new Set<Meaning>();

/** `meaning` of a field that holds the bits of an address from `low` on. */
export function addressFrom(low: number): Meaning {
  const meaning: Meaning = (value) => (value === 0n ? undefined : `at 0x${(value << BigInt(low)).toString(16)}`);
  addressMeanings.add(meaning);
  return meaning;
}

/** Address fields stand at their own bit positions in a 64-bit word. */
function isAddress(field: Field): boolean {
  return field.meaning !== undefined && addressMeanings.has(field.meaning);
}

/** `meaning` of a field whose values have names. */
export function oneOf(...names: readonly string[]): Meaning {
  return (value) => names[Number(value)] ?? "reserved";
}
