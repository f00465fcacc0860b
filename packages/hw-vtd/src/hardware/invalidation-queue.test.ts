/** The invalidation queue (VT-d 6.5.2): what is refused, what waits for devices, and how it goes on after each error. */
import { NO_PASID } from "@iommukit/core";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import {
  CC_DESCRIPTOR as CC, DescriptorType as T, DEV_TLB_DESCRIPTOR as DEV_TLB, HPT_DESCRIPTOR as HPT, IEC_DESCRIPTOR as IEC, IOTLB_DESCRIPTOR as IOTLB,
  P_DEV_TLB_DESCRIPTOR as P_DEV_TLB, P_IOTLB_DESCRIPTOR as P_IOTLB, PC_DESCRIPTOR as PC, PGR_DESCRIPTOR as PGR, QueueError as E, WAIT_DESCRIPTOR as WAIT,
} from "../spec/descriptors.js";
import { TranslationTableMode as TTM } from "../spec/entries.js";
import { Fsts, Reg } from "../spec/registers.js";
import { invalidationRange } from "./device-tlbs.js";
import { AT, type BenchOptions, COMMAND, RID, type TestEndpoint, UnitBench } from "./unit.test-support.js";

const wait = (data: number, more: Readonly<Record<string, number>> = {}): Readonly<Record<string, number>> => ({ SW: 1, DATA: data, STATUS_ADDR: AT.STATUS / 4, ...more });

function benchOf(options: BenchOptions = {}, mode: number = TTM.SCALABLE, wide = true): UnitBench {
  const bench = new UnitBench(options);
  bench.scalableTables();
  bench.start(mode);
  bench.startQueue(wide);
  return bench;
}

