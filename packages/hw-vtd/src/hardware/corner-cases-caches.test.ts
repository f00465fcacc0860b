/** Corner cases of the caches and of what each invalidation removes. */
import { NO_PASID } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { SCALABLE_CONTEXT_ENTRY } from "../spec/entries.js";
import { AT, RID } from "./unit.test-support.js";
import { FS, PAGE, READ, TranslationBench, WRITE } from "./translation.test-support.js";

const NONE = { sets: 0, ways: 1 };

/** PASIDs 0 second stage, 1 first stage, 2 nested, 3 pass-through, of domain 1; PASID 4 second stage of domain 2; all have page 5, the first three also 6. */
function cached(): TranslationBench {
  const bench = new TranslationBench().nested();
  bench.pasid(0, { PGTT: 2, AW: 2, SSPTPTR: AT.SECOND >> 12 });
  bench.firstEntry(0, BigInt(AT.PAGES) | BigInt(FS.PAGE));
  bench.pasid(1, { PGTT: 1, FSPTPTR: AT.FIRST >> 12 });
  bench.pasid(2, { PGTT: 3, AW: 2, FSPTPTR: AT.FIRST >> 12, SSPTPTR: AT.SECOND >> 12 });
  bench.pasid(3, { PGTT: 4 });
  bench.pasid(4, { PGTT: 2, AW: 2, SSPTPTR: AT.SECOND >> 12, DID: 2 });
  for (const page of [6, PAGE, PAGE + 1]) bench.memory.writeU64(AT.SECOND + 0x3000 + (page % 512) * 8, BigInt(PAGE + 1) * 4096n | 3n);
  bench.secondEntry(1, bench.readSecond(1));
  // PAGE lies beyond the first 2 MiB: another table for it, one to one.
  bench.memory.writeU64(AT.SECOND + 0x2000 + (PAGE >> 9) * 8, 0x6_0003n);
  for (let i = 0; i < 512; i++) bench.memory.writeU64(0x6_0000 + i * 8, BigInt((PAGE & ~511) + i) * 4096n | 3n);
  bench.memory.writeU64(AT.FIRST + 0x3000 + 6 * 8, BigInt(PAGE + 1) * 4096n | BigInt(FS.PAGE));
  for (const pasid of [NO_PASID, 1, 2, 3, 4]) for (const page of [5, 6]) if (typeof bench.outcome(page, READ, pasid) !== "number") throw new Error(`PASID ${pasid} page ${page}`);
  return bench;
}

/** "pasid:page" of what the IOTLB holds. */
function held(bench: TranslationBench): string[] {
  return [...bench.unit.caches.iotlb.entries()].map(({ tagB, page }) => `${tagB}:${page}`).sort();
}

const tables = (bench: TranslationBench): [first: number, second: number] => [
  [...bench.unit.caches.firstStageTables.entries()].length,
  [...bench.unit.caches.secondStageTables.entries()].length,
];

const gone = (invalidate: (bench: TranslationBench) => void): string[] => {
  const bench = cached();
  const before = held(bench);
  invalidate(bench);
  const after = held(bench);
  return before.filter((entry) => !after.includes(entry));
};

