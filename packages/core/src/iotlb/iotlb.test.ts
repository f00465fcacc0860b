import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Iotlb, IotlbKey } from "./iotlb.js";

describe("Iotlb", () => {
  it("never answers what was not inserted, or was removed", () => {
    const key = fc.record({ tag: fc.integer({ min: 0, max: 2 }), page: fc.integer({ min: 0, max: 2048 }), large: fc.boolean() });
    const action = fc.oneof(
      key.map((k) => ({ kind: "insert" as const, ...k })),
      key.map((k) => ({ kind: "lookup" as const, ...k })),
      fc.record({ kind: fc.constant("remove" as const), group: fc.integer({ min: 0, max: 2 }), first: fc.integer({ min: 0, max: 2048 }), count: fc.integer({ min: 1, max: 600 }) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
        const tlb = new Iotlb({ sets: 8, ways: 2 });
        const model: { tag: number; page: number; pages: number; out: number; live: boolean }[] = [];
        let next = 1;
        for (const a of actions) {
          if (a.kind === "insert") {
            const pages = a.large ? 512 : 1;
            const page = a.page - (a.page % pages);
            for (const entry of model) if (entry.tag === a.tag && entry.page === page && entry.pages === pages) entry.live = false;
            model.push({ tag: a.tag, page, pages, out: next * 4096, live: true });
            tlb.insert(a.tag, 7, a.page, a.large ? 21 : 12, next * 4096 + (a.page - page), a.tag, a.tag, 0);
            next++;
          } else if (a.kind === "lookup") {
            const slot = tlb.lookup(a.tag, 7, a.page);
            if (slot === -1) continue;
            const out = tlb.output(slot, a.page);
            const possible = model.filter((e) => e.live && e.tag === a.tag && a.page >= e.page && a.page < e.page + e.pages).map((e) => e.out + a.page - e.page);
            expect(possible).toContain(out);
          } else {
            tlb.removeWhere(-1, a.group, 0, 0, a.first, a.first + a.count - 1);
            for (const entry of model) {
              if (entry.tag === a.group && entry.page < a.first + a.count && entry.page + entry.pages > a.first) entry.live = false;
            }
          }
        }
      }),
    );
  });

  it("gives an entry the tags and groups of its own key, whoever's it replaces", () => {
    const tlb = new Iotlb({ sets: 1, ways: 2 });
    const changing = new IotlbKey();
    const keys = [tlb.key(1, 2, 3, 4), tlb.key(1, 5, 3, 4), tlb.key(1, 2, 6, 7)];
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 3 })), { minLength: 1, maxLength: 30 }), (list) => {
        for (const [which, page] of list) {
          changing.set(which, 8, which, 9);
          const key = keys[which] ?? changing;
          const { tagA, tagB, groupA, groupB } = key;
          if (tlb.lookup(tagA, tagB, page) !== -1) tlb.removeWhere(0, 0, 0, 0, page, page);
          const slot = tlb.add(key, page, page + 100, which);
          expect(tlb.lookup(tagA, tagB, page)).toBe(slot);
          expect([tlb.tagA(slot), tlb.tagB(slot), tlb.data(slot), tlb.output(slot, page), tlb.shift(slot)]).toEqual([tagA, tagB, which, page + 100, 12]);
          expect(tlb.removeWhere(-1, groupA, -1, groupB + 1, 0, Infinity)).toBe(0);
          if (page === 3) expect(tlb.removeWhere(-1, groupA, -1, groupB, page, page)).toBe(1);
        }
      }),
    );
  });

  it("finds what it holds while nothing is evicted", () => {
    const tlb = new Iotlb({ sets: 64, ways: 4 });
    for (let page = 0; page < 64; page++) tlb.insert(1, -1, page * 3, 12, page, 5, 0, 0);
    for (let page = 0; page < 64; page++) expect(tlb.output(tlb.lookup(1, -1, page * 3), page * 3)).toBe(page);
    expect(tlb.lookup(2, -1, 3)).toBe(-1);
    expect(tlb.stats).toMatchObject({ hits: 64, misses: 1, inserts: 64 });
  });

  it("removes by groups and pages, few or many, of every size", () => {
    for (const count of [1, 63, 64, 65, 1000]) {
      const tlb = new Iotlb({ sets: 256, ways: 8 });
      for (const group of [3, 4]) {
        for (let page = 0; page < 700; page++) tlb.insert(group, 1, page, 12, page, 0, group, page & 1);
        tlb.insert(group, 1, 512, 21, 0, 0, group, 2);
      }
      expect(tlb.removeWhere(-1, 3, -1, 1, 101, 100 + count)).toBe(Math.ceil(Math.min(count, 599) / 2));
      expect(tlb.removeWhere(-1, 3, -1, 2, 600, 600 + count)).toBe(1);
      expect(tlb.find(4, 1, 101, 12)).not.toBe(-1);
      expect(tlb.find(3, 1, 101, 12)).toBe(-1);
      expect(tlb.find(3, 1, 700, 21)).toBe(-1);
      const left = [...tlb.entries()].length;
      expect(tlb.removeAll()).toBe(left);
      expect(tlb.lookup(4, 1, 101)).toBe(-1);
    }
  });

  it("holds nothing with capacity 0", () => {
    const tlb = new Iotlb({ sets: 0, ways: 1 });
    expect(tlb.insert(1, 1, 1, 12, 1, 0, 0, 0)).toBe(-1);
    expect(tlb.lookup(1, 1, 1)).toBe(-1);
    for (const page of [1, 1, 2]) tlb.add(tlb.key(1, 1, 1, 1), page, 1, 0);
    expect(tlb.lookup(1, 1, 1)).toBe(-1);
    expect([...tlb.entries()]).toEqual([]);
    expect(tlb.removeWhere(0, 0, 0, 0, 0, 10)).toBe(0);
    expect(tlb.removeAll()).toBe(0);
  });

  it("refuses more entries than it can number", () => {
    expect(() => new Iotlb({ sets: 4096, ways: 16 })).toThrow("65535");
    expect(new Iotlb({ sets: 4096, ways: 15 }).capacity).toBe(61_440);
  });
});
