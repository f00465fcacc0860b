/** What is written to the bus's files, as Linux takes it. */
import { refuse } from "@iommukit/core";

const LENGTH = 36;
const PATTERN = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;

/**
 * A UUID as `guid_parse` takes it, of either case.
 * @param text what was written to `create`: the UUID, and one character more at the most, as a rule a line break
 * @returns in lower case @throws IommuError EINVAL
 */
export function parseUuid(text: string): string {
  if (text.length !== LENGTH && text.length !== LENGTH + 1) {
    refuse("EINVAL", `${text.length} characters were written: a UUID has ${LENGTH}, and a line break may follow`, { argument: "uuid", rule: "mdev create" });
  }
  const uuid = text.slice(0, LENGTH);
  if (!PATTERN.test(uuid)) refuse("EINVAL", `${JSON.stringify(uuid)} is not a UUID`, { argument: "uuid", rule: "mdev create" });
  return uuid.toLowerCase();
}

const NUMBER = /^\+?(?:0x([\da-f]+)|(0[0-7]*)|([1-9]\d*))\n?$/i;

/** A number as `kstrtoul` takes it, of base 16, 8 or 10. @throws IommuError EINVAL */
export function parseNumber(text: string): bigint {
  const match = NUMBER.exec(text);
  if (match === null) return refuse("EINVAL", `${JSON.stringify(text)} is not a number`, { argument: "remove", rule: "mdev remove" });
  const [, hex, octal, decimal] = match;
  const value = BigInt(hex ? `0x${hex}` : octal ? `0o${octal}` : decimal);
  return value < 2n ** 64n ? value : refuse("EINVAL", `${value} does not fit 64 bits`, { argument: "remove", rule: "mdev remove" });
}