describe("what invalidations of the IOTLB remove (VT-d 6.5.2.3, 6.5.2.4)", () => {
  it("type 2 by page: the range of second-stage and pass-through entries, everything with a first stage, of the domain", () => {
    expect(gone((bench) => bench.unit.caches.iotlbDomain(3, 1, 5, 0))).toEqual(["-1:5", "1:5", "1:6", "2:5", "2:6", "3:5"]);
    expect(gone((bench) => bench.unit.caches.iotlbDomain(3, 1, 7, 1))).toEqual(["-1:6", "1:5", "1:6", "2:5", "2:6", "3:6"]);
    expect(gone((bench) => bench.unit.caches.iotlbDomain(3, 2, 5, 0))).toEqual(["4:5"]);
  });

  it("type 2 by domain and for all", () => {
    expect(gone((bench) => bench.unit.caches.iotlbDomain(2, 2, 0, 0))).toEqual(["4:5", "4:6"]);
    expect(gone((bench) => bench.unit.caches.iotlbDomain(1, 0, 0, 0))).toHaveLength(10);
  });

  it("type 6 by PASID: of every kind; by page: those with a first stage alone; AM up to 63", () => {
    expect(gone((bench) => bench.unit.caches.iotlbPasid(2, 1, 3, 0, 0))).toEqual(["3:5", "3:6"]);
    expect(gone((bench) => bench.unit.caches.iotlbPasid(3, 1, 3, 5, 0))).toEqual([]);
    expect(gone((bench) => bench.unit.caches.iotlbPasid(3, 1, 2, 5, 0))).toEqual(["2:5"]);
    expect(gone((bench) => bench.unit.caches.iotlbPasid(3, 1, 1, 5, 63))).toEqual(["1:5", "1:6"]);
    expect(gone((bench) => bench.unit.caches.iotlbPasid(2, 2, 1, 0, 0))).toEqual([]);
  });

  it("paging-structure caches: IH keeps the second stage's in type 2, the first stage's in type 6; type 6 never reaches the second stage's", () => {
    const counts = (invalidate: (bench: TranslationBench) => void): [number, number] => {
      const bench = cached();
      const before = tables(bench);
      invalidate(bench);
      const after = tables(bench);
      return [before[0] - after[0], before[1] - after[1]];
    };
    const [first, second] = tables(cached());
    expect([first, second]).toEqual([6, 7]); // two PASIDs; three levels of domain 1 and one more table of it, three of domain 2
    expect(counts((bench) => bench.unit.caches.iotlbDomain(3, 1, 5, 0, false))).toEqual([6, 3]);
    expect(counts((bench) => bench.unit.caches.iotlbDomain(3, 1, 5, 0, true))).toEqual([6, 0]);
    expect(counts((bench) => bench.unit.caches.iotlbDomain(2, 1, 0, 0))).toEqual([6, 4]);
    expect(counts((bench) => bench.unit.caches.iotlbPasid(3, 1, 1, 5, 0, false))).toEqual([3, 0]);
    expect(counts((bench) => bench.unit.caches.iotlbPasid(3, 1, 1, 5, 0, true))).toEqual([0, 0]);
    expect(counts((bench) => bench.unit.caches.iotlbPasid(2, 1, 2, 0, 0))).toEqual([3, 0]);
  });

  it("IH=1 after a table was replaced leaves a walk through the old one, which is allowed; IH=0 does not", () => {
    const bench = new TranslationBench().first();
    expect(bench.outcome()).toBe(PAGE);
    bench.firstEntry(1, 0x5_0000n | BigInt(FS.TABLE));
    bench.memory.writeU64(0x5_0000 + 5 * 8, BigInt(PAGE + 9) * 4096n | BigInt(FS.PAGE));
    bench.unit.caches.iotlbPasid(3, 1, 0, 5, 0, true);
    expect(bench.outcome()).toBe(PAGE);
    bench.unit.caches.iotlbPasid(3, 1, 0, 5, 0, false);
    expect(bench.outcome()).toBe(PAGE + 9);
  });

  it("a range must cover a large page to be sure of it; any part removes it", () => {
    const bench = new TranslationBench().scalable();
    bench.secondEntry(1, (1n << 21n) | 0x83n);
    expect(bench.outcome(300)).toBe(512 + 300);
    expect(bench.unit.caches.iotlbDomain(3, 1, 511, 0)).toBeGreaterThan(0);
    expect(held(bench)).toEqual([]);
  });

  it("large pages may be cached in pieces, and pieces of two sizes side by side: policy largestCached (6.2.5.2)", () => {
    const bench = new TranslationBench({ policies: { largestCached: 12 } }).scalable();
    bench.secondEntry(1, (1n << 21n) | 0x83n);
    expect([bench.outcome(5), bench.outcome(6)]).toEqual([517, 518]);
    expect(held(bench)).toEqual(["-1:5", "-1:6"]);
    bench.unit.caches.iotlbDomain(3, 1, 5, 0);
    expect(held(bench)).toEqual(["-1:6"]);
    bench.unit.caches.iotlbDomain(3, 1, 0, 9);
    expect(held(bench)).toEqual([]);
  });
});

