/** Interrupt remapping and posting (VT-d 5): requests in, messages or faults out. */
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { DescriptorType as T, IEC_DESCRIPTOR } from "../spec/descriptors.js";
import { IRTE_POSTED, IRTE_REMAPPED, POSTED_INTERRUPT_DESCRIPTOR } from "../spec/interrupts.js";
import { TranslationTableMode as TTM } from "../spec/entries.js";
import { Reg } from "../spec/registers.js";
import { AT, type BenchOptions, COMMAND, RID, UnitBench } from "./unit.test-support.js";

type Fields = Readonly<Record<string, number | bigint>>;

let bench: UnitBench;

/** @param table bits of IRTA beside the address: EIME 0x800, S */
function use(table = 0xf, options: BenchOptions = {}): void {
  bench = new UnitBench(options);
  bench.write(Reg.IRTA, BigInt(AT.INTERRUPTS | table));
  bench.command(COMMAND.SIRTP);
  bench.command(COMMAND.IRE);
}
const irte = (index: number, fields: Fields): void => bench.put(IRTE_REMAPPED, AT.INTERRUPTS + index * 16, { P: 1, ...fields });
const postedEntry = (index: number, fields: Fields = {}): void => bench.put(IRTE_POSTED, AT.INTERRUPTS + index * 16, { P: 1, IM: 1, VV: 0x61, PDAL: AT.POSTED >> 6, ...fields });
const poke = (index: number, low: bigint, high = 0n): void => {
  const at = AT.INTERRUPTS + index * 16;
  bench.memory.writeU64(at, bench.memory.readU64(at)! | low);
  bench.memory.writeU64(at + 8, bench.memory.readU64(at + 8)! | high);
};
/** Remappable format (5.1.2.2). */
const request = (handle: number, subhandle?: number, rid = RID): boolean =>
  bench.unit.interrupt(rid, 0xfee0_0010n | BigInt((handle & 0x7fff) << 5) | (handle >> 15 !== 0 ? 4n : 0n) | (subhandle === undefined ? 0n : 8n), subhandle ?? 0xdead_beef);
const fault = (index = 0): { reason: number; index: number } | undefined => {
  const record = bench.record(index);
  return record && { reason: record.reason, index: Number(record.low >> 48n) };
};

