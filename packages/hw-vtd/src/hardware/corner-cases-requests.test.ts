/** Corner cases of translation requests, translated requests, host permissions, and requests of every kind. */
import { Access, Bus, NO_PASID } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { PASID_DIRECTORY_ENTRY, SCALABLE_CONTEXT_ENTRY } from "../spec/entries.js";
import { AT, RID } from "./unit.test-support.js";
import { ATOMIC, CA, PAGE, READ, SUCCESS, TranslationBench, UR, WRITE } from "./translation.test-support.js";

/** Status, R, W. */
function answer(bench: TranslationBench, page = 5, access: number = ATOMIC, pasid: number = NO_PASID): string {
  const { status, read, write } = bench.ask(page, access, pasid);
  const reason = bench.reason();
  const name = status === SUCCESS ? `success ${read ? "r" : "-"}${write ? "w" : "-"}` : status === UR ? "UR" : "CA";
  return reason === 0 ? name : `${name}, ${reason.toString(16)}h recorded`;
}

describe("how a translation request ends (VT-d 4.2.3, 7.1)", () => {
  it("by condition: without rights, with those that there are, UR, CA; and only UR and CA are recorded", () => {
    expect(answer(new TranslationBench().scalable())).toBe("success rw");
    expect(answer(new TranslationBench().scalable(), 6)).toBe("success --"); // SSS.2
    expect(answer(new TranslationBench().first(), 6)).toBe("success --"); // SFS.2
    expect(answer(new TranslationBench().scalable(), 2 ** 37)).toBe("success --"); // SGN.5
    expect(answer(new TranslationBench().scalable({}, { DTE: 0, PRE: 0 }))).toBe("UR, 44h recorded");
    expect(answer(new TranslationBench().scalable({}, { P: 0 }))).toBe("UR, 41h recorded");
    expect(answer(new TranslationBench().scalable({ SSPTPTR: 2 ** 24 / 4096 }))).toBe("CA, 7bh recorded");
    const reserved = new TranslationBench().scalable();
    reserved.second(5, PAGE, 3n | (1n << 62n));
    expect(answer(reserved)).toBe("CA, 7ah recorded");
    const readable = new TranslationBench().scalable();
    readable.second(5, PAGE, 1);
    expect(answer(readable)).toBe("success r-");
    readable.fresh().second(5, PAGE, 2);
    expect(answer(readable)).toBe("success -w");
  });

  it("absent PASID structures are no fault of a translation request, but of an untranslated one: SPD.2, SPT.2", () => {
    const entry = new TranslationBench().scalable({ P: 0 });
    expect([answer(entry), entry.outcome()]).toEqual(["success --", "fault 59h"]);
    const directory = new TranslationBench().scalable();
    directory.put(PASID_DIRECTORY_ENTRY, AT.DIRECTORY, { P: 0 });
    expect([answer(directory), directory.outcome()]).toEqual(["success --", "fault 51h"]);
  });

  it("in legacy mode: TT=1 alone allows it (LCT.5); too wide is without rights, pass-through is UR", () => {
    expect(answer(new TranslationBench().legacy({ TT: 1 }))).toBe("success rw");
    expect(answer(new TranslationBench().legacy({ TT: 0 }))).toBe("UR, dh recorded");
    expect(answer(new TranslationBench().legacy({ TT: 2, AW: 3 }))).toBe("UR, dh recorded");
    expect(answer(new TranslationBench().legacy({ TT: 1 }), 2 ** 37)).toBe("success --");
    expect(answer(new TranslationBench().legacy({ TT: 1 }), 6)).toBe("success --");
    expect(answer(new TranslationBench({ fields: { DT: 0, PRS: 0 } }).legacy({ TT: 1 }))).toBe("success --"); // no unit answers
    expect(new TranslationBench({ fields: { DT: 0, PRS: 0 } }).legacy({ TT: 1 }).outcome()).toBe("fault 3h");
  });

  it("a failed flag update gives no rights and is recorded all the same (SFS.10)", () => {
    const bench = new TranslationBench().first();
    bench.firstEntry(0, BigInt(AT.PAGES) | 7n);
    const or = bench.memory.or64.bind(bench.memory);
    bench.memory.or64 = (pa, lo, hi) => pa !== AT.FIRST + 0x3000 + 5 * 8 && or(pa, lo, hi);
    expect(answer(bench)).toBe("success --, 91h recorded");
  });

  it("with translation off it is Unsupported Request, and translated requests too (4.2.1)", () => {
    const bench = new TranslationBench().scalable();
    bench.write(0x18, 0n, 4);
    expect([answer(bench), bench.translated(PAGE), bench.outcome()]).toEqual(["UR", "blocked", 5]);
  });

  it("abort-DMA mode refuses every kind: 33h (RTA.4)", () => {
    const bench = new TranslationBench().scalable();
    bench.start(3);
    expect([answer(bench), bench.translated(PAGE), bench.outcome(), bench.outcome(5, READ, 7)]).toEqual(["UR, 33h recorded", "fault 33h", "fault 33h", "fault 33h"]);
  });
});