describe("the context cache and the PASID cache (VT-d 6.5.2.1, 6.5.2.2)", () => {
  it("scalable mode: by domain is global, by device ignores the domain, and FM ignores bits 2, 2:1, 2:0 of the source", () => {
    const kept = (granularity: number, source: number, mask: number): number[] => {
      const bench = new TranslationBench().scalable();
      const rids = [0x18, 0x19, 0x1a, 0x1c, 0x20];
      for (const rid of rids) {
        bench.put(SCALABLE_CONTEXT_ENTRY, AT.CONTEXT + rid * 32, { P: 1, PASIDDIRPTR: AT.DIRECTORY >> 12 });
        bench.outcome(5, READ, NO_PASID, rid);
      }
      bench.unit.caches.context(granularity, 77, source, mask);
      return rids.filter((rid) => bench.unit.caches.contexts.lookup(rid, NO_PASID) !== undefined);
    };
    expect(kept(2, 0, 0)).toEqual([]);
    expect(kept(3, 0x18, 0)).toEqual([0x19, 0x1a, 0x1c, 0x20]);
    expect(kept(3, 0x18, 1)).toEqual([0x19, 0x1a, 0x20]);
    expect(kept(3, 0x18, 2)).toEqual([0x19, 0x20]);
    expect(kept(3, 0x18, 3)).toEqual([0x20]);
  });

  it("legacy mode: by domain and by device within the domain that the entry had when it was read", () => {
    const bench = new TranslationBench().legacy();
    bench.outcome();
    expect(bench.unit.caches.context(2, 2, 0, 0)).toBe(0);
    expect(bench.unit.caches.context(3, 2, RID, 0)).toBe(0);
    expect(bench.unit.caches.context(3, 1, RID, 0)).toBe(1);
  });

  it("a changed domain-id leaves entries that only the old one reaches, until everything is done in order (6.5.3.3)", () => {
    const bench = new TranslationBench().scalable();
    expect(bench.outcome()).toBe(PAGE);
    bench.pasid(0, { PGTT: 2, AW: 2, SSPTPTR: AT.SECOND >> 12, DID: 2 });
    bench.second(5, PAGE + 1, 3);
    expect(bench.unit.caches.pasid(1, 2, 0)).toBe(0);
    expect(bench.unit.caches.iotlbDomain(2, 2, 0, 0)).toBe(0);
    expect(bench.outcome()).toBe(PAGE);
    bench.unit.caches.pasid(1, 1, 0);
    expect(bench.outcome()).toBe(PAGE);
    bench.unit.caches.iotlbDomain(2, 1, 0, 0);
    expect(bench.outcome()).toBe(PAGE + 1);
  });

  it("one domain-id for two second stages mixes them up in the paging-structure cache (6.2.3.1)", () => {
    const bench = new TranslationBench().scalable();
    bench.pasid(9, { PGTT: 2, AW: 2, SSPTPTR: 0x60 });
    expect(bench.outcome(5, READ, 9)).toBe("fault 79h");
    expect(bench.outcome()).toBe(PAGE);
    expect(bench.outcome(5, READ, 9)).toBe(PAGE);
    const apart = new TranslationBench({ caches: { secondStageTables: NONE } }).scalable();
    apart.pasid(9, { PGTT: 2, AW: 2, SSPTPTR: 0x60 });
    expect([apart.outcome(), apart.outcome(5, READ, 9)]).toEqual([PAGE, "fault 79h"]);
  });

  it("PC by PASID, by domain and for all (6.5.2.2)", () => {
    const counts = ([granularity, domain, pasid]: readonly [number, number, number]): number => cached().unit.caches.pasid(granularity, domain, pasid);
    expect(([[1, 1, 2], [1, 2, 2], [0, 1, 99], [3, 9, 9]] as const).map(counts)).toEqual([1, 0, 4, 5]);
  });

  it.each([{}, { iotlb: NONE, contexts: NONE, pasids: NONE, firstStageTables: NONE, secondStageTables: NONE }])("every geometry gives the same: %o", (caches) => {
    const bench = new TranslationBench({ caches }).nested();
    for (let i = 0; i < 3; i++) expect([bench.outcome(), bench.outcome(5, WRITE), bench.outcome(6)]).toEqual([PAGE, PAGE, "fault 71h"]);
    if ("iotlb" in caches) {
      bench.firstEntry(0, 0n);
      expect(bench.outcome()).toBe("fault 71h");
    }
  });
});

