/** Careful reading of recorded files: every surprise is a `FormatError` that says where. */

/** A file that is not what it says it is. */
export class FormatError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "FormatError";
  }
}

export type JsonObject = Readonly<Record<string, unknown>>;

export function asObject(value: unknown, what: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new FormatError(`${what} is not an object`);
  return value as JsonObject;
}

export function asArray(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new FormatError(`${what} is not a list`);
  return value;
}

export function asString(value: unknown, what: string): string {
  if (typeof value !== "string") throw new FormatError(`${what} is not a string`);
  return value;
}

/** A non-negative number, given as a number or as hexadecimal text, that a double holds exactly. */
export function asNumber(value: unknown, what: string): number {
  const number = Number(asBigInt(value, what));
  if (!Number.isSafeInteger(number)) throw new FormatError(`${what} is too large: ${String(value)}`);
  return number;
}

export function asBigInt(value: unknown, what: string): bigint {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  if (typeof value === "string" && /^(0x[0-9a-f]{1,16}|[0-9]{1,20})$/i.test(value)) return BigInt(value);
  throw new FormatError(`${what} is not a number: ${JSON.stringify(value)}`);
}

export function asBytes(value: unknown, what: string): Uint8Array {
  if (typeof value !== "string" || value.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(value)) {
    throw new FormatError(`${what} is not hexadecimal bytes`);
  }
  const bytes = new Uint8Array(value.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(value.slice(i * 2, i * 2 + 2), 16);
  return bytes;
}

export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new FormatError(`${what} is not JSON: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
