/** Corner cases of the first stage, the second stage, and one through the other. */
import { Access, NO_PASID } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { AT, RID } from "./unit.test-support.js";
import { ATOMIC, FS, PAGE, READ, TranslationBench, WRITE } from "./translation.test-support.js";

const EA = 0x400n;
const A = 0x20n;
const D = 0x40n;
const SECOND_A = 0x100n;
const SECOND_D = 0x200n;

describe("entries of the first stage (VT-d 9.7)", () => {
  it("PS is reserved in a PML4E, and in a PDPE without FS1GP", () => {
    const bench = new TranslationBench().first();
    bench.firstEntry(3, BigInt(AT.FIRST + 0x1000) | BigInt(FS.TABLE) | 0x80n);
    expect(bench.outcome()).toBe("fault 72h");
    for (const FS1GP of [0, 1]) {
      const large = new TranslationBench({ fields: { FS1GP } }).first();
      large.firstEntry(2, (1n << 30n) | BigInt(FS.PAGE) | 0x80n);
      expect(large.outcome()).toBe(FS1GP === 1 ? 2 ** 18 + 5 : "fault 72h");
    }
  });

  it("bit 12 of a large leaf is PAT, bits 20:13 are reserved; in the second stage bit 12 is reserved too (9.7, 9.8)", () => {
    const large = (stage: "first" | "second", low: bigint): number | string => {
      const bench = stage === "first" ? new TranslationBench().first() : new TranslationBench().scalable();
      if (stage === "first") bench.firstEntry(1, (1n << 21n) | low | BigInt(FS.PAGE) | 0x80n);
      else bench.secondEntry(1, (1n << 21n) | low | 0x83n);
      return bench.outcome();
    };
    expect([large("first", 1n << 12n), large("first", 1n << 13n)]).toEqual([512 + 5, "fault 72h"]);
    expect([large("second", 0n), large("second", 1n << 12n)]).toEqual([512 + 5, "fault 7ah"]);
  });

  it("bits 63:52 and 11:9 are ignored, XD with them", () => {
    const bench = new TranslationBench().first();
    bench.firstEntry(0, BigInt(AT.PAGES) | BigInt(FS.PAGE) | (0xfffn << 52n) | 0xa00n);
    expect(bench.outcome(5, WRITE)).toBe(PAGE);
  });

  it("a user request that meets U/S=0 is refused with 81h, before what faults below it or after: policy", () => {
    for (const [userDenial, code] of [["first", "81h"], ["last", "71h"]] as const) {
      const bench = new TranslationBench({ policies: { userDenial } }).first();
      bench.firstEntry(2, bench.readFirst(2) & ~4n);
      bench.firstEntry(0, 0n);
      expect(bench.outcome()).toBe(`fault ${code}`);
      bench.firstEntry(0, BigInt(AT.PAGES) | BigInt(FS.PAGE));
      expect(bench.outcome()).toBe("fault 81h");
    }
  });

  it("addresses are canonical in 48 or 57 bits (FSPM), whatever MGAW is; both ends are (3.6, SGN.1)", () => {
    const bench = new TranslationBench({ fields: { MGAW: 38 } }).first();
    expect(bench.outcome(2 ** 35 - 1)).toBe("fault 71h");
    expect(bench.outcome(2 ** 35)).toBe("fault 80h");
    expect(bench.outcome(2 ** 52 - 2 ** 35 - 1)).toBe("fault 80h");
    expect(bench.outcome(2 ** 52 - 2 ** 35)).toBe("fault 71h");
    const five = new TranslationBench().first({ FSPM: 1, FSPTPTR: 0x40 });
    five.memory.writeU64(0x4_0000, BigInt(AT.FIRST) | BigInt(FS.TABLE));
    expect(five.outcome()).toBe(PAGE);
    expect([five.outcome(2 ** 44 - 1), five.outcome(2 ** 44)]).toEqual(["fault 71h", "fault 80h"]);
    expect(new TranslationBench({ fields: { FS5LP: 0 } }).first({ FSPM: 1 }).outcome()).toBe("fault 5bh");
  });
});