describe("caching mode (VT-d 6.1)", () => {
  const CM = { fields: { CM: 1 } };

  it("an absent PASID entry stays absent until an invalidation: by any domain, by DID 0 alone, or is not kept: policy", () => {
    for (const [absentPasids, afterNew, afterZero] of [["wildcard", PAGE, PAGE], ["did0", "fault 59h", PAGE], ["uncached", PAGE, PAGE]] as const) {
      const bench = new TranslationBench({ ...CM, policies: { absentPasids } }).scalable({ P: 0 });
      expect(bench.outcome()).toBe("fault 59h");
      bench.pasid(0, { PGTT: 2, AW: 2, SSPTPTR: AT.SECOND >> 12 });
      expect(bench.outcome()).toBe(absentPasids === "uncached" ? PAGE : "fault 59h");
      bench.unit.caches.pasid(1, 1, 0);
      expect(bench.outcome()).toBe(afterNew);
      bench.unit.caches.pasid(1, 0, 0);
      expect(bench.outcome()).toBe(afterZero);
    }
    const without = new TranslationBench().scalable({ P: 0 });
    expect(without.outcome()).toBe("fault 59h");
    without.pasid(0, { PGTT: 2, AW: 2, SSPTPTR: AT.SECOND >> 12 });
    expect(without.outcome()).toBe(PAGE);
  });

  it("an absent legacy context entry is cached under DID 0", () => {
    const bench = new TranslationBench(CM).legacy({ P: 0 });
    expect(bench.outcome()).toBe("fault 2h");
    bench.legacyTables();
    bench.unit.caches.context(3, 1, RID, 0);
    expect(bench.outcome()).toBe("fault 2h");
    bench.unit.caches.context(3, 0, RID, 0);
    expect(bench.outcome()).toBe(PAGE);
  });

  it("absent second-stage entries are cached under their domain, a denied write with them; first-stage faults never", () => {
    const bench = new TranslationBench(CM).scalable();
    expect(bench.outcome(6)).toBe("fault 79h");
    bench.second(6, PAGE + 1, 3);
    expect(bench.outcome(6)).toBe("fault 79h");
    bench.unit.caches.iotlbDomain(3, 1, 6, 0);
    expect(bench.outcome(6)).toBe(PAGE + 1);
    bench.second(5, PAGE, 1);
    expect(bench.outcome()).toBe(PAGE);
    bench.second(5, PAGE, 3);
    expect(bench.outcome(5, WRITE)).toBe("fault 85h");
    bench.unit.caches.iotlbDomain(3, 1, 5, 0);
    expect(bench.outcome(5, WRITE)).toBe(PAGE);
    const first = new TranslationBench(CM).first();
    first.firstEntry(0, 0n);
    expect(first.outcome()).toBe("fault 71h");
    first.firstEntry(0, BigInt(AT.PAGES) | BigInt(FS.PAGE));
    expect(first.outcome()).toBe(PAGE);
  });

  it("without CM a right that was added is seen at once: a denied request is judged by the tables", () => {
    const bench = new TranslationBench().scalable();
    bench.second(5, PAGE, 1);
    expect([bench.outcome(), bench.outcome(5, WRITE)]).toEqual([PAGE, "fault 85h"]);
    bench.second(5, PAGE, 3);
    expect(bench.outcome(5, WRITE)).toBe(PAGE);
  });
});
