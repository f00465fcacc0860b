import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { IommuError } from "../errors.js";
import type { Interval } from "../memory/interval.js";
import { newArea } from "./area.js";
import { Ioas } from "./ioas.js";
import { type PageOrigin, Pages } from "./pages.js";

/** A naive address space: the state of each of 64 pages. */
type State = "free" | "reserved" | number;
const PAGES = 64;
const page = (n: number): bigint => BigInt(n) * 4096n;
const rangeOf = (first: number, count: number): Interval => ({ start: page(first), last: page(first + count) - 1n });
const pages = new Pages({ source: { kind: "user" }, base: 0n, prot: 3 } as unknown as PageOrigin, 0n, 4096n);

function errno(run: () => void): string {
  try {
    run();
    return "success";
  } catch (error) {
    if (!(error instanceof IommuError)) throw error;
    expect(error.reason.message).not.toBe("");
    return error.errno;
  }
}

describe("IOAS", () => {
  const spot = { first: fc.integer({ min: 0, max: PAGES - 1 }), count: fc.integer({ min: 1, max: 12 }) };
  const action = fc.oneof(
    fc.record({ kind: fc.constant("map" as const), ...spot }),
    fc.record({ kind: fc.constant("unmap" as const), ...spot }),
    fc.record({ kind: fc.constant("reserve" as const), ...spot }),
    fc.record({ kind: fc.constant("auto" as const), ...spot }),
  );

  it("agrees with a list of pages over any history", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const ioas = new Ioas(1);
        const model: State[] = Array.from({ length: PAGES + 12 }, () => "free");
        let next = 0;
        const has = (first: number, count: number, test: (state: State) => boolean): boolean => model.slice(first, first + count).some(test);
        const fill = (first: number, count: number, state: State): void => void model.fill(state, first, first + count);
        for (const { kind, first, count } of actions) {
          const range = rangeOf(first, count);
          if (kind === "map") {
            const got = errno(() => ioas.map([newArea(ioas.checkFixed(range.start, page(count)), pages, 0n, 3)]));
            if (has(first, count, (state) => state === "reserved")) expect(got).toBe("EINVAL");
            else if (has(first, count, (state) => state !== "free")) expect(got).toBe("EEXIST");
            else {
              expect(got).toBe("success");
              fill(first, count, next++);
            }
          } else if (kind === "reserve") {
            const got = errno(() => ioas.reserve(range, model, "a test"));
            const taken = has(first, count, (state) => typeof state === "number");
            expect(got).toBe(taken ? "EADDRINUSE" : "success");
            if (!taken) fill(first, count, "reserved");
          } else if (kind === "auto") {
            // The first hole above page 0 that fits at the alignment that the length suggests.
            const unit = 2 ** Math.ceil(Math.log2(count));
            let at = unit;
            while (has(at, count, (state) => state !== "free")) at += unit;
            expect(ioas.chooseIova(0n, page(count))).toEqual(rangeOf(at, count));
          } else {
            const inside = new Set(model.slice(first, first + count).filter((state) => typeof state === "number"));
            // Areas go lowest first, until one sticks out.
            let refused = false;
            for (const area of inside) {
              if (refused) break;
              if (model[first - 1] === area || model[first + count] === area) refused = true;
              else model.forEach((state, i) => { if (state === area) model[i] = "free"; });
            }
            expect(errno(() => ioas.unmap(range))).toBe(refused ? "ENOENT" : "success");
          }
        }
        const mapped = [...ioas.areas].flatMap((area) => Array.from({ length: Number((area.last - area.start + 1n) / 4096n) }, (_, i) => Number(area.start / 4096n) + i));
        expect(mapped).toEqual(model.flatMap((state, i) => (typeof state === "number" ? [i] : [])));
        const usable = ioas.usableRanges();
        model.forEach((state, i) => expect(usable.some((range) => range.start <= page(i) && range.last >= page(i))).toBe(state !== "reserved"));
      }),
    );
  });

  it("keeps the allowed list when a new one meets a reservation", () => {
    const ioas = new Ioas(1);
    ioas.reserve(rangeOf(8, 2), ioas, "a test");
    ioas.allow([rangeOf(20, 4)]);
    expect(errno(() => ioas.allow([rangeOf(9, 1)]))).toBe("EADDRINUSE");
    expect(ioas.chooseIova(0n, page(2)).start).toBe(page(20));
    expect(errno(() => ioas.reserve(rangeOf(21, 1), ioas, "another"))).toBe("EADDRINUSE");
    expect(errno(() => ioas.chooseIova(0n, page(8)))).toBe("ENOSPC");
  });
});
