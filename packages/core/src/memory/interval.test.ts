import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { holes, type Interval } from "./interval.js";

describe("holes", () => {
  it("are what no interval covers", () => {
    const interval = fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 10 })).map(([start, length]) => ({ start: BigInt(start), last: BigInt(start + length) }));
    fc.assert(
      fc.property(fc.array(interval, { maxLength: 8 }), (taken) => {
        const gaps = holes(taken);
        for (let at = 0n; at < 60n; at++) {
          const covers = (range: Interval): boolean => range.start <= at && at <= range.last;
          expect(gaps.some(covers)).toBe(!taken.some(covers));
        }
      }),
    );
  });
});
