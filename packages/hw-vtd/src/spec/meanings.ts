/** Values in words, for the last column of field rows. */

type Meaning = (value: bigint) => string | undefined;

/** A page number: "at 0x1000"; nothing for 0, which most often means "not used". */
export const pageAddress: Meaning = (value) => (value === 0n ? undefined : `at 0x${(value << 12n).toString(16)}`);

/** A page number where page 0 is as good as any. */
export const page: Meaning = (value) => `0x${(value << 12n).toString(16)}`;

/** A flag that is worth a word when it is set. */
export function flag(set: string, clear?: string): Meaning {
  return (value) => (value === 0n ? clear : set);
}

/** One word a value; what lies behind the list, or is "" in it, is reserved. */
export function oneOf(...words: readonly string[]): Meaning {
  return (value) => words[Number(value)] || "reserved";
}

/** "00:03.0" */
export const requester: Meaning = (value) => {
  const two = (part: bigint): string => part.toString(16).padStart(2, "0");
  return `${two(value >> 8n)}:${two((value >> 3n) & 31n)}.${value & 7n}`;
};

/** 2^AM pages, as invalidations count. */
export const pagesOfMask: Meaning = (value) => (value === 0n ? "one page" : `2^${value} pages`);
