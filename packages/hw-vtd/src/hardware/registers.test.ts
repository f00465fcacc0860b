/** Registers and commands (VT-d 11.4): the corner cases that a register file without rules misses. */
import { Access } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { TranslationTableMode as TTM } from "../spec/entries.js";
import { IOTLB_DESCRIPTOR, CC_DESCRIPTOR, DescriptorType, QueueError } from "../spec/descriptors.js";
import { Fsts, Prs, Reg } from "../spec/registers.js";
import { AT, COMMAND, RID, UnitBench } from "./unit.test-support.js";

const ALL = 0xffff_ffff_ffff_ffffn;

describe("access to registers (VT-d 11.2, 11.3)", () => {
  it.each([
    ["PMEN and the regions", { PLMR: 0, PHMR: 0 }, [Reg.PMEN, Reg.PLMBASE, Reg.PLMLIMIT, Reg.PHMBASE, Reg.PHMLIMIT]],
    ["the interrupt remapping table address", { IR: 0, PI: 0 }, [Reg.IRTA]],
    ["page request registers", { PRS: 0 }, [Reg.PQH, Reg.PQT, Reg.PQA, Reg.PECTL, Reg.PEDATA, Reg.PEADDR, Reg.PEUADDR]],
    ["upper message addresses", { EIM: 0 }, [Reg.FEUADDR, Reg.IEUADDR, Reg.PEUADDR]],
    ["what nothing has", {}, [0x58, 0x100, 0x300, 0x400, 0xe00]],
  ] as const)("%s are reserved without their capability", (_name, fields, registers) => {
    const bench = new UnitBench({ fields });
    for (const register of registers) {
      bench.write(register, 0xffff_ffffn, 4);
      expect(bench.read(register, 4)).toBe(0n);
    }
  });

  it.each([
    ["RTADDR", Reg.RTADDR, 0xffff_ffff_ffff_fc00n, 0n], ["IQT", Reg.IQT, 0x7fff0n, 0n], ["IQA", Reg.IQA, 0xffff_ffff_ffff_f807n, 0n], ["IRTA", Reg.IRTA, 0xffff_ffff_ffff_f80fn, 0n],
    ["PQH", Reg.PQH, 0x7ffe0n, 0n], ["PQT", Reg.PQT, 0x7ffe0n, 0n], ["PQA", Reg.PQA, 0xffff_ffff_ffff_f007n, 0n], ["PLMBASE", Reg.PLMBASE, 0xfff0_0000n, 0n],
    ["PHMBASE", Reg.PHMBASE, 0xffff_fff0_0000n, 0n], ["FECTL", Reg.FECTL, 0x8000_0000n, 0x8000_0000n], ["IECTL", Reg.IECTL, 0x8000_0000n, 0x8000_0000n],
    ["PECTL", Reg.PECTL, 0x8000_0000n, 0x8000_0000n], ["FEADDR", Reg.FEADDR, 0xffff_fffcn, 0n], ["PEDATA", Reg.PEDATA, 0xffffn, 0n], ["GCMD, which is write-only", Reg.GCMD, 0n, 0n],
    ["IVA, which is write-only", 0xf0, 0n, 0n], ["FSTS", Reg.FSTS, 0n, 0n], ["PRS", Reg.PRS, 0n, 0n], ["ICS", Reg.ICS, 0n, 0n], ["IQH", Reg.IQH, 0n, 0n], ["IQERCD", Reg.IQERCD, 0n, 0n],
  ] as const)("%s stores its own bits only, after its reset value", (_name, register, stored, reset) => {
    const bench = new UnitBench();
    const size = bench.unit.bank.at(register)?.width ?? 8;
    expect(bench.read(register, size)).toBe(reset);
    bench.write(register, ALL, size);
    expect(bench.read(register, size)).toBe(stored);
  });

  it("has SSIRWE in RTADDR with the capability only, and EIME in IRTA", () => {
    for (const [fields, root, interrupts] of [[{ SSIRWS: 1 }, 0xc80n, 0x80fn], [{ EIM: 0 }, 0xc00n, 0xfn]] as const) {
      const bench = new UnitBench({ fields });
      bench.write(Reg.RTADDR, 0xfffn);
      bench.write(Reg.IRTA, 0xfffn);
      expect([bench.read(Reg.RTADDR), bench.read(Reg.IRTA)]).toEqual([root, interrupts]);
    }
  });

  it("takes an 8-byte register in halves, in either order", () => {
    const bench = new UnitBench();
    bench.write(Reg.RTADDR + 4, 0x1234n, 4);
    bench.write(Reg.RTADDR, 0x5678_9400n, 4);
    expect(bench.read(Reg.RTADDR)).toBe(0x1234_5678_9400n);
    bench.write(Reg.RTADDR, 1n, 2);
    expect(bench.read(Reg.RTADDR)).toBe(0x1234_5678_9400n);
  });
});