describe("the No Write flag", () => {
  const isDirty = (bench: TranslationBench): boolean => (bench.readFirst(0) & 0x40n) !== 0n;
  const clean = (fields = {}): TranslationBench => {
    const bench = new TranslationBench({ fields }).first();
    bench.firstEntry(0, BigInt(AT.PAGES) | 0x27n);
    return bench;
  };

  it("without it, D is set though nothing is written; with it, on a unit with NWFS, only A is, and W is not granted", () => {
    const without = clean();
    expect(answer(without, 5, ATOMIC)).toBe("success rw");
    expect(isDirty(without)).toBe(true);
    const withFlag = clean();
    expect(answer(withFlag, 5, READ)).toBe("success r-");
    expect(isDirty(withFlag)).toBe(false);
    expect(answer(withFlag, 5, ATOMIC)).toBe("success rw");
    expect(isDirty(withFlag)).toBe(true);
  });

  it("is ignored without NWFS: D is set", () => {
    const bench = clean({ NWFS: 0 });
    expect(answer(bench, 5, READ)).toBe("success rw");
    expect(isDirty(bench)).toBe(true);
  });

  it("D is not set where the write is not granted", () => {
    const bench = clean();
    bench.firstEntry(0, BigInt(AT.PAGES) | 0x25n);
    expect(answer(bench, 5, ATOMIC)).toBe("success r-");
    expect(isDirty(bench)).toBe(false);
  });
});

describe("what a completion says", () => {
  it("privileged requests without SRE: no rights, PRIV=1; RID_PRIV's results: PRIV=0", () => {
    const bench = new TranslationBench().first();
    bench.pasid(9, { PGTT: 1, FSPTPTR: AT.FIRST >> 12 });
    expect(bench.ask(5, ATOMIC | Access.PRIVILEGED, 9)).toMatchObject({ status: SUCCESS, read: false, write: false, privileged: true });
    bench.pasid(9, { PGTT: 1, FSPTPTR: AT.FIRST >> 12, SRE: 1 });
    expect(bench.fresh().ask(5, ATOMIC | Access.PRIVILEGED, 9)).toMatchObject({ read: true, write: true, privileged: true });
    const rid = new TranslationBench().first({ SRE: 1 }, { RID_PRIV: 1 });
    rid.firstEntry(0, BigInt(AT.PAGES) | 0x63n);
    expect(rid.ask()).toMatchObject({ read: true, write: true, privileged: false });
    expect(rid.ask()).toMatchObject({ read: true, write: true, privileged: false });
  });

  it("sizes: of the leaf; the smaller of both stages; the largest of the unit for pass-through", () => {
    const shift = (bench: TranslationBench): number => bench.ask().shift;
    expect(shift(new TranslationBench().scalable())).toBe(12);
    const large = new TranslationBench().scalable();
    large.secondEntry(1, (1n << 21n) | 0x83n);
    expect([large.ask().shift, large.ask().page]).toEqual([21, 512]);
    expect([large.ask(6).shift, large.ask(6).page]).toEqual([21, 512]);
    const nested = new TranslationBench().nested();
    nested.firstEntry(1, 0xe7n);
    expect(shift(nested)).toBe(12);
    expect(shift(new TranslationBench().scalable({ PGTT: 4 }))).toBe(30);
    expect(shift(new TranslationBench({ fields: { FS1GP: 0, SSLPS: 1 } }).scalable({ PGTT: 4 }))).toBe(21);
  });

  it("a page that reaches into the interrupt range is CA, though the address itself does not (SGN.8.2)", () => {
    const bench = new TranslationBench().scalable();
    bench.secondEntry(2, (3n << 30n) | 0x83n);
    expect(bench.outcome()).toBe(0xc0005);
    expect(answer(bench)).toBe("CA, 87h recorded");
    expect(bench.ask().status).toBe(CA);
  });

  it("N: the leaf's SNP, or PGSNP; none without SC", () => {
    const noSnoop = (entry = {}, leaf = 3, fields = {}): boolean => {
      const bench = new TranslationBench({ fields: { SC: 1, ...fields } }).scalable(entry);
      bench.second(5, PAGE, leaf);
      const [walked, cached] = [bench.ask(5, READ).noSnoop, bench.ask(5, READ).noSnoop];
      expect(cached).toBe(walked);
      return walked;
    };
    expect([noSnoop(), noSnoop({}, 0x803), noSnoop({ PGSNP: 1 })]).toEqual([false, true, true]);
    const legacy = new TranslationBench({ fields: { SC: 1 } }).legacy({ TT: 1 });
    legacy.second(5, PAGE, 0x803);
    expect(legacy.ask().noSnoop).toBe(true);
  });

  it("messages of devices with translations go untranslated: S.1 and S.2 in the interrupt range, unless the context entry says no", () => {
    const bench = new TranslationBench().scalable();
    expect(bench.ask(0xfee01, ATOMIC)).toMatchObject({ status: SUCCESS, read: false, write: true, untranslatedOnly: true });
    expect(bench.ask(0xfee01, READ)).toMatchObject({ status: SUCCESS, read: false, write: false, untranslatedOnly: false });
    expect(bench.ask(0xfee01, ATOMIC, 7)).toMatchObject({ status: SUCCESS, read: false, write: false, untranslatedOnly: false });
    expect(answer(new TranslationBench().scalable({}, { DTE: 0, PRE: 0 }), 0xfee01)).toBe("UR, 44h recorded");
    // The PASID entry has no say.
    expect(new TranslationBench().scalable({ P: 0 }).ask(0xfee01).untranslatedOnly).toBe(true);
  });

  it("a cached translation answers until it is invalidated, so that the order of invalidations matters (6.5.2.5)", () => {
    const bench = new TranslationBench().scalable();
    expect(bench.outcome(5, WRITE)).toBe(PAGE);
    bench.second(5, PAGE + 1, 3);
    expect(bench.ask().page).toBe(PAGE);
    bench.unit.caches.iotlbDomain(3, 1, 5, 0);
    expect(bench.ask().page).toBe(PAGE + 1);
  });
});

