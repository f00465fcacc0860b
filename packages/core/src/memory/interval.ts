/** Ranges of addresses, both ends inclusive. */

export const U64_MAX = 0xffff_ffff_ffff_ffffn;

export interface Interval {
  readonly start: bigint;
  readonly last: bigint;
}

export function overlaps(a: Interval, b: Interval): boolean {
  return a.start <= b.last && b.start <= a.last;
}

/** The gaps that a set of intervals leaves in [0, 2^64), ascending. They may overlap each other and come in any order. */
export function holes(taken: Iterable<Interval>): Interval[] {
  const sorted = [...taken].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  const gaps: Interval[] = [];
  let next = 0n;
  for (const { start, last } of sorted) {
    if (start > next) gaps.push({ start: next, last: start - 1n });
    if (last >= next) next = last + 1n;
  }
  if (next <= U64_MAX) gaps.push({ start: next, last: U64_MAX });
  return gaps;
}

/** The same addresses in ascending order, neighbours joined. */
export function joined(intervals: Iterable<Interval>): Interval[] {
  return holes(holes(intervals));
}