describe("descriptors", () => {
  it.each([
    ["a granularity of 0", CC, T.CC, { G: 0 }, [], E.RESERVED_FIELD], ["a PASID-cache granularity of 2", PC, T.PC, { G: 2 }, [], E.RESERVED_FIELD],
    ["an IOTLB granularity of 0", IOTLB, T.IOTLB, { G: 0 }, [], E.RESERVED_FIELD], ["an address mask above MAMV", IOTLB, T.IOTLB, { G: 3, AM: 19 }, [], E.RESERVED_FIELD],
    ["a PASID-based granularity of 1", P_IOTLB, T.P_IOTLB, { G: 1 }, [], E.RESERVED_FIELD], ["any mask, PASID-based", P_IOTLB, T.P_IOTLB, { G: 3, AM: 63 }, [], E.NONE],
    ["a wait without flags", WAIT, T.WAIT, {}, [], E.NONE], ["a wait that drains page requests", WAIT, T.WAIT, { PD: 1 }, [], E.NONE],
    ["a wait with a reserved bit", WAIT, T.WAIT, {}, [0x100n], E.RESERVED_FIELD], ["a device-TLB, reserved bit 4", DEV_TLB, T.DEV_TLB, { SID: RID }, [0x10n], E.RESERVED_FIELD],
    ["a device-TLB with PFSID", DEV_TLB, T.DEV_TLB, { SID: RID, PFSID_HIGH: 1 }, [], E.NONE], ["a device-TLB by PASID, reserved bit 1", P_DEV_TLB, T.P_DEV_TLB, { SID: RID }, [0n, 2n], E.RESERVED_FIELD],
    ["an interrupt entry with a reserved bit", IEC, T.IEC, { G: 1 }, [0x20n], E.RESERVED_FIELD], ["an interrupt entry with any mask", IEC, T.IEC, { G: 1, IM: 31 }, [], E.NONE],
    ["a page group response", PGR, T.PGR, { RID, RC: 15 }, [], E.NONE], ["a response, ignored bit 66", PGR, T.PGR, { RID }, [0n, 4n], E.NONE],
    ["a response, reserved bit 65", PGR, T.PGR, { RID }, [0n, 2n], E.RESERVED_FIELD], ["a response code of 2", PGR, T.PGR, { RID, RC: 2 }, [], E.RESERVED_FIELD],
    ["a response code of 14", PGR, T.PGR, { RID, RC: 14 }, [], E.RESERVED_FIELD], ["type 0", CC, 0, {}, [], E.INVALID_TYPE], ["type B", CC, 0xb, {}, [], E.INVALID_TYPE],
    ["type 70h + 1", CC, 0x71, {}, [], E.INVALID_TYPE], ["host permissions without HPTS", HPT, T.HPT, { G: 1 }, [], E.INVALID_TYPE], ["a word behind 128 bits", IEC, T.IEC, {}, [0n, 0n, 1n], E.RESERVED_FIELD],
    ["domain ids wider than the unit's, which are cut", IOTLB, T.IOTLB, { G: 2, DID: 0xffff }, [], E.NONE],
  ] as const)("%s: %s", (_name, table, type, fields, more, error) => {
    const bench = benchOf();
    bench.endpoint().prompt = true;
    expect(bench.submit(table, type, fields, more)).toBe(error);
  });

  it.each([
    ["device-TLBs", { DT: 0, PRS: 0 }, [[DEV_TLB, T.DEV_TLB, {}], [P_DEV_TLB, T.P_DEV_TLB, {}], [PGR, T.PGR, {}]], E.INVALID_TYPE],
    ["page requests", { PRS: 0 }, [[PGR, T.PGR, {}]], E.INVALID_TYPE], ["interrupt remapping", { IR: 0, PI: 0 }, [[IEC, T.IEC, {}]], E.INVALID_TYPE],
    ["page request drain", { PDS: 0 }, [[WAIT, T.WAIT, { PD: 1 }]], E.RESERVED_FIELD],
    ["the throttle", { DIT: 0 }, [[DEV_TLB, T.DEV_TLB, { PFSID_LOW: 1 }], [P_DEV_TLB, T.P_DEV_TLB, { PFSID_HIGH: 1 }]], E.RESERVED_FIELD],
    ["page-selective invalidation", { PSI: 0 }, [[IOTLB, T.IOTLB, { G: 3 }]], E.RESERVED_FIELD],
  ] as const)("without %s what belongs to it is refused", (_name, fields, descriptors, error) => {
    for (const [table, type, values] of descriptors) expect(benchOf({ fields }).submit(table, type, values)).toBe(error);
  });

  it("take host permissions with HPTS, of which nothing is cached", () => {
    const bench = benchOf({ fields: { HPTS: 1 } });
    expect(bench.submit(HPT, T.HPT, { G: 3, AM: 4 })).toBe(E.NONE);
    expect(bench.submit(HPT, T.HPT, { G: 0 })).toBe(E.RESERVED_FIELD);
  });

  it("corner 42: by mode and width: 1 to 5 in legacy mode of either width, everything in 256 bits elsewhere", () => {
    const types = [CC, IOTLB, DEV_TLB, IEC, WAIT, P_IOTLB, PC, P_DEV_TLB, PGR].map((table, i) => [table, i + 1] as const);
    const results = (mode: number, wide: boolean): number[] =>
      types.map(([table, type]) => {
        const bench = benchOf({}, mode, wide);
        bench.endpoint().prompt = true;
        // A description of 256 bits in a queue of 128: the first half is there.
        const fields = { ...(type === T.WAIT ? {} : type === T.P_IOTLB ? { G: 2 } : type === T.PGR || type === T.DEV_TLB || type === T.P_DEV_TLB ? {} : { G: 1 }) };
        return bench.submit(table, type, fields);
      });
    const low = [0, 0, 0, 0, 0, E.INVALID_TYPE, E.INVALID_TYPE, E.INVALID_TYPE, E.INVALID_TYPE];
    expect(results(TTM.LEGACY, false)).toEqual(low);
    expect(results(TTM.LEGACY, true)).toEqual(low);
    expect(results(TTM.SCALABLE, true)).toEqual(Array.from({ length: 9 }, () => E.NONE));
    expect(results(TTM.ABORT, true)).toEqual(Array.from({ length: 9 }, () => E.NONE));
    expect(results(TTM.SCALABLE, false)).toEqual(Array.from({ length: 9 }, () => E.INVALID_WIDTH));
    expect(results(TTM.RESERVED, true)).toEqual(Array.from({ length: 9 }, () => E.RESERVED_MODE));
  });

  it("corner 42: errors come in order: tail, alignment, mode, width, fetch, type, reserved fields", () => {
    const bench = new UnitBench();
    const error = (): number => {
      bench.write(Reg.FSTS, BigInt(Fsts.IQE), 4);
      return Number(bench.read(Reg.IQERCD) & 15n);
    };
    bench.start(TTM.RESERVED);
    bench.write(Reg.IQA, 0x7f_0000_0000n | 0x800n);
    bench.write(Reg.IQT, 0x1010n);
    bench.command(COMMAND.QIE);
    expect(error()).toBe(E.INVALID_TAIL);
    bench.write(Reg.IQT, 0x10n);
    expect(error()).toBe(E.TAIL_ALIGNMENT);
    bench.write(Reg.IQT, 0x20n);
    expect(error()).toBe(E.RESERVED_MODE);
    bench.write(Reg.RTADDR, 0x400n);
    bench.command(COMMAND.SRTP);
    bench.write(Reg.IQA, 0x7f_0000_0000n);
    expect(error()).toBe(E.INVALID_WIDTH);
    bench.write(Reg.IQA, 0x7f_0000_0000n | 0x800n);
    expect(error()).toBe(E.FETCH);
    bench.write(Reg.IQA, BigInt(AT.QUEUE) | 0x800n);
    bench.put(CC, AT.QUEUE, { type: 0, G: 0, SID: 9 });
    expect(error()).toBe(E.INVALID_TYPE);
    bench.put(CC, AT.QUEUE, { type: 1, G: 0 });
    expect(error()).toBe(E.RESERVED_FIELD);
  });

  it("corner 42: a tail write while IQE stands fetches nothing; clearing it fetches the same descriptor again", () => {
    const bench = benchOf();
    bench.push(WAIT, T.WAIT, wait(1));
    const bad = bench.push(CC, T.CC, { G: 0 });
    bench.push(WAIT, T.WAIT, wait(2));
    bench.kick();
    expect(bench.memory.readU64(AT.STATUS)).toBe(1n);
    expect(bench.read(Reg.IQH)).toBe(0x20n);
    bench.submit(WAIT, T.WAIT, wait(3));
    expect(bench.read(Reg.IQH)).toBe(0x20n);
    bench.write(Reg.FSTS, BigInt(Fsts.IQE), 4);
    expect([bench.read(Reg.IQH), bench.read(Reg.FSTS, 4)]).toEqual([0x20n, BigInt(Fsts.IQE)]);
    bench.put(WAIT, bad, { type: 5 });
    bench.write(Reg.FSTS, BigInt(Fsts.IQE), 4);
    expect([bench.memory.readU64(AT.STATUS), bench.read(Reg.IQH)]).toEqual([3n, 0x80n]);
  });

  it("corner 41: a page-selective invalidation of a part of a large page takes all of it, one beside it nothing", () => {
    for (const [fields, gone] of [[{ ADDR: 0x3ff }, true], [{ ADDR: 0x400 }, false], [{ ADDR: 0, AM: 9 }, false], [{ ADDR: 0x200, AM: 9 }, true]] as const) {
      const bench = benchOf();
      // Input 2 MiB to 4 MiB, one entry of the second level.
      const entry = AT.SECOND + 0x2000 + 8;
      bench.memory.writeU64(entry, 0x60_0083n);
      expect(bench.dma(0x234)).toBe(0x634);
      bench.memory.writeU64(entry, 0x80_0083n);
      expect(bench.submit(IOTLB, T.IOTLB, { G: 3, DID: 1, ...fields })).toBe(E.NONE);
      expect(bench.dma(0x234)).toBe(gone ? 0x834 : 0x634);
    }
  });

  it("corner 45: a wait writes the low HAW bits of its status address; an interrupt with ICS.IWC set is silent", () => {
    const bench = benchOf();
    bench.write(Reg.IECTL, 0n, 4);
    bench.submit(WAIT, T.WAIT, { SW: 1, IF: 1, DATA: 0xabcd_ef01, STATUS_ADDR: (0x3fffn << 48n) | (1n << 46n) | BigInt(AT.STATUS / 4) });
    expect(bench.memory.readU64(AT.STATUS)).toBe(0xabcd_ef01n);
    bench.submit(WAIT, T.WAIT, { IF: 1 });
    expect(bench.messages).toHaveLength(1);
    bench.write(Reg.ICS, 1n, 4);
    bench.submit(WAIT, T.WAIT, { IF: 1 });
    expect(bench.messages).toHaveLength(2);
  });
});