describe("GCMD and GSTS (VT-d 11.4.4)", () => {
  it("corner 1: RTADDR is latent until SRTP, and reads as it was written (6.6)", () => {
    const bench = new UnitBench();
    bench.scalableTables();
    bench.start(TTM.SCALABLE);
    expect(bench.dma()).toBe(AT.PAGES >> 12);
    bench.write(Reg.RTADDR, 0x7_0000n | 0x400n);
    expect(bench.read(Reg.RTADDR)).toBe(0x7_0400n);
    expect(bench.dma()).toBe(AT.PAGES >> 12);
    expect(bench.status() & COMMAND.SRTP).toBe(COMMAND.SRTP);
    bench.command(COMMAND.SRTP);
    expect(bench.dma()).toBe(-1);
  });

  it("corner 2: one-shots that come back with every command run again; WBFS is 1 only while flushing", () => {
    const bench = new UnitBench();
    bench.scalableTables();
    bench.write(Reg.RTADDR, BigInt(AT.ROOT) | 0x400n);
    // A driver that writes GSTS back as it is.
    bench.write(Reg.GCMD, COMMAND.SRTP | COMMAND.SIRTP | COMMAND.WBF, 4);
    expect(bench.status()).toBe(COMMAND.SRTP | COMMAND.SIRTP);
    bench.write(Reg.GCMD, bench.status() | COMMAND.TE, 4);
    expect(bench.status()).toBe(COMMAND.SRTP | COMMAND.SIRTP | COMMAND.TE);
    expect(bench.dma()).toBe(AT.PAGES >> 12);
    bench.write(Reg.RTADDR, 0x7_0400n);
    bench.write(Reg.GCMD, bench.status() | COMMAND.IRE, 4);
    expect(bench.dma()).toBe(-1);
  });

  it.each([[0, AT.PAGES >> 12], [1, -1]])("corner 3: SRTP with ESRTPS=%i flushes, or leaves stale entries of use (6.6)", (flushes, expected) => {
    const bench = new UnitBench({ fields: { ESRTPS: flushes } });
    bench.scalableTables();
    bench.start(TTM.SCALABLE);
    bench.dma();
    bench.write(Reg.RTADDR, 0x7_0400n);
    bench.command(COMMAND.SRTP);
    expect(bench.dma()).toBe(expected);
  });

  it.each([["legacy", AT.PAGES >> 12], ["scalable", AT.PAGES >> 12 | 1]])("corner 3: turning translation off flushes a scalable-mode unit only: %s (11.4.4.1)", (preset, expected) => {
    const bench = new UnitBench({ preset });
    if (preset === "legacy") bench.legacyTables();
    else bench.scalableTables();
    bench.start(preset === "legacy" ? TTM.LEGACY : TTM.SCALABLE);
    expect(bench.dma()).toBe(AT.PAGES >> 12);
    bench.memory.writeU64(AT.SECOND + 0x3000 + 5 * 8, BigInt(AT.PAGES + 4096) | 3n);
    bench.write(Reg.GCMD, bench.status() & 0x7fff_ffffn & 0x96ff_ffffn, 4);
    expect(bench.dma()).toBe(5);
    bench.command(COMMAND.TE);
    expect(bench.dma()).toBe(expected);
  });

  it.each([
    [TTM.RESERVED, 1, true, QueueError.RESERVED_MODE], [TTM.ABORT, 1, true, QueueError.NONE], [TTM.ABORT, 1, false, QueueError.INVALID_WIDTH],
    [TTM.SCALABLE, 0, true, QueueError.INVALID_WIDTH], [TTM.SCALABLE, 1, false, QueueError.INVALID_WIDTH],
  ])("corner 4: mode %i, SMTS=%i, wide=%s does not fail SRTP, but queue and DMA", (mode, smts, wide, error) => {
    const bench = new UnitBench({ fields: smts === 1 ? {} : { SMTS: 0, ADMS: 0, PRS: 0 } });
    bench.scalableTables();
    bench.start(mode);
    expect(bench.status() & COMMAND.SRTP).toBe(COMMAND.SRTP);
    bench.startQueue(wide);
    expect(bench.submit(CC_DESCRIPTOR, DescriptorType.CC, { G: 1 })).toBe(error);
    if (mode !== TTM.SCALABLE || smts === 0) expect(bench.dma()).toBe(-1);
    if (mode === TTM.ABORT) expect(bench.record(0)?.reason).toBe(0x33);
    else if (mode === TTM.RESERVED || smts === 0) expect(bench.record(0)?.reason).toBe(0x30);
  });

  it("keeps the mode while translation is on, without ESRTPS (6.6)", () => {
    for (const [flushes, reason] of [[0, 0x39], [1, 0x33]] as const) {
      const bench = new UnitBench({ fields: { ESRTPS: flushes } });
      bench.start(TTM.SCALABLE);
      bench.write(Reg.RTADDR, BigInt(AT.ROOT) | 0xc00n);
      bench.command(COMMAND.SRTP);
      bench.dma();
      expect(bench.record(0)?.reason).toBe(reason);
    }
  });

  it("corner 46: turning the queue off puts the head back to 0; turning it on with a tail starts at once (6.5.2)", () => {
    const bench = new UnitBench();
    bench.start(TTM.SCALABLE);
    bench.startQueue();
    for (let i = 0; i < 3; i++) bench.submit(CC_DESCRIPTOR, DescriptorType.CC, { G: 1 });
    expect(bench.read(Reg.IQH)).toBe(0x60n);
    bench.write(Reg.GCMD, COMMAND.TE, 4);
    expect(bench.read(Reg.IQH)).toBe(0n);
    expect(bench.read(Reg.IQT)).toBe(0x60n);
    bench.command(COMMAND.QIE);
    expect(bench.read(Reg.IQH)).toBe(0x60n);
  });
});