describe("privileged requests (VT-d 3.6.1)", () => {
  const PRIVILEGED = Access.PRIVILEGED;

  it("write to read-only pages unless WPE, and set D there", () => {
    for (const WPE of [0, 1]) {
      const bench = new TranslationBench().first();
      bench.pasid(9, { PGTT: 1, FSPTPTR: AT.FIRST >> 12, SRE: 1, WPE });
      bench.firstEntry(0, BigInt(AT.PAGES) | 0x25n);
      expect(bench.outcome(5, WRITE, 9)).toBe("fault 85h");
      expect(bench.outcome(5, WRITE | PRIVILEGED, 9)).toBe(WPE === 0 ? PAGE : "fault 85h");
      expect(bench.readFirst(0) & D).toBe(WPE === 0 ? D : 0n);
    }
  });

  it("reach supervisor pages, and a cached one stays closed to users", () => {
    const bench = new TranslationBench().first();
    bench.pasid(9, { PGTT: 1, FSPTPTR: AT.FIRST >> 12, SRE: 1 });
    bench.firstEntry(0, BigInt(AT.PAGES) | 0x63n);
    expect(bench.outcome(5, READ | PRIVILEGED, 9)).toBe(PAGE);
    expect(bench.outcome(5, READ, 9)).toBe("fault 81h");
    expect(bench.outcome(5, READ | PRIVILEGED, 9)).toBe(PAGE);
  });
});

describe("entries of the second stage (VT-d 9.8)", () => {
  it("SNP is reserved in table entries, and everywhere without SC", () => {
    for (const SC of [0, 1]) {
      const bench = new TranslationBench({ fields: { SC } }).scalable();
      bench.second(5, PAGE, 0x803);
      expect(bench.outcome()).toBe(SC === 1 ? PAGE : "fault 7ah");
      bench.fresh().secondEntry(1, bench.readSecond(1) | 0x800n);
      expect(bench.outcome()).toBe("fault 7ah");
    }
  });

  it("PS is reserved for a size that SSLPS lacks, and ignored in an SS-PTE", () => {
    for (const [SSLPS, two, one] of [[0, "fault 7ah", "fault 7ah"], [1, 512 + 5, "fault 7ah"], [3, 512 + 5, 2 ** 18 + 5]] as const) {
      const bench = new TranslationBench({ fields: { SSLPS } }).scalable();
      bench.secondEntry(1, (1n << 21n) | 0x83n);
      expect(bench.outcome()).toBe(two);
      bench.fresh().secondEntry(2, (1n << 30n) | 0x83n);
      expect(bench.outcome()).toBe(one);
    }
    const bench = new TranslationBench().scalable();
    bench.second(5, PAGE, 0x83);
    expect(bench.outcome()).toBe(PAGE);
  });

  it("reserved bits do not count where neither read nor write is allowed: 79h, not 7Ah", () => {
    const bench = new TranslationBench().scalable();
    bench.second(5, PAGE, 1n << 62n);
    expect(bench.outcome()).toBe("fault 79h");
    const legacy = new TranslationBench().legacy();
    legacy.second(5, PAGE, 1n << 62n);
    expect([legacy.outcome(), legacy.outcome(5, WRITE)]).toEqual(["fault 6h", "fault 5h"]);
  });

  it("levels that allow nothing together: 79h in scalable mode, 5h or 6h in legacy mode", () => {
    const split = (bench: TranslationBench): TranslationBench => {
      bench.secondEntry(1, bench.readSecond(1) & ~2n);
      bench.second(5, PAGE, 2);
      return bench;
    };
    expect(split(new TranslationBench().scalable()).outcome()).toBe("fault 79h");
    const legacy = split(new TranslationBench().legacy());
    expect([legacy.outcome(), legacy.outcome(5, WRITE)]).toEqual(["fault 6h", "fault 5h"]);
  });

  it("input addresses end at min(MGAW, AW), below the table's own width too (3.7, SGN.5, LGN.1.1)", () => {
    const bench = new TranslationBench({ fields: { MGAW: 39 } }).scalable();
    expect([bench.outcome(2 ** 28 - 1), bench.outcome(2 ** 28)]).toEqual(["fault 79h", "fault 84h"]);
    const narrow = new TranslationBench().scalable({ AW: 1, SSPTPTR: (AT.SECOND >> 12) + 1 });
    expect(narrow.outcome()).toBe(PAGE);
    expect(narrow.outcome(2 ** 27)).toBe("fault 84h");
    expect(new TranslationBench().legacy().outcome(2 ** 36)).toBe("fault 4h");
  });

  it("five levels: AW=3", () => {
    const bench = new TranslationBench().scalable({ AW: 3, SSPTPTR: 0x40 });
    bench.memory.writeU64(0x4_0000, BigInt(AT.SECOND) | 3n);
    expect([bench.outcome(), bench.outcome(2 ** 44), bench.outcome(2 ** 45)]).toEqual([PAGE, "fault 79h", "fault 84h"]);
    expect(new TranslationBench({ fields: { SAGAW: 4 } }).scalable({ AW: 3 }).outcome()).toBe("fault 5bh");
  });

  it("zero-length reads pass on pages that can only be written, with ZLR, and into the interrupt range (3.7.2)", () => {
    const zero = READ | Access.ZERO_LENGTH;
    for (const ZLR of [0, 1]) {
      for (const bench of [new TranslationBench({ fields: { ZLR } }).scalable(), new TranslationBench({ fields: { ZLR } }).legacy()]) {
        bench.second(5, PAGE, 2);
        expect(bench.outcome()).toMatch(/fault (86|6)h/);
        if (ZLR === 1) expect(bench.outcome(5, zero)).toBe(PAGE);
        else expect(bench.outcome(5, zero)).toMatch(/fault (86|6)h/);
        expect(bench.outcome(6, zero)).toMatch(/fault (79|6)h/);
      }
    }
    expect(new TranslationBench().scalable().outcome(0xfee00, zero)).toBe(0xfee00);
    expect(new TranslationBench().scalable().outcome(0xfee00, READ)).toBe("fault 29h");
    const nested = new TranslationBench().nested();
    nested.second(5, PAGE, 2);
    expect([nested.outcome(5, READ), nested.outcome(5, zero)]).toEqual(["fault 86h", PAGE]);
  });

  it("an atomic needs both rights, and names the one that lacks", () => {
    const legacy = new TranslationBench().legacy();
    const scalable = new TranslationBench().scalable();
    for (const [bench, write, read] of [[legacy, "fault 5h", "fault 6h"], [scalable, "fault 85h", "fault 86h"]] as const) {
      bench.second(5, PAGE, 1);
      expect(bench.outcome(5, ATOMIC)).toBe(write);
      bench.fresh().second(5, PAGE, 2);
      expect(bench.outcome(5, ATOMIC)).toBe(read);
    }
  });
});

