/** Corner cases of root, context and PASID structures. */
import { Access, NO_PASID } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { PASID_DIRECTORY_ENTRY, SCALABLE_CONTEXT_ENTRY, SCALABLE_ROOT_ENTRY } from "../spec/entries.js";
import { AT, RID } from "./unit.test-support.js";
import { PAGE, READ, TranslationBench, WRITE } from "./translation.test-support.js";

describe("faults that FPD keeps from the record (VT-d 7.1.3)", () => {
  it("FPD of the PASID entry keeps faults of its walks from the record, though the context entry's is 0 (9.6)", () => {
    const bench = new TranslationBench().scalable({ FPD: 1 });
    expect(bench.outcome(6)).toBe("blocked");
    expect(bench.outcome(2 ** 37)).toBe("blocked");
    bench.first({ FPD: 1 }).fresh();
    expect(bench.outcome(6)).toBe("blocked");
    expect(new TranslationBench().scalable().outcome(6)).toBe("fault 79h");
  });

  it("FPD counts even in an entry that is not present, at every level", () => {
    for (const fields of [{ P: 0, FPD: 1 }, { P: 0, FPD: 0 }]) {
      const expected = (code: string): string => (fields.FPD === 1 ? "blocked" : `fault ${code}`);
      expect(new TranslationBench().scalable({}, fields).outcome()).toBe(expected("41h"));
      expect(new TranslationBench().scalable(fields).outcome()).toBe(expected("59h"));
      const bench = new TranslationBench().scalable();
      bench.put(PASID_DIRECTORY_ENTRY, AT.DIRECTORY, fields);
      expect(bench.outcome()).toBe(expected("51h"));
    }
  });

  it("unqualified faults behind FPD=1 are recorded: SPD.1, SPT.1", () => {
    const far = 2 ** 24 / 4096;
    expect(new TranslationBench().scalable({}, { FPD: 1, PASIDDIRPTR: far }).outcome()).toBe("fault 50h");
    const bench = new TranslationBench().scalable({}, { FPD: 1 });
    bench.put(PASID_DIRECTORY_ENTRY, AT.DIRECTORY, { P: 1, FPD: 1, SMPTBLPTR: far });
    expect(bench.outcome()).toBe("fault 58h");
  });
});

describe("where structures are found", () => {
  it("one half of a root entry works without the other, and junk in an absent half is ignored (9.2)", () => {
    const bench = new TranslationBench().scalable();
    bench.put(SCALABLE_ROOT_ENTRY, AT.ROOT, { UP: 1, UCTP: AT.CONTEXT >> 12, LCTP: 0x123 });
    bench.memory.writeU64(AT.ROOT, 0xf_fffe_0ff0n);
    expect(bench.outcome(5, READ, NO_PASID, 0x98)).toBe(PAGE);
    expect(bench.outcome(5, READ, NO_PASID, RID)).toBe("fault 39h");
  });

  it.each([["used", PAGE], ["both", "fault 3ah"]] as const)("a reserved bit in the other, present half: policy %s (9.2)", (rootHalves, expected) => {
    const bench = new TranslationBench({ policies: { rootHalves } }).scalable();
    bench.put(SCALABLE_ROOT_ENTRY, AT.ROOT, { LP: 1, LCTP: AT.CONTEXT >> 12, UP: 1 });
    bench.memory.writeU64(AT.ROOT + 8, 3n);
    expect(bench.outcome()).toBe(expected);
  });

  it("devfn 80h begins the upper context table, in steps of 32 bytes; a PASID splits 14 to 6 bits (9.4, 9.5, 9.6)", () => {
    const bench = new TranslationBench().scalable();
    const upper = 0x6_0000;
    bench.put(SCALABLE_ROOT_ENTRY, AT.ROOT, { LP: 1, LCTP: AT.CONTEXT >> 12, UP: 1, UCTP: upper >> 12 });
    bench.put(SCALABLE_CONTEXT_ENTRY, upper + 0x7f * 32, { P: 1, PASIDE: 1, PASIDDIRPTR: AT.DIRECTORY >> 12 });
    bench.put(PASID_DIRECTORY_ENTRY, AT.DIRECTORY + 127 * 8, { P: 1, SMPTBLPTR: AT.PASIDS >> 12 });
    bench.pasid(63, { PGTT: 2, AW: 2, SSPTPTR: AT.SECOND >> 12 });
    expect(bench.outcome(5, READ, 127 * 64 + 63, 0xff)).toBe(PAGE);
    expect(bench.outcome(5, READ, 126 * 64 + 63, 0xff)).toBe("fault 51h");
    expect(bench.outcome(5, READ, NO_PASID, 0x80)).toBe("fault 41h");
  });
});