describe("translated requests (VT-d 4.2.4)", () => {
  it("pass by the tables, within the host address width and outside the interrupt range", () => {
    const bench = new TranslationBench({ haw: 40 }).scalable();
    expect(bench.translated(123456)).toBe(123456);
    expect([bench.translated(2 ** 28), bench.translated(0xfee00)]).toEqual(["fault 83h", "fault 87h"]);
    const legacy = new TranslationBench({ haw: 40 }).legacy({ TT: 1 });
    expect([legacy.translated(7), legacy.translated(2 ** 28), legacy.translated(0xfee00)]).toEqual([7, "fault 4h", "fault eh"]);
    expect(new TranslationBench().legacy().translated(7)).toBe("fault dh");
  });

  it("do not touch PASID tables without HPTE", () => {
    expect(new TranslationBench().scalable({ P: 0 }).translated(PAGE)).toBe(PAGE);
  });

  it("need DTE at the time they are made, whatever the device-TLB holds: 44h (SCT.5)", () => {
    const bench = new TranslationBench().scalable();
    const { page } = bench.ask();
    expect(bench.translated(page)).toBe(PAGE);
    bench.put(SCALABLE_CONTEXT_ENTRY, AT.CONTEXT + RID * 32, { P: 1, PASIDE: 1, PASIDDIRPTR: AT.DIRECTORY >> 12 });
    bench.unit.caches.context(3, 0, RID, 0);
    expect(bench.translated(page)).toBe("fault 44h");
  });

  it("with PASID need PTRS and EPTR: silently refused, 49h (SCT.10)", () => {
    expect(new TranslationBench().scalable().translated(PAGE, READ, 7)).toBe("blocked");
    const fields = { PTRS: 1 };
    expect(new TranslationBench({ fields }).scalable().translated(PAGE, READ, 7)).toBe("fault 49h");
    expect(new TranslationBench({ fields }).scalable({}, { EPTR: 1 }).translated(PAGE, READ, 7)).toBe(PAGE);
    expect(new TranslationBench({ fields }).scalable({}, { EPTR: 1, PASIDE: 0 }).translated(PAGE)).toBe("fault 43h");
    expect(new TranslationBench().legacy({ TT: 1 }).translated(7, READ, 3)).toBe("blocked");
  });
});