describe("register-based invalidation (VT-d 6.5.1)", () => {
  const CCMD_GLOBAL = (1n << 63n) | (1n << 61n);
  const IVT = 1n << 63n;
  const fill = (options: ConstructorParameters<typeof UnitBench>[0] = {}): UnitBench => {
    const bench = new UnitBench({ preset: "legacy", ...options });
    bench.legacyTables();
    bench.start(TTM.LEGACY);
    expect(bench.dma()).toBe(AT.PAGES >> 12);
    bench.memory.writeU64(AT.SECOND + 0x3000 + 5 * 8, BigInt(AT.PAGES + 4096) | 3n);
    return bench;
  };
  const MOVED = (AT.PAGES >> 12) + 1;
  const granularity = (bench: UnitBench): number => Number((bench.read(0xf8) >> 57n) & 3n);

  it("corner 5: fires on the top byte only", () => {
    const bench = fill();
    bench.write(0xf8, (1n << 60n) & 0xffff_ffffn, 4);
    expect(bench.dma()).not.toBe(MOVED);
    bench.write(0xfc, 0x9000_0000n, 4);
    expect(bench.read(0xf8) >> 63n).toBe(0n);
    expect(granularity(bench)).toBe(1);
    expect(bench.dma()).toBe(MOVED);
  });

  it("corner 5: does a page, a domain, everything, and says which", () => {
    for (const [kind, address, did, done, moved] of [
      [3n, 5n << 12n, 1n, 3, true], [3n, 6n << 12n, 1n, 3, false], [3n, (4n << 12n) | 1n, 1n, 3, true], [3n, 5n << 12n, 2n, 3, false],
      [3n, (5n << 12n) | 19n, 1n, 0, false], [2n, 0n, 1n, 2, true], [2n, 0n, 2n, 2, false], [1n, 0n, 0n, 1, true], [0n, 0n, 1n, 0, false],
    ] as const) {
      const bench = fill();
      bench.write(0xf0, address);
      bench.write(0xf8, IVT | (kind << 60n) | (did << 32n));
      expect(granularity(bench)).toBe(done);
      expect(bench.dma() === MOVED).toBe(moved);
    }
  });

  it("corner 5: is refused in scalable mode, from major version 6 on, and while the queue is on", () => {
    const refused = (bench: UnitBench): void => {
      bench.write(0xf8, IVT | (1n << 60n));
      bench.write(Reg.CCMD, CCMD_GLOBAL);
      expect([granularity(bench), Number((bench.read(Reg.CCMD) >> 59n) & 3n)]).toEqual([0, 0]);
      expect(bench.read(Reg.CCMD) >> 63n).toBe(0n);
      expect(bench.dma()).not.toBe(MOVED);
    };
    refused(fill({ version: 0x60 }));
    const queued = fill();
    queued.startQueue(false);
    refused(queued);
    const scalable = new UnitBench({ version: 0x50 });
    scalable.scalableTables();
    scalable.start(TTM.SCALABLE);
    scalable.dma();
    scalable.memory.writeU64(AT.SECOND + 0x3000 + 5 * 8, BigInt(AT.PAGES + 4096) | 3n);
    refused(scalable);
  });

  it("corner 5: widens a page to its domain without PSI", () => {
    const bench = fill({ fields: { PSI: 0 } });
    bench.write(0xf0, 9n << 12n);
    bench.write(0xf8, IVT | (3n << 60n) | (1n << 32n));
    expect(granularity(bench)).toBe(2);
    expect(bench.dma()).toBe(MOVED);
  });

  it("keeps FM and SID to itself, which are write-only", () => {
    const bench = fill();
    bench.write(Reg.CCMD, CCMD_GLOBAL | 0x3_abcd_0002n);
    expect(bench.read(Reg.CCMD)).toBe((1n << 61n) | (1n << 59n) | 2n);
  });
});