describe("remapping", () => {
  beforeEach(() => use());

  it("makes the message that the entry says: vector, mode, trigger, destination, hints; xAPIC has 8 bits of destination", () => {
    irte(5, { V: 0x41, DST: 0x2300 });
    expect(request(5)).toBe(true);
    irte(6, { V: 0x42, DST: 0xff00, DM: 1, RH: 1, TM: 1, DLM: 1 });
    request(6);
    expect(bench.messages).toEqual([{ address: 0xfee2_3000n, data: 0x4041 }, { address: 0xfeef_f00cn, data: 0xc142 }]);
  });

  it("corner 56: x2APIC has 32 bits of destination, in the upper address too; EIME counts when SIRTP latches it", () => {
    irte(5, { V: 0x41, DST: 0x1234_5678 });
    bench.write(Reg.IRTA, BigInt(AT.INTERRUPTS | 0x80f));
    expect(request(5)).toBe(false);
    expect(fault()).toEqual({ reason: 0x24, index: 5 });
    bench.command(COMMAND.SIRTP);
    expect(request(5)).toBe(true);
    expect(bench.messages).toEqual([{ address: 0x1234_5600_fee7_8000n, data: 0x4041 }]);
  });

  it("corner 56: the index is handle + subhandle, past 64K too; without SHV the data does not matter", () => {
    irte(0x8005, { V: 0x41 });
    expect(request(0x8000, 5)).toBe(true);
    expect(request(0x8005)).toBe(true);
    expect(request(0xffff, 1)).toBe(false);
    expect(fault()?.reason).toBe(0x21);
    expect(bench.messages).toHaveLength(2);
  });

  it.each([
    ["reserved data with a subhandle", () => request(5, 0x1_0005), 0x20, 0],
    ["an index beyond the table", () => request(0x800), 0x21, 0x800],
    ["an entry that is not present", () => request(6), 0x22, 6],
    ["a reserved bit in the entry", () => (poke(5, 1n << 12n), request(5)), 0x24, 5],
    ["a reserved bit in its upper half", () => (poke(5, 0n, 1n << 20n), request(5)), 0x24, 5],
    ["reserved delivery mode 3", () => (poke(5, 3n << 5n), request(5)), 0x24, 5],
    ["a wide destination in xAPIC mode", () => (poke(5, 1n << 32n), request(5)), 0x24, 5],
    ["compatibility format", () => bench.unit.interrupt(RID, 0xfee0_0000n, 0x41), 0x25, 0],
    ["another requester", () => (poke(5, 0n, (1n << 18n) | 0x99n), request(5)), 0x26, 5],
    ["a write of 8 bytes", () => bench.unit.interrupt(RID, 0xfee0_0010n, 0, 8), 0x29, 0],
    ["a write that is not aligned", () => bench.unit.interrupt(RID, 0xfee0_0012n, 0), 0x29, 0],
  ])("corner 56: %s is blocked and recorded, with its index where there is one", (_name, run, reason, index) => {
    use(0xa);
    irte(5, { V: 0x41 });
    expect(run()).toBe(false);
    expect([fault(), bench.messages]).toEqual([{ reason, index }, []]);
  });

  it("an entry that cannot be read is 23h; one above the host's addresses is 21h", () => {
    for (const [at, reason] of [[0x7f_0000_0000n, 0x23], [1n << 48n, 0x21]] as const) {
      use();
      bench.write(Reg.IRTA, at | 0xfn);
      bench.command(COMMAND.SIRTP);
      request(1);
      expect(fault()?.reason).toBe(reason);
    }
  });

  it("corner 57: FPD keeps qualified faults from the record, in an entry that is not present too; and only those", () => {
    bench.memory.writeU64(AT.INTERRUPTS + 5 * 16, 2n);
    expect(request(5)).toBe(false);
    irte(6, { FPD: 1 });
    poke(6, 1n << 24n);
    expect(request(6)).toBe(false);
    irte(7, { FPD: 1, SVT: 1, SID: 9 });
    expect(request(7)).toBe(false);
    expect(fault()).toBeUndefined();
    bench.unit.interrupt(RID, 0xfee0_0000n, 0);
    expect(fault()?.reason).toBe(0x25);
  });

  it.each([
    ["no check", { SVT: 0, SID: 0x99 }, [0x18, 0xffff], []],
    ["all bits", { SVT: 1, SQ: 0, SID: 0x18 }, [0x18], [0x19, 0x1c]], ["all but bit 2", { SVT: 1, SQ: 1, SID: 0x18 }, [0x18, 0x1c], [0x19, 0x1a]],
    ["all but bits 2:1", { SVT: 1, SQ: 2, SID: 0x18 }, [0x18, 0x1a, 0x1e], [0x19]], ["all but bits 2:0", { SVT: 1, SQ: 3, SID: 0x18 }, [0x18, 0x1f], [0x20]],
    ["a range of buses", { SVT: 2, SID: 0x0305 }, [0x0300, 0x05ff], [0x02ff, 0x0600]], ["the reserved check", { SVT: 3, SID: 0x18 }, [], [0x18]],
  ])("corner 56: source validation, %s", (_name, fields, allowed, refused) => {
    irte(5, { V: 0x41, ...fields });
    for (const rid of allowed) expect(request(5, undefined, rid)).toBe(true);
    for (const rid of refused) expect(request(5, undefined, rid)).toBe(false);
  });

  it("the source comes before reserved bits, or after them by choice (5.1.4)", () => {
    for (const [reservedBeforeSource, reason] of [[false, 0x26], [true, 0x24]] as const) {
      use(0xf, { reservedBeforeSource });
      irte(5, { SVT: 1, SID: 0x99 });
      poke(5, 1n << 24n);
      request(5);
      expect(fault()?.reason).toBe(reason);
    }
  });

  it("corner 56: compatibility format passes with CFI, but never in x2APIC mode", () => {
    const compatible = (): boolean => bench.unit.interrupt(RID, 0xfee0_1000n, 0x31);
    expect(compatible()).toBe(false);
    bench.command(COMMAND.CFI);
    expect(bench.status() & COMMAND.CFI).toBe(COMMAND.CFI);
    expect(compatible()).toBe(true);
    expect(bench.messages).toEqual([{ address: 0xfee0_1000n, data: 0x31 }]);
    use(0x80f);
    bench.command(COMMAND.CFI);
    expect([compatible(), fault()?.reason]).toEqual([false, 0x25]);
  });

  it("corner 56: with remapping off every message passes as it is, unless it is required; x2APIC mode may be required too", () => {
    bench = new UnitBench();
    expect(request(5)).toBe(true);
    expect(bench.messages).toEqual([{ address: 0xfee0_00b0n, data: 0xdead_beef }]);
    bench = new UnitBench({ fields: { IRREQ: 1 } });
    expect([request(5), fault()?.reason]).toEqual([false, 0x2b]);
    use(0xf, { fields: { EIMER: 1 } });
    expect([request(5), fault()?.reason]).toEqual([false, 0x2a]);
    use(0x80f, { fields: { EIMER: 1 } });
    irte(5, {});
    expect(request(5)).toBe(true);
  });

  it("the unit's own messages are not remapped", () => {
    bench.write(Reg.FEADDR, 0xfee0_1000n, 4);
    bench.write(Reg.FEDATA, 0x31n, 4);
    bench.write(Reg.FECTL, 0n, 4);
    request(5);
    expect(bench.messages).toEqual([{ address: 0xfee0_1000n, data: 0x31 }]);
  });

  it("what is no interrupt address is left alone", () => {
    expect(bench.unit.interrupt(RID, 0xfed0_0010n, 0)).toBe(false);
    expect(bench.unit.interrupt(RID, 0x1_fee0_0010n, 0)).toBe(false);
    expect(fault()).toBeUndefined();
  });

  it("corner 58: a word written there without PASID is never translated, even where the tables map it", () => {
    bench.scalableTables();
    bench.start(TTM.SCALABLE);
    expect(bench.dma(0xfee00, 2)).toBe(0xfee00);
    expect(bench.dma(0xfee00, 1)).toBe(-1);
    expect(fault()?.reason).toBe(0x29);
  });
});