describe("accessed and dirty flags (VT-d 3.6.2, 3.7.3)", () => {
  it("need a snooped walk when one is missing, and not otherwise: 90h, 7Ch", () => {
    const first = new TranslationBench().first({ PWSNP: 0 });
    expect(first.outcome()).toBe(PAGE);
    first.firstEntry(0, BigInt(AT.PAGES) | 7n);
    expect(first.fresh().outcome()).toBe("fault 90h");
    const second = new TranslationBench().scalable({ PWSNP: 0, SSADE: 1 });
    expect(second.outcome()).toBe("fault 7ch");
    for (let level = 0; level < 4; level++) second.secondEntry(level, second.readSecond(level) | SECOND_A);
    expect([second.outcome(), second.outcome(5, WRITE)]).toEqual([PAGE, "fault 7ch"]);
  });

  it("EAFE sets EA together with A, though A is set; without it bit 10 is software's", () => {
    for (const EAFE of [0, 1]) {
      const bench = new TranslationBench().first({ EAFE });
      expect(bench.outcome()).toBe(PAGE);
      for (let level = 0; level < 4; level++) expect(bench.readFirst(level) & EA).toBe(EAFE === 1 ? EA : 0n);
    }
    const bench = new TranslationBench().first({ EAFE: 1 });
    bench.firstEntry(0, BigInt(AT.PAGES) | 7n | EA);
    bench.outcome();
    expect(bench.readFirst(0) & (A | EA)).toBe(A | EA);
  });

  it("a write that hits a clean entry sets D; one that software cleared without invalidation stays clear", () => {
    for (const bench of [new TranslationBench().first(), new TranslationBench().scalable({ SSADE: 1 })]) {
      const first = bench.readFirst(0) !== 0n && bench.unit.capabilities.firstStage;
      bench.firstEntry(0, BigInt(AT.PAGES) | 0x27n);
      const dirty = (): boolean => (bench.readFirst(0) & D) !== 0n || (bench.readSecond(0) & SECOND_D) !== 0n;
      expect(first).toBe(true);
      expect(bench.outcome()).toBe(PAGE);
      expect(dirty()).toBe(false);
      expect(bench.outcome(5, WRITE)).toBe(PAGE);
      expect(dirty()).toBe(true);
      bench.firstEntry(0, BigInt(AT.PAGES) | 0x27n);
      bench.secondEntry(0, bench.readSecond(0) & ~SECOND_D);
      expect(bench.outcome(5, WRITE)).toBe(PAGE);
      expect(dirty()).toBe(false);
    }
  });

  it("A of a walk that faults: left alone, or set in what the walk passed; D never", () => {
    for (const accessed of ["success", "walked"] as const) {
      const bench = new TranslationBench({ policies: { accessed } }).first();
      for (let level = 1; level < 4; level++) bench.firstEntry(level, bench.readFirst(level) & ~A);
      bench.firstEntry(0, BigInt(AT.PAGES) | 5n);
      expect(bench.outcome(5, WRITE)).toBe("fault 85h");
      const flags = [3, 2, 1, 0].map((level) => Number(bench.readFirst(level) & (A | D)));
      expect(flags).toEqual(accessed === "walked" ? [32, 32, 32, 32] : [0, 0, 0, 0]);
      bench.firstEntry(0, 0n);
      for (let level = 1; level < 4; level++) bench.firstEntry(level, bench.readFirst(level) & ~A);
      expect(bench.outcome()).toBe("fault 71h");
      expect([3, 2, 1].map((level) => Number(bench.readFirst(level) & A))).toEqual(accessed === "walked" ? [32, 32, 32] : [0, 0, 0]);
    }
  });
});