describe("protected memory (corner 55, VT-d 11.4.8)", () => {
  const protect = (bench: UnitBench, base: bigint, limit: bigint): void => {
    bench.write(Reg.PLMBASE, base, 4);
    bench.write(Reg.PLMLIMIT, limit, 4);
    bench.write(Reg.PMEN, 0x8000_0000n, 4);
  };

  it("blocks without a record, translated or not, up to the end of the last megabyte", () => {
    const bench = new UnitBench();
    bench.scalableTables();
    protect(bench, BigInt(AT.PAGES), BigInt(AT.PAGES));
    expect(bench.read(Reg.PMEN, 4)).toBe(0x8000_0001n);
    expect(bench.dma(AT.PAGES >> 12)).toBe(-1);
    expect(bench.dma((AT.PAGES >> 12) + 255)).toBe(-1);
    expect(bench.dma((AT.PAGES >> 12) + 256)).toBe((AT.PAGES >> 12) + 256);
    expect(bench.dma((AT.PAGES >> 12) - 1)).toBe((AT.PAGES >> 12) - 1);
    bench.start(TTM.SCALABLE);
    expect(bench.dma()).toBe(-1);
    expect(bench.unit.ats?.translated(RID, -1, AT.PAGES >> 12, Access.READ)).toBe(-1);
    expect(bench.read(Reg.FSTS, 4)).toBe(0n);
    bench.write(Reg.PMEN, 0n, 4);
    expect(bench.read(Reg.PMEN, 4)).toBe(0n);
    expect(bench.dma()).toBe(AT.PAGES >> 12);
  });

  it("passes what is translated on parts before major version 2, and a region whose limit lies below its base", () => {
    const old = new UnitBench({ preset: "legacy", fields: { PLMR: 1 } });
    old.legacyTables();
    protect(old, BigInt(AT.PAGES), BigInt(AT.PAGES));
    expect(old.dma(AT.PAGES >> 12)).toBe(-1);
    old.start(TTM.LEGACY);
    expect(old.dma()).toBe(AT.PAGES >> 12);
    const off = new UnitBench();
    protect(off, 0x100_0000n, 0x20_0000n); // the high region is the first megabyte
    for (const page of [0x200, 0x300, 0x1000]) expect(off.dma(page)).toBe(page);
  });

  it("has a high region of its own, and lets the unit reach its tables in it", () => {
    const bench = new UnitBench();
    bench.scalableTables();
    bench.start(TTM.SCALABLE);
    bench.write(Reg.PHMBASE, 0n);
    bench.write(Reg.PHMLIMIT, 0n);
    // PLM from 0 to the end of the first megabyte is on too.
    bench.write(Reg.PMEN, 0x8000_0000n, 4);
    expect(bench.dma()).toBe(AT.PAGES >> 12);
    bench.write(Reg.PMEN, 0n, 4);
    bench.write(Reg.PHMLIMIT, BigInt(AT.PAGES));
    bench.write(Reg.PMEN, 0x8000_0000n, 4);
    expect(bench.dma()).toBe(-1);
  });
});