it("a read of the interrupt range is refused with translation off, too, while remapping is on (3.14)", () => {
  use();
  expect([bench.dma(0xfee00), fault()?.reason, bench.dma(0xfee00, 2), bench.dma(0xfef00)]).toEqual([-1, 0x29, 0xfee00, 0xfef00]);
  bench.write(Reg.GCMD, 0n, 4);
  expect(bench.dma(0xfee00)).toBe(0xfee00);
});

describe("the interrupt entry cache", () => {
  beforeEach(() => use());
  const invalidate = (fields: Fields): void => expect(bench.submit(IEC_DESCRIPTOR, T.IEC, fields)).toBe(0);
  /** Entries 0 to 15 with vector 0x40 + index; then, in memory only, with vector 0x80 + index. */
  const fill = (): void => {
    for (let i = 0; i < 16; i++) irte(i, { V: 0x40 + i });
    for (let i = 0; i < 16; i++) request(i);
    for (let i = 0; i < 16; i++) irte(i, { V: 0x80 + i });
    bench.messages.length = 0;
  };
  const fresh = (): number[] => {
    bench.messages.length = 0;
    for (let i = 0; i < 16; i++) request(i);
    return bench.messages.flatMap(({ data }, i) => ((data & 0xff) >= 0x80 ? [i] : []));
  };

  it("keeps entries until they are invalidated: all, one, or those that differ in the masked bits", () => {
    bench.startQueue(false);
    fill();
    expect(fresh()).toEqual([]);
    invalidate({ G: 1, IIDX: 5 });
    expect(fresh()).toEqual([5]);
    invalidate({ G: 1, IIDX: 10, IM: 2 });
    expect(fresh()).toEqual([5, 8, 9, 10, 11]);
    invalidate({ G: 0 });
    expect(fresh()).toHaveLength(16);
  });

  it("keeps none that faulted, and checks the source of one that it holds", () => {
    irte(5, { V: 0x41, SVT: 1, SID: RID });
    request(5);
    expect(request(5, undefined, 0x99)).toBe(false);
    expect(fault()?.reason).toBe(0x26);
    request(6);
    irte(6, { V: 0x42 });
    expect(request(6)).toBe(true);
  });

  it.each([[1, 16], [0, 0]])("is emptied by SIRTP and by turning remapping off with ESIRTPS=%i only", (ESIRTPS, count) => {
    for (const off of [false, true]) {
      use(0xf, { fields: { ESIRTPS } });
      fill();
      if (off) bench.write(Reg.GCMD, 0n, 4);
      else bench.command(COMMAND.SIRTP);
      bench.command(COMMAND.IRE);
      expect(fresh()).toHaveLength(count);
    }
  });

  it("has a size of its own", () => {
    use(0xf, { interruptEntries: 4 });
    fill();
    expect(fresh().length).toBeGreaterThanOrEqual(12);
    use(0xf, { interruptEntries: 0 });
    fill();
    expect(fresh()).toHaveLength(16);
    expect(() => new UnitBench({ interruptEntries: 3 })).toThrow(RangeError);
  });
});