describe("device-TLB invalidations", () => {
  let bench: UnitBench;
  let endpoint: TestEndpoint;
  const status = (): bigint => bench.read(Reg.FSTS, 4);
  const done = (): bigint => bench.memory.readU64(AT.STATUS) ?? -1n;
  const flush = (fields: Readonly<Record<string, bigint | number>> = {}): void => void bench.push(DEV_TLB, T.DEV_TLB, { SID: RID, ...fields });

  beforeEach(() => {
    bench = benchOf();
    endpoint = bench.endpoint();
  });

  it("corner 65: sizes are the lowest 0 bit of the address, and S with all ones is everything (6.5.2.5)", () => {
    expect(invalidationRange(0x123, false)).toEqual({ page: 0x123, shift: 12 });
    expect(invalidationRange(0x122, true)).toEqual({ page: 0x122, shift: 13 });
    expect(invalidationRange(0x120, true)).toEqual({ page: 0x120, shift: 13 });
    expect(invalidationRange(0x121, true)).toEqual({ page: 0x120, shift: 14 });
    expect(invalidationRange(0x1ff, true)).toEqual({ page: 0, shift: 22 });
    expect(invalidationRange(2 ** 51 - 1, true)).toEqual({ page: 0, shift: 64 });
    expect(invalidationRange(2 ** 52 - 1, true)).toEqual({ page: 0, shift: 64 });
    expect(invalidationRange(2 ** 50 - 1, true)).toEqual({ page: 0, shift: 63 });
    flush({ S: 1, ADDR: 0x7_ffff_ffff_ffffn });
    bench.kick();
    expect(endpoint.invalidations).toEqual([{ tag: 0, pasid: NO_PASID, allPasids: false, page: 0, shift: 64 }]);
  });

  it("reach requests without PASID, those of one PASID, or of every PASID", () => {
    endpoint.prompt = true;
    flush({ ADDR: 5 });
    bench.push(P_DEV_TLB, T.P_DEV_TLB, { SID: RID, PASID: 9, ADDR: 5 });
    bench.push(P_DEV_TLB, T.P_DEV_TLB, { SID: RID, PASID: 9, GI: 1, ADDR: 5 });
    bench.kick();
    expect(endpoint.invalidations.map(({ pasid, allPasids }) => [pasid, allPasids])).toEqual([[NO_PASID, false], [9, false], [9, true]]);
  });

  it("hold up the waits behind them, which complete in order, and not what is no wait", () => {
    flush();
    bench.push(WAIT, T.WAIT, wait(1));
    flush();
    bench.push(WAIT, T.WAIT, wait(2));
    bench.push(CC, T.CC, { G: 1 });
    bench.kick();
    expect([done(), bench.read(Reg.IQH)]).toEqual([0n, 0xa0n]);
    endpoint.complete(1);
    expect(done()).toBe(0n);
    endpoint.complete(0);
    expect(done()).toBe(2n);
  });

  it("corner 45: a fence holds up everything behind it", () => {
    flush();
    bench.push(WAIT, T.WAIT, { FN: 1 });
    bench.push(WAIT, T.WAIT, wait(7));
    bench.kick();
    expect([done(), bench.read(Reg.IQH)]).toEqual([0n, 0x40n]);
    endpoint.complete(0);
    expect([done(), bench.read(Reg.IQH)]).toEqual([7n, 0x60n]);
  });

  it("corner 44: are complete after as many completions as the device says, 0 for 8 (6.5.2.9)", () => {
    flush();
    bench.push(WAIT, T.WAIT, wait(1));
    bench.kick();
    endpoint.complete(0, 3);
    endpoint.complete(0, 3);
    expect(done()).toBe(0n);
    endpoint.complete(0, 3);
    expect(done()).toBe(1n);
    flush();
    bench.push(WAIT, T.WAIT, wait(2));
    bench.kick();
    for (let i = 0; i < 7; i++) endpoint.complete(0, 0);
    expect(done()).toBe(1n);
    endpoint.complete(0, 0);
    expect([done(), status()]).toEqual([2n, 0n]);
  });

  it("corner 44: a tag that is not out, or another device's, is ICE; the good ones of the vector count, and the queue goes on", () => {
    flush();
    bench.push(WAIT, T.WAIT, wait(1));
    bench.kick();
    bench.unit.ats?.completeInvalidation(0x99, 1, 1);
    expect([done(), status(), bench.read(Reg.IQERCD) >> 48n]).toEqual([0n, BigInt(Fsts.ICE), 0x99n]);
    bench.unit.ats?.completeInvalidation(RID, 0b101, 1);
    // The source of the first error stays.
    expect([done(), bench.read(Reg.IQERCD) >> 48n]).toEqual([1n, 0x99n]);
    bench.submit(WAIT, T.WAIT, wait(2));
    expect(done()).toBe(2n);
    bench.write(Reg.FSTS, BigInt(Fsts.ICE), 4);
    bench.unit.ats?.completeInvalidation(RID, 0x8000_0000, 1);
    expect([status(), bench.read(Reg.IQERCD) >> 48n]).toEqual([BigInt(Fsts.ICE), BigInt(RID)]);
  });

  it("corner 43: a device that never answers times out: waits are aborted, the head stays, clearing ITE goes on", () => {
    flush();
    bench.push(WAIT, T.WAIT, wait(1, { STATUS_ADDR: AT.STATUS / 4 + 2 }));
    bench.kick();
    bench.unit.timeOut();
    expect([status(), (bench.read(Reg.IQERCD) >> 32n) & 0xffffn, bench.read(Reg.IQH)]).toEqual([BigInt(Fsts.ITE), BigInt(RID), 0x40n]);
    bench.submit(WAIT, T.WAIT, wait(2));
    expect([done(), bench.read(Reg.IQH)]).toEqual([0n, 0x40n]);
    bench.write(Reg.FSTS, BigInt(Fsts.ITE), 4);
    expect([done(), bench.read(Reg.IQH)]).toEqual([2n, 0x60n]);
    expect(bench.memory.readU64(AT.STATUS + 8)).toBe(0n);
    // The late answer finds no tag.
    endpoint.complete(0);
    expect(status()).toBe(BigInt(Fsts.ICE));
  });

  it("corner 43: a time-out shows beside IQE, and both must be cleared", () => {
    flush();
    bench.push(CC, T.CC, { G: 0 });
    bench.kick();
    expect(status()).toBe(BigInt(Fsts.IQE));
    bench.unit.timeOut();
    expect(status()).toBe(BigInt(Fsts.IQE | Fsts.ITE));
    bench.put(CC, AT.QUEUE + 0x20, { type: 1, G: 1 });
    bench.write(Reg.FSTS, BigInt(Fsts.IQE), 4);
    expect(bench.read(Reg.IQH)).toBe(0x20n);
    bench.write(Reg.FSTS, BigInt(Fsts.ITE), 4);
    expect(bench.read(Reg.IQH)).toBe(0x40n);
  });

  it("time out by themselves for software that polls, after the option's number of register reads", () => {
    bench = benchOf({ deviceTlbTimeout: 10 });
    bench.endpoint();
    flush();
    bench.kick();
    for (let i = 0; i < 9; i++) bench.read(Reg.FSTS, 4);
    expect(status()).toBe(BigInt(Fsts.ITE));
    bench = benchOf({ deviceTlbTimeout: 10 });
    flush();
    bench.kick();
    for (let i = 0; i < 9; i++) expect(status()).toBe(0n);
    expect(status()).toBe(BigInt(Fsts.ITE));
  });

  it("corner 43: only what is overdue times out, under the oldest one's device; what another device says later counts", () => {
    bench = benchOf({ deviceTlbTimeout: 100 });
    const [slow, other] = [0x101, 0x102].map((rid) => bench.endpoint(rid));
    // Tag 0 is free again when the slow device has tag 1: the oldest is not the lowest.
    flush({ SID: 0x102 });
    flush({ SID: 0x101 });
    bench.kick();
    other.complete(0);
    for (let i = 0; i < 50; i++) bench.read(Reg.IQH);
    flush({ SID: 0x102 });
    bench.kick();
    for (let i = 0; i < 60; i++) bench.read(Reg.IQH);
    expect([status(), (bench.read(Reg.IQERCD) >> 32n) & 0xffffn, slow.invalidations[0].tag]).toEqual([BigInt(Fsts.ITE), 0x101n, 1]);
    bench.write(Reg.FSTS, BigInt(Fsts.ITE), 4);
    bench.push(WAIT, T.WAIT, wait(5));
    bench.kick();
    expect(done()).toBe(0n);
    other.complete(0);
    expect([done(), status()]).toEqual([5n, 0n]);
    flush({ SID: 0x102 });
    flush({ SID: 0x101 });
    bench.kick();
    other.complete(0);
    flush({ SID: 0x102 });
    bench.kick();
    bench.unit.timeOut();
    expect((bench.read(Reg.IQERCD) >> 32n) & 0xffffn).toBe(0x101n);
  });

  it("are 32 at a time, or as many as MIP says; the queue stands until there is room", () => {
    for (let i = 0; i < 40; i++) flush();
    bench.kick();
    expect([endpoint.invalidations.length, bench.read(Reg.IQH)]).toEqual([32, 0x400n]);
    endpoint.complete(5);
    expect([endpoint.invalidations.length, endpoint.invalidations.at(-1)?.tag]).toEqual([33, 5]);
    bench = benchOf();
    endpoint = bench.endpoint();
    for (let i = 0; i < 5; i++) flush({ MIP: 3 });
    bench.kick();
    expect(endpoint.invalidations).toHaveLength(3);
    endpoint.complete(2);
    expect(endpoint.invalidations).toHaveLength(4);
  });

  it("of virtual functions count for their physical one with DIT, each for itself without", () => {
    for (const [DIT, sent] of [[1, [2, 0, 1]], [0, [2, 2, 1]]] as const) {
      bench = benchOf({ fields: { DIT } });
      const endpoints = [0x101, 0x102, 0x200].map((rid) => bench.endpoint(rid));
      const pf = (value: number): Record<string, number> => (DIT === 1 ? { PFSID_LOW: value & 15, PFSID_HIGH: value >> 4 } : {});
      for (const SID of [0x101, 0x101]) flush({ SID, MIP: 2, ...pf(0x100) });
      flush({ SID: 0x200, MIP: 2, ...pf(0x200) });
      for (const SID of [0x102, 0x102]) flush({ SID, MIP: 2, ...pf(0x100) });
      bench.kick();
      expect(endpoints.map(({ invalidations }) => invalidations.length)).toEqual(sent);
    }
  });

  it("are forgotten when the queue is turned off, and their answers are not taken while translation is off", () => {
    flush();
    bench.push(WAIT, T.WAIT, wait(1));
    bench.kick();
    bench.write(Reg.GCMD, bench.status() & 0x96ff_ffffn & ~COMMAND.TE, 4);
    endpoint.complete(0);
    expect(done()).toBe(0n);
    bench.command(COMMAND.TE);
    endpoint.complete(0);
    expect(done()).toBe(1n);
    bench.startQueue();
    flush();
    bench.push(WAIT, T.WAIT, wait(2));
    bench.kick();
    bench.write(Reg.GCMD, COMMAND.TE, 4);
    endpoint.complete(0);
    expect(done()).toBe(1n);
  });

  it("responses to page requests go to their device, with or without PASID", () => {
    bench.push(PGR, T.PGR, { RID, PP: 1, PASID: 7, PRGI: 0x1ff, RC: 1 });
    bench.push(PGR, T.PGR, { RID, PASID: 7, PRGI: 3 });
    bench.push(PGR, T.PGR, { RID: 0x77 });
    bench.kick();
    expect(endpoint.responses).toEqual([{ pasid: 7, group: 0x1ff, code: 1 }, { pasid: NO_PASID, group: 3, code: 0 }]);
    expect([status(), bench.read(Reg.IQH)]).toEqual([0n, 0x60n]);
  });

  it("survive any descriptors, completions and time-outs, and never hang", () => {
    const good = fc.constantFrom([DEV_TLB, T.DEV_TLB, { SID: RID }], [P_DEV_TLB, T.P_DEV_TLB, { SID: RID, MIP: 2 }], [WAIT, T.WAIT, wait(1)], [WAIT, T.WAIT, { FN: 1, IF: 1 }], [CC, T.CC, { G: 1 }], [PGR, T.PGR, { RID }]) as fc.Arbitrary<
      [typeof CC, number, Record<string, number>]
    >;
    const event = fc.oneof(
      fc.record({ kind: fc.constant("push"), what: good, bits: fc.constant(0n) }),
      fc.record({ kind: fc.constant("push"), what: good, bits: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
      fc.record({ kind: fc.constantFrom("kick", "timeout", "clear", "complete", "off", "on"), what: good, bits: fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }) }),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 120 }), (events) => {
        bench = benchOf();
        endpoint = bench.endpoint();
        for (const { kind, what, bits } of events) {
          if (kind === "push") bench.push(what[0], what[1], what[2], [bits]);
          else if (kind === "kick") bench.kick();
          else if (kind === "timeout") bench.unit.timeOut();
          else if (kind === "clear") bench.write(Reg.FSTS, 0x71n, 4);
          else if (kind === "complete") bench.unit.ats?.completeInvalidation(RID, Number(bits) | 0, Number(bits & 7n));
          else if (kind === "off") bench.write(Reg.GCMD, COMMAND.TE, 4);
          else bench.command(COMMAND.QIE);
        }
        // Whatever is out: time passes for who polls, and the queue goes on.
        for (let i = 0; i < 600; i++) bench.read(Reg.FSTS, 4);
        bench.startQueue();
        bench.write(Reg.GCMD, COMMAND.TE, 4);
        bench.write(Reg.FSTS, 0x71n, 4);
        bench.startQueue();
        bench.submit(WAIT, T.WAIT, wait(0x77));
        expect(done() & 0xffff_ffffn).toBe(0x77n);
      }),
      { numRuns: 60 },
    );
  });
});
