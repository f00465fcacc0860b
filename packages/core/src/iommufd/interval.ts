/** Ranges of IOVA, both ends inclusive, and the list of areas sorted by them. */

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

/** Non-overlapping intervals in order, found by binary search. */
export class SortedIntervals<T extends Interval> {
  readonly #items: T[] = [];

  get length(): number {
    return this.#items.length;
  }

  /** Index of the first item that ends at or after `address`. */
  #from(address: bigint): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#items[middle].last < address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  add(item: T): void {
    this.#items.splice(this.#from(item.start), 0, item);
  }

  remove(item: T): void {
    const at = this.#from(item.start);
    if (this.#items[at] === item) this.#items.splice(at, 1);
  }

  /** First item that shares an address with the range. */
  first(range: Interval): T | undefined {
    const item = this.#items[this.#from(range.start)];
    return item !== undefined && item.start <= range.last ? item : undefined;
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#items[Symbol.iterator]();
  }
}