describe("one stage through the other (VT-d 3.8)", () => {
  const LOW = AT.FIRST >> 12;

  it("translates, and the page is the smaller, the rights those of both", () => {
    const bench = new TranslationBench().nested();
    expect([bench.outcome(), bench.outcome(5, WRITE)]).toEqual([PAGE, PAGE]);
    bench.fresh().second(5, PAGE, 1);
    expect([bench.outcome(), bench.outcome(5, WRITE)]).toEqual([PAGE, "fault 85h"]);
    bench.fresh().second(5, PAGE, 2);
    expect(bench.outcome()).toBe("fault 86h");
    bench.second(5, PAGE, 3);
    bench.firstEntry(0, BigInt(5 << 12) | 0x65n);
    expect([bench.fresh().outcome(), bench.outcome(5, WRITE)]).toEqual([PAGE, "fault 85h"]);
  });

  it("addresses of the first stage beyond min(MGAW, AW): 5Bh for FSPTPTR, 74h for an entry, table or leaf", () => {
    const far = 2 ** 36;
    expect(new TranslationBench({ haw: 52 }).nested({ FSPTPTR: far }).outcome()).toBe("fault 5bh");
    for (const level of [0, 2]) {
      const bench = new TranslationBench({ haw: 52 }).nested();
      bench.firstEntry(level, (BigInt(far) << 12n) | BigInt(FS.PAGE & ~0x40));
      expect(bench.outcome()).toBe("fault 74h");
    }
  });

  it("a first-stage table that the second stage does not let be read: 75h for the top one, 76h for others; 79h when it allows nothing", () => {
    for (const [table, code] of [[0, "75h"], [1, "76h"], [3, "76h"]] as const) {
      const bench = new TranslationBench().nested();
      bench.second(LOW + table, LOW + table, 2);
      expect(bench.outcome()).toBe(`fault ${code}`);
      bench.second(LOW + table, LOW + table, 0);
      expect(bench.fresh().outcome()).toBe("fault 79h");
    }
  });

  it("a second-stage walk to a first-stage table that fails: 78h, 7Ah, 7Bh; the table itself missing: 73h, 70h", () => {
    const missing = 2 ** 24 / 4096;
    const bench = new TranslationBench().nested();
    bench.secondEntry(1, (BigInt(missing) << 12n) | 3n);
    expect(bench.outcome()).toBe("fault 78h");
    bench.secondEntry(1, bench.readSecond(2) | 0x800n);
    expect(bench.fresh().outcome()).toBe("fault 7ah");
    bench.pasid(0, { PGTT: 3, AW: 2, SSPTPTR: missing, FSPTPTR: LOW });
    expect(bench.fresh().outcome()).toBe("fault 7bh");
    for (const [table, code] of [[0, "73h"], [2, "70h"]] as const) {
      const other = new TranslationBench().nested();
      other.second(LOW + table, missing, 3);
      expect(other.outcome()).toBe(`fault ${code}`);
    }
  });

  it("reading a first-stage table needs the right to write it with SSADE: 75h or 76h, or 77h: policy (3.8.1)", () => {
    for (const [policies, codes] of [[{}, ["75h", "76h"]], [{ unwritableTable: "SFS.8" }, ["77h", "77h"]]] as const) {
      for (const [i, table] of [0, 1].entries()) {
        const bench = new TranslationBench({ policies }).nested({ SSADE: 1 });
        bench.second(LOW + table, LOW + table, 1);
        expect(bench.outcome()).toBe(`fault ${codes[i]}`);
      }
    }
  });

  it("a first read sets A through the second stage: 77h where that may not write, though the request only reads", () => {
    const bench = new TranslationBench().nested();
    bench.firstEntry(1, bench.readFirst(1) & ~A);
    bench.second(LOW + 2, LOW + 2, 1);
    expect(bench.outcome()).toBe("fault 77h");
    bench.firstEntry(1, bench.readFirst(1) | A);
    expect(bench.outcome()).toBe(PAGE);
  });

  it("sets second-stage A on the way to every table, and D where a first-stage flag was set; or at any read: policy", () => {
    for (const dirtyTables of ["updates", "reads"] as const) {
      const bench = new TranslationBench({ policies: { dirtyTables } }).nested({ SSADE: 1 });
      bench.firstEntry(2, bench.readFirst(2) & ~A);
      expect(bench.outcome()).toBe(PAGE);
      const flags = [0, 1, 2, 3].map((table) => Number(bench.readSecond(0, LOW + table) & (SECOND_A | SECOND_D)));
      expect(flags).toEqual(dirtyTables === "reads" ? [0x300, 0x300, 0x300, 0x300] : [0x100, 0x300, 0x100, 0x100]);
      expect(bench.readFirst(2) & A).toBe(A);
      expect(bench.readSecond(0) & (SECOND_A | SECOND_D)).toBe(SECOND_A);
      expect([1, 2, 3].map((level) => bench.readSecond(level) & SECOND_A)).toEqual([SECOND_A, SECOND_A, SECOND_A]);
    }
  });

  it("flags on unsnooped walks: 7Ch on the way to a table, 90h in a first-stage entry", () => {
    expect(new TranslationBench().nested({ SSADE: 1, PWSNP: 0 }).outcome()).toBe("fault 7ch");
    const bench = new TranslationBench().nested({ PWSNP: 0 });
    expect(bench.outcome()).toBe(PAGE);
    bench.firstEntry(0, BigInt(5 << 12) | 7n);
    expect(bench.fresh().outcome()).toBe("fault 90h");
  });

  it("five levels through four, four through three, and large pages of either stage", () => {
    const mixed = new TranslationBench().nested({ FSPM: 1, FSPTPTR: 0x40 });
    mixed.memory.writeU64(0x4_0000, BigInt(AT.FIRST) | BigInt(FS.TABLE));
    mixed.second(0x40, 0x40, 3);
    expect(mixed.outcome()).toBe(PAGE);
    const three = new TranslationBench().nested({ AW: 1, SSPTPTR: (AT.SECOND >> 12) + 1 });
    expect(three.outcome()).toBe(PAGE);
    const firstLarge = new TranslationBench().nested();
    firstLarge.firstEntry(1, BigInt(FS.PAGE) | 0x80n);
    expect(firstLarge.outcome()).toBe(PAGE);
    expect(firstLarge.unit.caches.iotlb.find(RID, NO_PASID, 5, 12)).not.toBe(-1);
    const both = new TranslationBench().nested();
    both.secondEntry(1, 0x83n);
    both.firstEntry(1, BigInt(FS.PAGE) | 0x80n);
    expect(both.outcome()).toBe(5);
    expect(both.unit.caches.iotlb.find(RID, NO_PASID, 5, 21)).not.toBe(-1);
  });

  it("gives the same with paging-structure caches and without, and quickly or by all rules", () => {
    const none = { sets: 0, ways: 1 };
    const plain = { firstStageTables: none, secondStageTables: none };
    for (const caches of [{}, plain, { ...plain, iotlb: none }]) {
      const bench = new TranslationBench({ caches }).nested({ SSADE: 1 });
      for (const access of [READ, READ, WRITE, READ]) expect(bench.outcome(5, access)).toBe(PAGE);
      for (let i = 0; i < 3; i++) expect(bench.fresh().outcome()).toBe(PAGE);
      bench.firstEntry(0, 0n);
      expect(bench.fresh().outcome()).toBe("fault 71h");
    }
  });
});

describe("nesting and widths", () => {
  it("PGTT 3 needs NEST: 5Bh", () => {
    expect(new TranslationBench({ fields: { NEST: 0 } }).nested().outcome()).toBe("fault 5bh");
  });

  it("an output in the interrupt range is refused: 87h, or Eh in legacy mode; an input there with PASID is an address like others (3.14)", () => {
    const bench = new TranslationBench().scalable();
    bench.second(5, 0xfee01, 3);
    expect(bench.outcome()).toBe("fault 87h");
    const legacy = new TranslationBench().legacy();
    legacy.second(5, 0xfee01, 3);
    expect(legacy.outcome()).toBe("fault eh");
    const through = new TranslationBench().scalable();
    through.pasid(9, { PGTT: 4 });
    expect(through.outcome(0xfee01, READ, 9)).toBe("fault 87h");
    expect(through.outcome(0xfee01, READ, 7)).toBe("fault 71h");
  });
});