describe("host permission tables (VT-d 3.12)", () => {
  const TABLES = { L4: 0x5_0000, L3: 0x5_2000, L2: 0x5_3000, L1: 0x5_4000 } as const;
  /** Four levels; `permissions` of 32 pages from 32 * 3 on. */
  const bench = (permissions: bigint, entry = {}): TranslationBench => {
    const made = new TranslationBench({ fields: { HPTS: 1, HPT1GPS: 1 } }).scalable({ HPTPTR: TABLES.L4 >> 12, ...entry }, { HPTE: 1 });
    const link = (at: number, to: number): void => void made.memory.writeU64(at + 8, BigInt(to) | 1n);
    link(TABLES.L4, TABLES.L3);
    link(TABLES.L3, TABLES.L2);
    link(TABLES.L2, TABLES.L1);
    made.memory.writeU64(TABLES.L1 + 3 * 16, permissions);
    return made;
  };

  it("give rights to 4 KiB pages: A5h without R, A4h without W, and A3h for a zero-length read without either", () => {
    const made = bench(0x0321n);
    const at = 32 * 3;
    expect([0, 1, 2, 3].map((i) => made.translated(at + i))).toEqual([at, "fault a5h", at + 2, "fault a5h"]);
    expect([0, 1, 2, 3].map((i) => made.translated(at + i, WRITE))).toEqual(["fault a4h", at + 1, at + 2, "fault a4h"]);
    expect([1, 3].map((i) => made.translated(at + i, READ | Access.ZERO_LENGTH))).toEqual([at + 1, "fault a3h"]);
    expect(made.translated(at, ATOMIC)).toBe("fault a4h");
  });

  it("give rights to 2 MiB and 1 GiB at once", () => {
    const made = bench(0n);
    made.memory.writeU64(TABLES.L2 + 16, 0x30n);
    expect(made.translated(8192 + 512 + 7, WRITE)).toBe(8192 + 512 + 7);
    made.memory.writeU64(TABLES.L3 + 16, 0x10n);
    expect(made.translated(2 ** 21 + 2 ** 18 + 9)).toBe(2 ** 21 + 2 ** 18 + 9);
  });

  it("end at HPTSZ: 60h; reserved bits: A1h; tables that are not there: A0h, A2h", () => {
    expect(new TranslationBench({ haw: 52, fields: { HPTS: 1 } }).scalable({ HPTPTR: TABLES.L4 >> 12 }, { HPTE: 1 }).translated(2 ** 37)).toBe("fault 60h");
    expect(bench(4n).translated(32 * 3)).toBe("fault a1h");
    const lower = bench(3n);
    lower.memory.writeU64(TABLES.L2 + 8, (2n ** 24n) | 1n);
    expect(lower.translated(32 * 3)).toBe("fault a0h");
    expect(bench(3n, { HPTPTR: 2 ** 24 / 4096 }).translated(32 * 3)).toBe("fault a2h");
  });

  it("are found through the PASID entry, whose faults then count: 59h", () => {
    expect(bench(3n, { P: 0 }).translated(32 * 3)).toBe("fault 59h");
  });
});

describe("addresses of interrupts, and requests over page ends", () => {
  it("writes to 0xFEExxxxx without PASID are never translated, mapped or not, cached large pages included; with PASID they are (3.14)", () => {
    const bench = new TranslationBench().scalable();
    bench.memory.writeU64(AT.SECOND + 0x1000 + 3 * 8, (1n << 30n) | 0x83n);
    bench.pasid(9, { PGTT: 2, AW: 2, SSPTPTR: AT.SECOND >> 12 });
    expect(bench.outcome(0xc0000)).toBe(0x40000);
    expect(bench.outcome(0xfee00, WRITE)).toBe(0xfee00);
    expect(bench.outcome(0xfee00, ATOMIC)).toBe("fault 29h");
    expect(bench.outcome(0xfee00, WRITE, 9)).toBe(0x7ee00);
    expect(bench.outcome(0xfee00, READ, 9)).toBe(0x7ee00);
  });

  it("pages with different rights are judged apart, and a read of no bytes asks for the page alone (PCI Express 2.2.5)", () => {
    const bench = new TranslationBench().scalable();
    bench.second(6, PAGE + 1, 2);
    const port = new Bus(bench.memory).connect(RID, bench.unit);
    expect(port.read(0x5ff8n, new Uint8Array(16))).toEqual({ ok: false, moved: 8 });
    expect(bench.reason()).toBe(0x86);
    expect(port.write(0x5ff8n, new Uint8Array(16))).toEqual({ ok: true, moved: 16 });
    const empty = new Uint8Array(0);
    expect([5n, 6n, 7n].map((page) => port.read(page << 12n, empty).ok)).toEqual([true, true, false]);
    expect(bench.reason()).toBe(0x79);
  });

  it.each([30, 12] as const)("a cached page that reaches into the interrupt range does not let a request there, in pieces up to 2^%i either", (largestCached) => {
    const bench = new TranslationBench({ policies: { largestCached } }).scalable();
    bench.pasid(9, { PGTT: 2, AW: 2, SSPTPTR: AT.SECOND >> 12 });
    bench.memory.writeU64(AT.SECOND + 0x1000 + 3 * 8, (3n << 30n) | 0x83n);
    expect(bench.outcome(0xc0000, READ, 9)).toBe(0xc0000);
    expect(bench.outcome(0xfee00, READ, 9)).toBe("fault 87h");
    expect(bench.ask(0xc0000, READ, 9).status).toBe(CA);
  });
});
