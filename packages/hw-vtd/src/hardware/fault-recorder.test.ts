/** Fault records and FSTS (VT-d 7.2.1, 11.4.7). */
import { Access, CompletionStatus, NO_PASID, PageResponseCode, TranslationCompletion } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import { IOTLB_DESCRIPTOR, DescriptorType } from "../spec/descriptors.js";
import { LEGACY_CONTEXT_ENTRY, PASID_DIRECTORY_ENTRY, TranslationTableMode as TTM } from "../spec/entries.js";
import { Fsts, Reg } from "../spec/registers.js";
import { AT, type BenchOptions, COMMAND, FRCD, RID, UnitBench } from "./unit.test-support.js";

const fsts = (bench: UnitBench): number => Number(bench.read(Reg.FSTS, 4));

function benchOf(options: BenchOptions = {}): UnitBench {
  const bench = new UnitBench(options);
  bench.scalableTables();
  bench.start(TTM.SCALABLE);
  return bench;
}

/** A fault of a requester whose context is not there. */
const fault = (bench: UnitBench, rid: number): void => void bench.dma(5, Access.READ, NO_PASID, rid);

describe("fault records", () => {
  let bench: UnitBench;
  beforeEach(() => {
    bench = benchOf();
  });

  it.each([
    ["a read", Access.READ, NO_PASID, 1n << 62n], ["a write", Access.WRITE, NO_PASID, 0n], ["an atomic operation", Access.READ | Access.WRITE, NO_PASID, (1n << 62n) | (1n << 28n)],
    ["a privileged read with PASID", Access.READ | Access.PRIVILEGED, 7, (1n << 62n) | (1n << 31n) | (1n << 29n) | (7n << 40n)],
    ["a write with a PASID of 20 bits", Access.WRITE, 0xabcde, (1n << 31n) | (0xabcden << 40n)],
  ] as const)("%s: T1, T2, PP, PV, PRIV", (_name, access, pasid, bits) => {
    bench.dma(0x77, access, pasid, 0x19);
    expect(bench.record(0)).toMatchObject({ source: 0x19, reason: 0x41, low: 0x7_7000n, high: (1n << 63n) | (0x41n << 32n) | 0x19n | bits });
  });

  it("PP, PV and PRIV are reserved without PASID, AT without device-TLBs", () => {
    bench = new UnitBench({ preset: "legacy" });
    bench.legacyTables();
    bench.start(TTM.LEGACY);
    bench.dma(5, Access.READ | Access.PRIVILEGED, 0xabcde);
    expect(bench.record(0)?.high).toBe((1n << 63n) | (1n << 62n) | (0x31n << 32n) | BigInt(RID));
  });

  it("tell translation, translated and page requests apart: AT, and T2 without T1", () => {
    bench.unit.ats?.requestTranslation(0x19, NO_PASID, 5, Access.READ, new TranslationCompletion());
    bench.unit.ats?.translated(0x19, NO_PASID, 5, Access.WRITE);
    bench.unit.ats?.requestPage({ rid: 0x19, pasid: 7, page: 5, access: Access.WRITE, group: 0, last: true });
    const kinds = [0, 1, 2].map((i) => bench.record(i)!.high).map((high) => [(high >> 60n) & 3n, (high >> 62n) & 1n, (high >> 28n) & 1n]);
    // The No Write flag is not set on the first: it asks to write too.
    expect(kinds.map(([at]) => at)).toEqual([1n, 2n, 0n]);
    expect(kinds[2]).toEqual([0n, 0n, 1n]);
  });

  it("corner 50: RID_PASID is not recorded as PASID; address bits above the largest width read 0", () => {
    bench = benchOf({ fields: { SAGAW: 2, FS5LP: 0 } });
    bench.scalableTables({}, { AW: 1 });
    bench.dma(2 ** 52 - 1, Access.READ);
    expect(bench.record(0)?.low).toBe(0x7f_ffff_f000n);
    expect((bench.record(0)?.high ?? 0n) >> 31n & 1n).toBe(0n);
  });

  it("corner 50: F is cleared by a 4-byte write at +12, and by nothing else", () => {
    fault(bench, 0x19);
    for (const at of [0, 4, 8]) bench.write(FRCD + at, 0xffff_ffffn, 4);
    bench.write(FRCD + 12, 0x7fff_ffffn, 4);
    expect(bench.record(0)?.source).toBe(0x19);
    bench.clearRecord(0);
    expect([bench.record(0), fsts(bench) & Fsts.PPF]).toEqual([undefined, 0]);
    expect(bench.read(FRCD) & 0xfffn).toBe(0n);
  });

  it("corner 49: FRI is the first fault's, and stays while others come and go; the index wraps, past cleared ones", () => {
    for (let i = 0; i < 3; i++) fault(bench, 0x40 + i);
    expect(fsts(bench)).toBe(Fsts.PPF);
    for (let i = 0; i < 3; i++) bench.clearRecord(i);
    for (let i = 3; i < 10; i++) fault(bench, 0x40 + i);
    expect(fsts(bench)).toBe(Fsts.PPF | (3 << 8));
    expect([7, 0, 1].map((i) => bench.record(i)?.source)).toEqual([0x47, 0x48, 0x49]);
    bench.clearRecord(3);
    expect(fsts(bench)).toBe(Fsts.PPF | (3 << 8));
  });

  it("corner 49: the index survives all but both remappings off, and interrupts share it", () => {
    fault(bench, 0x40);
    bench.write(Reg.IRTA, BigInt(AT.INTERRUPTS));
    bench.command(COMMAND.SIRTP);
    bench.command(COMMAND.IRE);
    bench.unit.interrupt(0x41, 0xfee0_0010n, 0);
    expect(bench.record(1)).toMatchObject({ reason: 0x22, source: 0x41 });
    bench.write(Reg.GCMD, COMMAND.IRE, 4);
    bench.unit.interrupt(0x42, 0xfee0_0010n, 0);
    expect(bench.record(2)?.source).toBe(0x42);
    bench.write(Reg.GCMD, 0n, 4);
    for (let i = 0; i < 3; i++) bench.clearRecord(i);
    bench.command(COMMAND.TE);
    fault(bench, 0x43);
    expect(bench.record(0)?.source).toBe(0x43);
  });

  it("corner 48: an overflow blocks everything until PFO is cleared, even with records free", () => {
    for (let i = 0; i < 9; i++) fault(bench, 0x40 + i);
    expect(fsts(bench)).toBe(Fsts.PPF | Fsts.PFO);
    for (let i = 0; i < 8; i++) bench.clearRecord(i);
    fault(bench, 0x60);
    expect([bench.record(0), fsts(bench)]).toEqual([undefined, Fsts.PFO]);
    bench.write(Reg.FSTS, BigInt(Fsts.PFO), 4);
    fault(bench, 0x61);
    expect([bench.record(0)?.source, fsts(bench)]).toEqual([0x61, Fsts.PPF]);
  });

  it("corner 48: clearing PFO first leaves the records full, and the next fault sets it again", () => {
    for (let i = 0; i < 9; i++) fault(bench, 0x40 + i);
    bench.write(Reg.FSTS, BigInt(Fsts.PFO), 4);
    expect(fsts(bench)).toBe(Fsts.PPF);
    fault(bench, 0x60);
    expect(fsts(bench)).toBe(Fsts.PPF | Fsts.PFO);
    bench.write(Reg.FSTS, BigInt(Fsts.PFO), 4);
    bench.clearRecord(0);
    fault(bench, 0x61);
    expect(bench.record(0)?.source).toBe(0x61);
  });

  it("corner 48: a unit that compresses drops repeats of a source before it looks for room", () => {
    bench = benchOf({ compressFaults: true });
    for (let i = 0; i < 20; i++) fault(bench, 0x40 + (i % 3));
    expect([0, 1, 2, 3].map((i) => bench.record(i)?.source)).toEqual([0x40, 0x41, 0x42, undefined]);
    for (let i = 3; i < 8; i++) fault(bench, 0x40 + i);
    for (let i = 0; i < 8; i++) fault(bench, 0x40 + i);
    expect(fsts(bench)).toBe(Fsts.PPF);
    fault(bench, 0x48);
    expect(fsts(bench)).toBe(Fsts.PPF | Fsts.PFO);
  });

  it("software's writes of 1 to PPF, FRI and the old PRO bit are harmless", () => {
    fault(bench, 0x40);
    bench.write(Reg.FSTS, 0xffff_ffffn, 4);
    expect(fsts(bench)).toBe(Fsts.PPF);
  });

  it("corner 6: an FPD in an entry that is not present keeps its fault from the record", () => {
    bench = new UnitBench({ preset: "legacy" });
    bench.legacyTables();
    bench.put(LEGACY_CONTEXT_ENTRY, AT.CONTEXT + 0x20 * 16, { P: 0, FPD: 1 });
    bench.start(TTM.LEGACY);
    fault(bench, 0x20);
    expect(fsts(bench)).toBe(0);
    bench.put(LEGACY_CONTEXT_ENTRY, AT.CONTEXT + 0x20 * 16, { P: 0 });
    fault(bench, 0x20);
    expect(fsts(bench)).toBe(Fsts.PPF);
  });

  it("corner 6: faults that FPD does not reach are recorded behind a context entry with FPD=1", () => {
    for (const [context, reason] of [[{ PASIDDIRPTR: 0x7_0000 }, 0x50], [{}, 0x58], [{ FPD: 0, PASIDDIRPTR: 0x7_0000 }, 0x50]] as const) {
      bench = new UnitBench();
      bench.scalableTables({ FPD: 1, ...context });
      bench.put(PASID_DIRECTORY_ENTRY, AT.DIRECTORY, { P: 1, FPD: 1, SMPTBLPTR: 0x7_0000 });
      bench.start(TTM.SCALABLE);
      bench.dma();
      expect(bench.record(0)?.reason).toBe(reason);
    }
    // And what it does reach, is not: the PASID entry is there, its page is not.
    bench = new UnitBench();
    bench.scalableTables({ FPD: 1 });
    bench.start(TTM.SCALABLE);
    expect([bench.dma(0x77), bench.record(0)]).toEqual([-1, undefined]);
  });

  it("corner 54: abort mode refuses every kind of request, and records it whatever FPD says", () => {
    bench = new UnitBench();
    bench.scalableTables({ FPD: 1 });
    bench.start(TTM.ABORT);
    const endpoint = bench.endpoint();
    const completion = new TranslationCompletion();
    expect([bench.dma(), bench.dma(5, Access.WRITE, 7), bench.unit.ats?.translated(RID, NO_PASID, 5, Access.READ)]).toEqual([-1, -1, -1]);
    bench.unit.ats?.requestTranslation(RID, NO_PASID, 5, Access.READ, completion);
    bench.unit.ats?.requestPage({ rid: RID, pasid: 7, page: 5, access: Access.READ, group: 0, last: true });
    expect(completion.status).toBe(CompletionStatus.UNSUPPORTED_REQUEST);
    expect(endpoint.responses.map(({ code }) => code)).toEqual([PageResponseCode.INVALID]);
    expect([0, 1, 2, 3, 4].map((i) => bench.record(i)?.reason)).toEqual([0x33, 0x33, 0x33, 0x33, 0x33]);
  });

  it("PPF and IQE stand side by side, and only the first sends a message", () => {
    bench.write(Reg.FECTL, 0n, 4);
    fault(bench, 0x40);
    bench.startQueue();
    bench.submit(IOTLB_DESCRIPTOR, DescriptorType.IOTLB, { G: 0 });
    expect([fsts(bench), bench.messages.length]).toEqual([Fsts.PPF | Fsts.IQE, 1]);
  });
});
