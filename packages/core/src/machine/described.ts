/** Values of a machine description, which may come from a file: every problem names its path. */
import { parseRid } from "../bus/rid.js";
import { refuse } from "../errors.js";

export type Described = Readonly<Record<string, unknown>>;

/** @throws IommuError EINVAL, as all here */
export function wrongValue(path: string, message: string): never {
  return refuse("EINVAL", `${path} ${message}`, { argument: path, rule: "machine description" });
}

/** With no keys but these. */
export function describedObject(value: unknown, path: string, keys: readonly string[]): Described {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return wrongValue(path, "is not an object");
  const unknown = Object.keys(value).find((key) => !keys.includes(key));
  if (unknown !== undefined) wrongValue(`${path}.${unknown}`, `is not known; there are: ${keys.join(", ")}`);
  return value as Described;
}

/** Empty when it is not given. */
export function describedList<T>(value: unknown, path: string, item: (value: unknown, path: string) => T): T[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > 256) return wrongValue(path, "is not a list of up to 256 entries");
  return value.map((entry, i) => item(entry, `${path}[${i}]`));
}

export function describedNumber(value: unknown, path: string, most: number): number {
  if (!Number.isInteger(value) || Number(value) < 0 || Number(value) > most) return wrongValue(path, `is ${JSON.stringify(value)}, not a number up to ${most}`);
  return Number(value);
}

/** False when it is not given. */
export function describedFlag(value: unknown, path: string): boolean {
  if (value !== undefined && typeof value !== "boolean") wrongValue(path, "is neither true nor false");
  return value === true;
}

/** "00:02.0" */
export function describedRid(value: unknown, path: string): number {
  try {
    return parseRid(String(value));
  } catch {
    return wrongValue(path, `is ${JSON.stringify(value)}, not a device such as "00:02.0"`);
  }
}