describe("PASIDs", () => {
  it("requests without PASID use RID_PASID, and invalidations know them by it (9.4, 6.2.6)", () => {
    const bench = new TranslationBench().scalable({}, { RID_PASID: 7 });
    expect(bench.outcome()).toBe(PAGE);
    expect(bench.unit.caches.iotlb.find(RID, NO_PASID, 5, 12)).not.toBe(-1);
    expect(bench.unit.caches.iotlb.find(RID, 7, 5, 12)).toBe(-1);
    expect(bench.unit.caches.iotlbPasid(3, 1, 0, 5, 0)).toBe(0);
    expect(bench.unit.caches.iotlbPasid(3, 1, 7, 5, 0)).toBe(4); // the page, and three first-stage tables
    expect(bench.unit.caches.iotlb.find(RID, NO_PASID, 5, 12)).toBe(-1);
  });

  it("a PASID that equals RID_PASID is refused though its entry is good: 48h (SCT.9)", () => {
    const bench = new TranslationBench().scalable({}, { RID_PASID: 7 });
    expect(bench.outcome(5, READ, 7)).toBe("fault 48h");
    expect(bench.outcome(5, READ, 0)).toBe(PAGE);
  });

  it("a PASID has three limits, and RID_PASID one: PSS 89h, PDTS 46h, RID_PASID beyond PDTS 43h", () => {
    const bench = new TranslationBench({ fields: { PSS: 15 } }).scalable();
    expect(bench.outcome(5, READ, 0x1_0000)).toBe("fault 89h");
    expect(bench.outcome(5, READ, 0x2000)).toBe("fault 46h");
    expect(bench.outcome(5, READ, 0x1fff)).toBe("fault 51h");
    expect(new TranslationBench().scalable({}, { RID_PASID: 0x2000 }).outcome()).toBe("fault 43h");
    expect(new TranslationBench().scalable({}, { RID_PASID: 0x2000, PDTS: 1 }).outcome()).toBe("fault 51h");
  });

  it("a request with PASID needs PASIDE: 45h (SCT.6)", () => {
    expect(new TranslationBench().scalable({}, { PASIDE: 0 }).outcome(5, READ, 7)).toBe("fault 45h");
  });
});

describe("fields that are reserved on some units (9.4, 9.6)", () => {
  const cases: readonly [field: string, capability: string, where: "context" | "entry", code: string][] = [
    ["DTE", "DT", "context", "42h"], ["PRE", "PRS", "context", "42h"], ["HPTE", "HPTS", "context", "42h"], ["EPTR", "PTRS", "context", "42h"],
    ["RID_PASID", "RPS", "context", "42h"], ["RID_PRIV", "RPRIVS", "context", "42h"], ["PWSNP", "SMPWC", "entry", "5ah"], ["PGSNP", "SC", "entry", "5ah"],
    ["SRE", "SRS", "entry", "5ah"], ["EAFE", "EAFS", "entry", "5ah"], ["CD", "MTS", "entry", "5ah"], ["EMTE", "MTS", "entry", "5ah"], ["PAT", "MTS", "entry", "5ah"],
    ["HPTSZ", "HPTS", "entry", "5ah"], ["SSADE", "SSADS", "entry", "5ah"],
  ];
  it.each(cases)("%s without %s, in the %s: %s", (field, capability, where, code) => {
    const make = (value: number): TranslationBench => {
      const fields = { SC: 1, MTS: 1, HPTS: 1, PTRS: 1, [capability]: value };
      const context = { DTE: 0, PRE: 0, ...(where === "context" ? { [field]: 1 } : {}), ...(field === "PRE" ? { DTE: 1 } : {}) };
      return new TranslationBench({ fields }).scalable({ PWSNP: 0, ...(where === "entry" ? { [field]: 1 } : {}) }, context);
    };
    expect(make(0).outcome()).toBe(`fault ${code}`);
    expect(make(1).outcome()).not.toBe(`fault ${code}`);
  });

  it("bits 5 and 129 of a PASID entry are reserved always, bits 134:133 never (9.6)", () => {
    const bit = (n: number): number | string => {
      const bench = new TranslationBench().scalable();
      const at = AT.PASIDS + (n >> 6) * 8;
      bench.memory.writeU64(at, (bench.memory.readU64(at) ?? 0n) | (1n << BigInt(n & 63)));
      return bench.outcome();
    };
    expect([5, 129, 133, 134].map(bit)).toEqual(["fault 5ah", "fault 5ah", PAGE, PAGE]);
  });

  it("AW of a first-stage entry is ignored, but reserved without a second stage, where Linux sets it (9.6)", () => {
    expect(new TranslationBench().first({ AW: 7 }).outcome()).toBe(PAGE);
    const without = { SSTS: 0, SSADS: 0, NEST: 0 };
    expect(new TranslationBench({ fields: without }).first({ AW: 2, SSPTPTR: 0 }).outcome()).toBe("fault 5ah");
    expect(new TranslationBench({ fields: without, policies: { firstStageWidth: "ignored" } }).first({ AW: 2, SSPTPTR: 0 }).outcome()).toBe(PAGE);
  });

  it("domain-id bits beyond CAP.ND are reserved in entries, and ignored in descriptors (9.6, 6.5.2)", () => {
    expect(new TranslationBench({ fields: { ND: 2 } }).scalable({ DID: 0x101 }).outcome()).toBe("fault 5ah");
    expect(new TranslationBench({ fields: { ND: 2 } }).scalable({ DID: 0xff }).outcome()).toBe(PAGE);
    expect(new TranslationBench({ preset: "legacy", fields: { ND: 2 } }).legacy({ DID: 0x101 }).outcome()).toBe("fault bh");
  });

  it("address bits from the host address width up are reserved (9)", () => {
    expect(new TranslationBench({ haw: 40 }).scalable({ SSPTPTR: 2 ** 28 }).outcome()).toBe("fault 5ah");
    expect(new TranslationBench({ haw: 40 }).scalable({}, { PASIDDIRPTR: 2 ** 28 }).outcome()).toBe("fault 42h");
    const bench = new TranslationBench({ haw: 40 }).scalable();
    bench.second(5, 2 ** 28, 3);
    expect(bench.outcome()).toBe("fault 7ah");
    expect(new TranslationBench({ haw: 40 }).legacy({ SSPTPTR: 2 ** 28 }).outcome()).toBe("fault bh");
    // With TT=2 the pointer is ignored.
    expect(new TranslationBench({ haw: 40 }).legacy({ SSPTPTR: 2 ** 28, TT: 2, AW: 3 }).outcome()).toBe(5);
  });
});