describe("posting (corner 56, VT-d 5.2.3)", () => {
  const descriptor = (fields: Fields): void => bench.put(POSTED_INTERRUPT_DESCRIPTOR, AT.POSTED, { NV: 0xf2, NDST: 0x300, ...fields });
  const word = (i: number): bigint => bench.memory.readU64(AT.POSTED + 8 * i) ?? -1n;
  beforeEach(() => {
    use();
    descriptor({});
    postedEntry(5);
  });

  it("sets the vector's bit and ON, and notifies once", () => {
    expect(request(5)).toBe(true);
    expect([word(1), word(4) & 3n]).toEqual([1n << 0x21n, 1n]);
    expect(bench.messages).toEqual([{ address: 0xfee0_3000n, data: 0x40f2 }]);
    postedEntry(6, { VV: 0xff });
    request(6);
    expect([word(3), bench.messages.length]).toEqual([1n << 63n, 1]);
  });

  it.each([[0, 0, 0, true], [1, 0, 0, false], [0, 1, 0, false], [0, 1, 1, true], [1, 1, 1, false], [1, 0, 1, false]])("ON=%i SN=%i URG=%i: notifies: %s", (ON, SN, URG, notified) => {
    descriptor({ ON, SN });
    postedEntry(5, { URG });
    expect(request(5)).toBe(true);
    expect(word(1)).toBe(1n << 0x21n);
    expect([word(4) & 1n, bench.messages.length]).toEqual([BigInt(ON | Number(notified)), Number(notified)]);
  });

  it("goes to a destination of 32 bits in x2APIC mode", () => {
    use(0x80f);
    descriptor({ NDST: 0x0a0b_0c0d });
    postedEntry(5);
    request(5);
    expect(bench.messages).toEqual([{ address: 0x0a0b_0c00_fee0_d000n, data: 0x40f2 }]);
  });

  it.each([
    ["a descriptor outside memory", () => postedEntry(5, { PDAH: 0x7f }), 0x27], ["one above the host's addresses", () => postedEntry(5, { PDAH: 0x1_0000 }), 0x24],
    ["a reserved bit in it", () => bench.memory.writeU64(AT.POSTED + 56, 1n), 0x28], ["a reserved bit beside ON", () => descriptor({ ON: 1, NDST: 0x1_0000 }), 0x28],
    ["a reserved bit in the entry", () => poke(5, 4n), 0x24],
  ])("%s is a fault, and leaves the descriptor as it was", (_name, change, reason) => {
    change();
    expect(request(5)).toBe(false);
    expect([fault(), word(1), bench.messages]).toEqual([{ reason, index: 5 }, 0n, []]);
  });

  it("is reserved without CAP.PI", () => {
    use(0xf, { fields: { PI: 0 } });
    postedEntry(5);
    expect([request(5), fault()?.reason]).toEqual([false, 0x24]);
  });
});

it("interrupts survive any entries, addresses and data", () => {
  fc.assert(
    fc.property(
      fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: 64, maxLength: 64 }),
      fc.array(fc.record({ rid: fc.integer({ min: 0, max: 0xffff }), address: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), data: fc.integer({ min: 0, max: 2 ** 32 - 1 }), length: fc.constantFrom(1, 2, 4, 4, 4, 8, 64), near: fc.boolean() }), { maxLength: 40 }),
      fc.integer({ min: 0, max: 0xfff }),
      (words, requests, table) => {
        use(table & 0x80f);
        for (const [i, value] of words.entries()) bench.memory.writeU64(AT.INTERRUPTS + i * 8, i % 3 === 0 ? value : value & 0x0000_ffff_00ff_80ffn);
        for (const { rid, address, data, length, near } of requests) {
          bench.unit.interrupt(rid, near ? 0xfee0_0000n | (address & 0x3f7n) : address, data, length);
        }
        for (const { address } of bench.messages) expect(address & 0xfff0_0000n).toBe(0xfee0_0000n);
      },
    ),
    { numRuns: 300 },
  );
});
