import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { holes, type Interval, U64_MAX } from "./interval.js";
import { type Entry, IntervalTree } from "./interval-tree.js";

type Action = { readonly kind: "add" | "delete" | "first" | "holes"; readonly at: bigint; readonly length: bigint };

/** Places where neighbours meet and the ends of the number range are likely. */
const address = fc.oneof(
  fc.integer({ min: 0, max: 4000 }).map(BigInt),
  fc.bigInt({ min: 0n, max: U64_MAX }),
  fc.integer({ min: 0, max: 40 }).map((n) => U64_MAX - BigInt(n)),
);
const action = (kinds: readonly Action["kind"][]): fc.Arbitrary<Action> =>
  fc.record({ kind: fc.constantFrom(...kinds), at: address, length: fc.oneof(fc.constant(1n), fc.integer({ min: 1, max: 9 }).map(BigInt), fc.bigInt({ min: 1n, max: 2n ** 63n })) });

class NaiveList {
  items: Entry<number>[] = [];

  first(start: bigint, last: bigint): Entry<number> | undefined {
    return this.items.find((item) => item.start <= last && start <= item.last);
  }

  holes(from: bigint, size: bigint): Interval[] {
    return holes(this.items).filter(({ start, last }) => last - start + 1n >= size && last >= from);
  }
}

function check(actions: readonly Action[]): void {
  const tree = new IntervalTree<number>();
  const list = new NaiveList();
  for (const [i, { kind, at, length }] of actions.entries()) {
    const last = at + length - 1n > U64_MAX ? U64_MAX : at + length - 1n;
    if (kind === "add" && list.first(at, last) === undefined) {
      tree.add(at, last, i);
      list.items.push({ start: at, last, value: i });
      list.items.sort((a, b) => (a.start < b.start ? -1 : 1));
    } else if (kind === "delete") {
      const item = list.first(at, U64_MAX);
      const start = item?.start ?? at;
      expect(tree.delete(start)).toBe(item !== undefined);
      list.items = list.items.filter((other) => other !== item);
    } else if (kind === "first") expect(tree.first(at, last)).toEqual(list.first(at, last));
    else if (kind === "holes") {
      const found = [...tree.holes(at, length)];
      const wanted = list.holes(at, length);
      expect(found.filter((hole) => hole.last >= at && hole.last - hole.start + 1n >= length)).toEqual(wanted);
    }
  }
  expect([...tree]).toEqual(list.items);
  expect(tree.size).toBe(list.items.length);
}

describe("an interval tree", () => {
  it("agrees with a sorted list over any history", () => {
    const kinds = ["add", "add", "add", "delete", "first", "holes"] as const;
    fc.assert(fc.property(fc.array(action(kinds), { maxLength: 120 }), check));
  });

  it("agrees with a sorted list while nodes split, join and vanish", () => {
    const dense = fc.record({ kind: fc.constantFrom("add" as const, "delete" as const, "first" as const, "holes" as const), at: fc.integer({ min: 0, max: 9000 }).map(BigInt), length: fc.constant(1n) });
    const phase = fc.record({ adds: fc.boolean(), count: fc.integer({ min: 200, max: 900 }), seed: fc.integer({ min: 1, max: 9000 }), step: fc.constantFrom(1, 7, 4999) });
    fc.assert(
      fc.property(fc.array(phase, { minLength: 2, maxLength: 6 }), fc.array(dense, { maxLength: 30 }), (phases, tail) => {
        const bulk = phases.flatMap(({ adds, count, seed, step }) =>
          Array.from({ length: count }, (_, i): Action => ({ kind: adds ? "add" : "delete", at: BigInt((seed + i * step) % 9000), length: 1n })),
        );
        check([...bulk, ...tail]);
      }),
      { numRuns: 12 },
    );
  });
});