it("privileged requests need SRE, whatever the tables, RID_PRIV's too: 5Dh (SPT.6)", () => {
  const PRIVILEGED = READ | Access.PRIVILEGED;
  for (const PGTT of [1, 2, 3, 4]) {
    const make = (entry: Record<string, number>, context = {}): TranslationBench => new TranslationBench().nested({ PGTT, FSPTPTR: AT.FIRST >> 12, ...entry }, context);
    const bench = make({ SRE: 0 });
    bench.pasid(9, { PGTT, AW: 2, SSPTPTR: AT.SECOND >> 12, FSPTPTR: AT.FIRST >> 12 });
    expect(bench.outcome(5, PRIVILEGED, 9)).toBe("fault 5dh");
    expect(make({ SRE: 0 }, { RID_PRIV: 1 }).outcome()).toBe("fault 5dh");
    expect(make({ SRE: 1 }, { RID_PRIV: 1 }).outcome()).not.toBe("fault 5dh");
    // Without PASID the request's own flag counts for nothing.
    expect(make({ SRE: 0 }).outcome(5, PRIVILEGED)).not.toBe("fault 5dh");
  }
});

it("execute requests are refused with PASID: 5Ch up to major version 7, 34h from 8 on (SPT.5, RTA.5)", () => {
  const execute = READ | Access.EXECUTE;
  expect(new TranslationBench({ version: 0x70 }).scalable().outcome(5, execute, 7)).toBe("fault 5ch");
  expect(new TranslationBench({ version: 0x80 }).scalable().outcome(5, execute, 7)).toBe("fault 34h");
  expect(new TranslationBench({ version: 0x80 }).scalable().outcome(5, execute)).toBe(PAGE);
  // Data accesses of the same PASID, cached, do not let it through.
  const bench = new TranslationBench({ version: 0x70 }).scalable();
  expect(bench.outcome(5, READ, 7)).toBe(PAGE);
  expect(bench.outcome(5, execute, 7)).toBe("fault 5ch");
});

it("SSIRWE makes bits 62:61 the permissions of the second stage, and is refused in legacy mode: 30h (RTA.1.4, 9.8)", () => {
  const bench = new TranslationBench({ fields: { SSIRWS: 1 } }).scalable();
  const io = (rights: bigint): void => {
    for (let level = 0; level < 4; level++) bench.secondEntry(level, (bench.readSecond(level) & ~(3n << 61n) & ~3n) | (rights << 61n));
    bench.fresh();
  };
  io(3n);
  expect(bench.outcome()).toBe("fault 79h");
  bench.write(0x20, BigInt(AT.ROOT) | 0x480n);
  bench.command(0x4000_0000n);
  expect(bench.outcome(5, WRITE)).toBe(PAGE);
  io(1n);
  expect([bench.outcome(), bench.outcome(5, WRITE)]).toEqual([PAGE, "fault 85h"]);
  const legacy = new TranslationBench({ fields: { SSIRWS: 1 } }).legacy();
  legacy.write(0x20, BigInt(AT.ROOT) | 0x80n);
  legacy.command(0x4000_0000n);
  expect(legacy.outcome()).toBe("fault 30h");
  expect(legacy.outcome(5, READ, 7)).toBe("fault 31h");
});

it("without SSIRWE bit 62 of a second-stage entry is reserved, bit 61 ignored (9.8)", () => {
  const bench = new TranslationBench().scalable();
  bench.second(5, PAGE, 3n | (1n << 61n));
  expect(bench.outcome()).toBe(PAGE);
  bench.fresh().second(5, PAGE, 3n | (1n << 62n));
  expect(bench.outcome()).toBe("fault 7ah");
});