describe("events (corner 47, VT-d 7.3)", () => {
  const arm = (bench: UnitBench, control: number, data: bigint): void => {
    bench.write(control + 4, data, 4);
    bench.write(control + 8, 0xfee0_5000n, 4);
    bench.write(control + 12, 0x100n, 4);
  };
  const pending = (bench: UnitBench, control: number): boolean => (bench.read(control, 4) & 0x4000_0000n) !== 0n;

  it("a masked event is pending, is sent when unmasked, and once only while the condition stands", () => {
    const bench = new UnitBench();
    bench.start(TTM.SCALABLE);
    arm(bench, Reg.FECTL, 0x55n);
    bench.dma();
    expect([bench.messages.length, pending(bench, Reg.FECTL)]).toEqual([0, true]);
    bench.write(Reg.FECTL, 0n, 4);
    expect(bench.messages).toEqual([{ address: 0x100_fee0_5000n, data: 0x55 }]);
    expect(pending(bench, Reg.FECTL)).toBe(false);
    bench.dma();
    bench.startQueue();
    bench.submit(IOTLB_DESCRIPTOR, DescriptorType.IOTLB, { G: 0 });
    expect(bench.messages).toHaveLength(1);
  });

  it("clearing every condition drops a pending message; clearing some does not", () => {
    const bench = new UnitBench();
    bench.start(TTM.SCALABLE);
    bench.dma();
    bench.startQueue();
    bench.submit(IOTLB_DESCRIPTOR, DescriptorType.IOTLB, { G: 0 });
    bench.clearRecord(0);
    expect(pending(bench, Reg.FECTL)).toBe(true);
    bench.push(CC_DESCRIPTOR, DescriptorType.CC, { G: 1 });
    bench.put(CC_DESCRIPTOR, AT.QUEUE, { type: 1, G: 1 });
    bench.write(Reg.FSTS, BigInt(Fsts.IQE), 4);
    expect(pending(bench, Reg.FECTL)).toBe(false);
    bench.write(Reg.FECTL, 0n, 4);
    expect(bench.messages).toEqual([]);
  });

  it("an overflow alone sends nothing, but holds the others back", () => {
    const bench = new UnitBench({ fields: { NFR: 0 } });
    bench.start(TTM.SCALABLE);
    bench.write(Reg.FECTL, 0n, 4);
    bench.dma();
    bench.dma();
    expect(bench.read(Reg.FSTS, 4) & 3n).toBe(3n);
    expect(bench.messages).toHaveLength(1);
    bench.clearRecord(0);
    expect(bench.read(Reg.FSTS, 4) & 3n).toBe(1n);
    bench.startQueue();
    bench.submit(IOTLB_DESCRIPTOR, DescriptorType.IOTLB, { G: 0 });
    expect(bench.messages).toHaveLength(1);
  });

  it("page requests have one of their own, that is masked after reset", () => {
    const bench = new UnitBench();
    bench.scalableTables();
    bench.start(TTM.SCALABLE);
    bench.write(Reg.PQA, BigInt(AT.PAGE_REQUESTS));
    const ask = (): void => bench.unit.ats?.requestPage({ rid: RID, pasid: 7, page: 9, access: Access.READ, group: 1, last: true });
    ask();
    expect([bench.messages.length, pending(bench, Reg.PECTL), bench.read(Reg.PRS, 4)]).toEqual([0, true, BigInt(Prs.PPR)]);
    bench.write(Reg.PRS, BigInt(Prs.PPR), 4);
    expect(pending(bench, Reg.PECTL)).toBe(false);
    bench.write(Reg.PECTL, 0n, 4);
    ask();
    ask();
    expect(bench.messages).toHaveLength(1);
  });
});
