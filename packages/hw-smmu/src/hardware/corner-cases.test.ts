/** Corner cases of the manual, by section: what a model easily misses. */
import { Access } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { LEAF1, LEAF2, Rig } from "../reference/rig.js";
import { identify, UNITS } from "../reference/units.js";
import { CD, Cr0, Gbpa, Gerror, Reg, STE } from "../spec/index.js";

const full = UNITS["with everything"];
const qemu = UNITS["as QEMU's"];
/** SubstreamIDs, and 44 bits of output and intermediate addresses. */
const narrow = identify(1, { S2P: 1n, S1P: 1n, TTF: 2n, TTENDIAN: 2n, ST_LEVEL: 1n, STALL_MODEL: 1n }, { SIDSIZE: 16n, SSIDSIZE: 4n, CMDQS: 8n, EVENTQS: 8n }, { HAD: 1n, XNX: 1n }, { OAS: 4n, GRAN4K: 1n });
const PAGE = 0x100;
const OUT = 0x500;
const HIGH = 2 ** 40;
const WRITE = { access: Access.WRITE };
const FETCH = { access: Access.READ | Access.EXECUTE };
const PRIVILEGED = { access: Access.READ | Access.PRIVILEGED };
const UXN = 1 << 22;
const PXN = 1 << 21;
const DBM = 1 << 19;

function stage1Rig(leafLo = LEAF1, leafHi = 0, cd = {}, ste = {}, id = full): Rig {
  const rig = new Rig(id);
  rig.stage1.map(PAGE, OUT, 1, leafLo, leafHi);
  rig.stage1Stream({ IPS: id === full ? 6 : 4, ...cd }, ste);
  return rig.start();
}

describe("registers (6.3)", () => {
  it("guarded registers stay read-only until the acknowledgement is off, and a second write to a field in flight is ignored (6.3.9, corner case 1)", () => {
    const rig = new Rig(full, { updateReads: 2 });
    rig.write(Reg.CR0, Cr0.CMDQEN);
    rig.write(Reg.CMDQ_BASE, 0, 8);
    expect(rig.read(Reg.CMDQ_BASE, 8)).not.toBe(0);
    rig.write(Reg.CR0, 0);
    expect(rig.read(Reg.CR0)).toBe(Cr0.CMDQEN);
    expect([rig.read(Reg.CR0ACK), rig.read(Reg.CR0ACK)]).toEqual([0, Cr0.CMDQEN]);
    rig.write(Reg.CR0, 0);
    rig.write(Reg.CMDQ_BASE, 0, 8);
    expect(rig.read(Reg.CMDQ_BASE, 8)).not.toBe(0);
    rig.read(Reg.CR0ACK);
    rig.read(Reg.CR0ACK);
    rig.write(Reg.CMDQ_BASE, 0, 8);
    expect(rig.read(Reg.CMDQ_BASE, 8)).toBe(0);
  });

  it("fields of absent features are not mirrored", () => {
    const rig = new Rig(qemu);
    rig.write(Reg.CR0, 0x1ff);
    expect(rig.read(Reg.CR0ACK)).toBe(0xd);
  });

  it("a 64-bit register may be written in halves, and other sizes read 0", () => {
    const rig = new Rig();
    rig.write(Reg.STRTAB_BASE, 0x1234_5000);
    rig.write(Reg.STRTAB_BASE + 4, 0x4000_0012);
    expect(rig.unit.read(Reg.STRTAB_BASE, 8)).toBe(0x4000_0012_1234_5000n);
    expect(rig.read(Reg.STRTAB_BASE, 2)).toBe(0);
    expect(rig.read(0x3000)).toBe(0);
  });

  it("guards of tables, queues and interrupts; PRIQEN guards by itself (6.3, corner cases 2 and 49)", () => {
    const rig = new Rig().start(Cr0.PRIQEN);
    rig.write(Reg.IRQ_CTRL, 7);
    for (const [register, size] of [[Reg.STRTAB_BASE, 8], [Reg.STRTAB_BASE_CFG, 4], [Reg.CR1, 4], [Reg.CR2, 4], [Reg.EVENTQ_BASE, 8], [Reg.PRIQ_BASE, 8], [Reg.CMDQ_CONS, 4], [Reg.EVENTQ_PROD, 4], [Reg.GERROR_IRQ_CFG0, 8], [Reg.EVENTQ_IRQ_CFG1, 4], [Reg.PRIQ_IRQ_CFG2, 4]] as const) {
      const before = rig.read(register, size);
      rig.write(register, 0x3c0, size);
      expect(rig.read(register, size), `register 0x${register.toString(16)}`).toBe(before);
    }
    // PRIQEN itself guards: SMMUEN = 0 is not enough (6.3.33).
    rig.write(Reg.CR0, Cr0.PRIQEN);
    const base = rig.read(Reg.PRIQ_BASE, 8);
    rig.write(Reg.PRIQ_BASE, 0x1_0000, 8);
    expect(rig.read(Reg.PRIQ_BASE, 8)).toBe(base);
    rig.write(Reg.CR0, 0);
    rig.write(Reg.PRIQ_BASE, 0x1_0000, 8);
    expect(rig.read(Reg.PRIQ_BASE, 8)).toBe(0x1_0000);
  });

  it("GBPA takes a write with Update only (6.3.14, corner case 47)", () => {
    const rig = new Rig();
    rig.write(Reg.GBPA, Gbpa.ABORT);
    expect(rig.read(Reg.GBPA)).toBe(0);
    expect(rig.dma(PAGE)).toBe(PAGE);
    rig.write(Reg.GBPA, Gbpa.UPDATE + Gbpa.ABORT);
    expect(rig.read(Reg.GBPA)).toBe(Gbpa.ABORT);
    expect(rig.dma(PAGE)).toBe(-1);
  });

  it("an error that is active is not told again, and the interrupt comes with it (6.3.18, corner case 48)", () => {
    const lines: string[] = [];
    const rig = new Rig(full, { onWire: (line) => lines.push(line) }).start();
    rig.write(Reg.IRQ_CTRL, 1);
    rig.command("SYNC", { CS: 1, MSIAddress: 2n ** 38n });
    rig.command("SYNC", { CS: 1, MSIAddress: 2n ** 38n });
    expect(rig.gerror(Gerror.MSI_CMDQ_ABT_ERR)).toBe(true);
    expect(lines).toEqual(["gerror"]);
    rig.write(Reg.GERRORN, rig.read(Reg.GERROR));
    expect(rig.gerror(Gerror.MSI_CMDQ_ABT_ERR)).toBe(false);
    rig.command("SYNC", { CS: 1, MSIAddress: 2n ** 38n });
    expect(rig.gerror(Gerror.MSI_CMDQ_ABT_ERR)).toBe(true);
  });

  it("turning translation off leaves TLBs and configuration caches as they are (6.3.9, corner case 3)", () => {
    const rig = stage1Rig();
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.memory.clear(rig.steAddress(1), 64);
    rig.stage1.unmap(PAGE, 1);
    rig.stop();
    expect(rig.dma(PAGE)).toBe(PAGE);
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
  });
});

describe("bypass and sizes (3.4)", () => {
  it("SMMUEN=0: beyond the output size is an abort without an event, and a SubstreamID is no reason to fail (3.4, corner cases 5 and 8)", () => {
    const rig = new Rig();
    rig.write(Reg.CR0, Cr0.CMDQEN | Cr0.EVENTQEN);
    expect([rig.dma(PAGE, { substream: 3 }), rig.dma(HIGH)]).toEqual([PAGE, -1]);
    expect(rig.events()).toEqual([]);
  });

  it("Config=100: beyond the output size is a stage-1 F_ADDR_SIZE, CLASS=IN; a SubstreamID is C_BAD_SUBSTREAMID (3.4, 7.3.9, corner cases 5 and 8)", () => {
    const rig = new Rig().ste({ Config: 4 }).start();
    expect(rig.dma(PAGE)).toBe(PAGE);
    expect(rig.dma(HIGH)).toBe(-1);
    expect(rig.event().fields).toMatchObject({ S2: 0, CLASS: 2, RnW: 1 });
    expect(rig.dma(PAGE, { substream: 3 })).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "C_BAD_SUBSTREAMID", fields: { SubstreamID: 3 } });
  });

  it("stage 2 alone: input beyond the intermediate size is a stage-1 F_ADDR_SIZE that S2R does not silence, below it a stage-2 F_TRANSLATION (3.4, corner case 6)", () => {
    const rig = new Rig(qemu);
    rig.ste(rig.stage2Fields({ S2T0SZ: 25, S2SL0: 1, S2PS: 4, S2R: 0 })).start();
    expect(rig.dma(2 ** 32)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_ADDR_SIZE", fields: { S2: 0 } });
    expect(rig.dma(2 ** 31)).toBe(-1);
    expect(rig.events()).toEqual([]);
    rig.ste(rig.stage2Fields({ S2T0SZ: 25, S2SL0: 1, S2PS: 4 }));
    rig.command("CFGI_STE", { StreamID: 1 });
    rig.dma(2 ** 31, { offset: 0x123 });
    expect(rig.event()).toMatchObject({ name: "F_TRANSLATION", fields: { S2: 1, CLASS: 2, IPA: 2 ** 43 } });
  });

  it("stage 1 past by S1DSS: the intermediate size counts, and other SubstreamIDs still have their CDs (5.2, corner case 10)", () => {
    const rig = new Rig(narrow);
    rig.stage1.map(PAGE, OUT, 1, LEAF1);
    const table = rig.frames.alloc();
    rig.put(table + 64, CD, rig.cdFields({ IPS: 4 }));
    rig.ste({ S1ContextPtr: BigInt(table) >> 6n, S1CDMax: 2, S1DSS: 1 }).start();
    expect(rig.dma(PAGE)).toBe(PAGE);
    expect(rig.dma(PAGE, { substream: 1 })).toBe(OUT);
    expect(rig.dma(2 ** 33)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_ADDR_SIZE", fields: { S2: 0 } });
  });

  it("stage 2 bypassed: an intermediate address beyond the output size is cut off (3.4, corner case 7)", () => {
    // 40 bits of intermediate addresses come with AArch32 tables, whatever the output size.
    const rig = new Rig({ ...narrow, idr0: narrow.idr0 | 4, idr5: (narrow.idr5 & ~7) | 1 });
    const table = rig.frames.alloc();
    rig.ste({ S1ContextPtr: BigInt(table) >> 6n, S1CDMax: 1, S1DSS: 1 }).start();
    expect([rig.dma(2 ** 25 + PAGE), rig.dma(2 ** 28)]).toEqual([PAGE, -1]);
    expect(rig.names()).toEqual(["F_ADDR_SIZE"]);
  });

  it("the input address is recorded whole, tag and offset included (7.3, corner case 50)", () => {
    const rig = new Rig();
    rig.stage1Stream({ TBI0: 1 });
    rig.start();
    expect(rig.dma(0x5a * 2 ** 44 + 7, { offset: 0x123 })).toBe(-1);
    expect(rig.event().words[2]).toBe(0x5a00_0000_0000_7123n);
  });
});

describe("streams and substreams (3.3, 5.2)", () => {
  it("C_BAD_STREAMID aborts always and is recorded with RECINVSID only (7.3.3, corner case 12)", () => {
    for (const [cr2, names] of [[0, []], [2, ["C_BAD_STREAMID"]]] as const) {
      const rig = new Rig();
      rig.write(Reg.CR2, cr2);
      rig.start();
      expect(rig.dma(PAGE, { stream: 64 })).toBe(-1);
      expect(rig.names()).toEqual(names);
    }
  });

  it("Span 0 and 12 to 31 are invalid, and so is one above SPLIT + 1 (5.1, corner case 11)", () => {
    for (const [span, split, good] of [[0, 6, false], [12, 6, false], [31, 10, false], [8, 6, false], [7, 6, true], [11, 10, true], [1, 6, false]] as const) {
      const rig = new Rig();
      const [table, level2] = [rig.frames.alloc(), rig.frames.alloc(16)];
      rig.put(level2 + 64, STE, { V: 1, Config: 4 });
      rig.l1Stream(table, { Span: span, L2Ptr: BigInt(level2) >> 6n });
      rig.write(Reg.STRTAB_BASE, table, 8);
      rig.write(Reg.STRTAB_BASE_CFG, 12 | (split << 6) | (1 << 16));
      rig.start();
      expect(rig.dma(PAGE), `Span ${span}, SPLIT ${split}`).toBe(good ? PAGE : -1);
      expect(rig.names()).toEqual(good ? [] : ["C_BAD_STREAMID"]);
    }
  });

  it("the base is aligned by the literal LOG2SIZE, the range by the capped one (6.3.24, corner case 11)", () => {
    const rig = new Rig();
    const table = rig.frames.alloc(1);
    rig.put(64, STE, { V: 1, Config: 4 });
    rig.write(Reg.STRTAB_BASE, table, 8);
    rig.write(Reg.STRTAB_BASE_CFG, 50);
    rig.start();
    // Everything below bit 56 is cut off: the table is at 0.
    expect(rig.dma(PAGE)).toBe(PAGE);
    expect(rig.dma(PAGE, { stream: 2 ** 16 })).toBe(-1);
    expect(rig.names()).toEqual(["C_BAD_STREAMID"]);
  });

  it("fetches from nowhere: F_STE_FETCH, F_CD_FETCH with the address", () => {
    const rig = new Rig();
    rig.write(Reg.STRTAB_BASE, 2n ** 40n, 8);
    rig.start();
    rig.dma(PAGE);
    expect(rig.event()).toMatchObject({ name: "F_STE_FETCH", fields: { FetchAddr: 2 ** 40 + 64 } });
    const other = new Rig().ste({ S1ContextPtr: 2n ** 34n }).start();
    other.dma(PAGE);
    expect(other.event()).toMatchObject({ name: "F_CD_FETCH", fields: { FetchAddr: 2 ** 40 } });
  });

  it("S1DSS counts with S1CDMax > 0 only, and value 2 disables SubstreamID 0 (5.2, corner case 9)", () => {
    const table = (dss: number, max: number): string[] => {
      const rig = new Rig();
      rig.stage1.map(PAGE, OUT, 1, LEAF1);
      const at = rig.frames.alloc();
      for (const index of [0, 1]) rig.put(at + index * 64, CD, rig.cdFields());
      rig.ste({ S1ContextPtr: BigInt(at) >> 6n, S1CDMax: max, S1DSS: dss }).start();
      return [undefined, 0, 1, 4].map((substream) => {
        const page = rig.dma(PAGE, substream === undefined ? {} : { substream });
        return page === -1 ? rig.names().join() : page === PAGE ? "bypass" : "translates";
      });
    };
    expect(table(0, 0)).toEqual(["translates", "C_BAD_SUBSTREAMID", "C_BAD_SUBSTREAMID", "C_BAD_SUBSTREAMID"]);
    expect(table(0, 2)).toEqual(["F_STREAM_DISABLED", "translates", "translates", "C_BAD_SUBSTREAMID"]);
    expect(table(3, 2)).toEqual(["F_STREAM_DISABLED", "translates", "translates", "C_BAD_SUBSTREAMID"]);
    expect(table(1, 2)).toEqual(["bypass", "translates", "translates", "C_BAD_SUBSTREAMID"]);
    expect(table(2, 2)).toEqual(["translates", "F_STREAM_DISABLED", "translates", "C_BAD_SUBSTREAMID"]);
  });

  it("an invalid level-1 descriptor is C_BAD_SUBSTREAMID, with 4K and 64K leaves (5.3)", () => {
    for (const S1Fmt of [1, 2]) {
      const rig = new Rig();
      const table = rig.frames.alloc();
      rig.ste({ S1ContextPtr: BigInt(table) >> 6n, S1CDMax: 12, S1Fmt, S1DSS: 2 }).start();
      expect(rig.dma(PAGE, { substream: 5 })).toBe(-1);
      expect(rig.names()).toEqual(["C_BAD_SUBSTREAMID"]);
    }
  });

  it("two streams share translations when VMID, ASID and regime agree, and not when VMIDs differ (5.2, 3.17, corner case 19)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1 | 0x800);
    for (const [stream, S2VMID] of [[1, 3], [2, 3], [3, 4]]) rig.stage1Stream({}, { S2VMID }, stream);
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.stage1.unmap(PAGE, 1);
    expect([2, 3].map((stream) => rig.dma(PAGE, { stream }))).toEqual([OUT, -1]);
  });

  it("a global entry serves every ASID with the same ASET, in its regime (3.17, corner case 20)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1);
    rig.stage1Stream({ ASID: 1, ASET: 1 }, {}, 1);
    rig.stage1Stream({ ASID: 2, ASET: 1 }, {}, 2);
    rig.stage1Stream({ ASID: 1, ASET: 0 }, {}, 3);
    rig.stage1Stream({ ASID: 1, ASET: 1 }, { STRW: 2 }, 4);
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.stage1.unmap(PAGE, 1);
    expect([1, 2, 3, 4].map((stream) => rig.dma(PAGE, { stream }))).toEqual([OUT, OUT, -1, -1]);
  });

  it("PRIVCFG and INSTCFG change what is asked and what is recorded; writes stay data (5.2, corner case 29)", () => {
    const rig = stage1Rig(LEAF1 & ~0x40, UXN | PXN, {}, { PRIVCFG: 3, INSTCFG: 3 });
    expect(rig.dma(PAGE, WRITE)).toBe(OUT);
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_PERMISSION", fields: { PnU: 1, InD: 1, RnW: 1 } });
    const user = stage1Rig(LEAF1 & ~0x40, 0, {}, { PRIVCFG: 2 });
    expect(user.dma(PAGE, PRIVILEGED)).toBe(-1);
    expect(user.event().fields).toMatchObject({ PnU: 0 });
  });

  it("EL2 without E2H: one privilege level, no ASID, no upper half (5.4, corner case 18)", () => {
    const rig = stage1Rig(LEAF1 & ~0x40, PXN, { EPD0: 1, T1SZ: 16, TG1: 2, EPD1: 0, PAN: 1 }, { STRW: 2 });
    expect([rig.dma(PAGE), rig.dma(PAGE, WRITE), rig.dma(PAGE, FETCH), rig.dma(PAGE, PRIVILEGED)]).toEqual([OUT, OUT, OUT, OUT]);
    expect(rig.dma(2 ** 52 - 1)).toBe(-1);
    expect(rig.names()).toEqual(["F_TRANSLATION"]);
  });
});

describe("stage 1 (3.4.1, DDI0487 D8)", () => {
  it("the gap between the halves faults, and TBI ignores the top byte in both", () => {
    const rig = new Rig();
    const upper = rig.table({ granule: 0, outputBits: 48, ds: false, wide: false });
    rig.stage1.map(PAGE, OUT, 1, LEAF1);
    upper.map(PAGE, OUT + 1, 1, LEAF1);
    rig.stage1Stream({ EPD1: 0, T0SZ: 16, T1SZ: 16, TG1: 2, TTB1: BigInt(upper.root) >> 4n });
    rig.stage1Stream({ EPD1: 0, T0SZ: 16, T1SZ: 16, TG1: 2, TTB1: BigInt(upper.root) >> 4n, TBI0: 1, TBI1: 1, ASID: 10 }, {}, 2);
    rig.start();
    const high = 2 ** 52 - 2 ** 36 + PAGE;
    const tag = 0x55 * 2 ** 44;
    const pages = [PAGE, high, 2 ** 36 + PAGE, high - 2 ** 36, PAGE + tag, high - tag];
    expect(pages.map((page) => rig.dma(page))).toEqual([OUT, OUT + 1, -1, -1, -1, -1]);
    expect(pages.map((page) => rig.dma(page, { stream: 2 }))).toEqual([OUT, OUT + 1, -1, -1, OUT, OUT + 1]);
    expect(new Set(rig.names())).toEqual(new Set(["F_TRANSLATION"]));
  });

  it("E0PD faults unprivileged accesses, cached or not (5.4, corner case 17)", () => {
    const rig = stage1Rig(LEAF1, 0, { E0PD0: 1 });
    expect(rig.dma(PAGE, PRIVILEGED)).toBe(OUT);
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.names()).toEqual(["F_TRANSLATION"]);
  });

  it("level-3 descriptor 01 and blocks where none are allowed are F_TRANSLATION (D8.3, corner case 23)", () => {
    const rig = stage1Rig();
    rig.change(rig.leaf(rig.stage1, PAGE), 0n, 2n);
    expect(rig.dma(PAGE)).toBe(-1);
    rig.change(rig.stage1.root, 0n, 2n);
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.names()).toEqual(["F_TRANSLATION", "F_TRANSLATION"]);
  });

  it("a table beyond the output size is F_ADDR_SIZE, CLASS=IN, before access and permission (7.3.14, 7.3.22, corner case 24)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, 2 ** 21, 1, 0);
    rig.stage1Stream({ IPS: 0 });
    rig.start();
    expect(rig.dma(PAGE, WRITE)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_ADDR_SIZE", fields: { S2: 0, CLASS: 2, RnW: 0 } });
    rig.change(rig.stage1.root, 1n << 40n);
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.names()).toEqual(["F_ADDR_SIZE"]);
  });

  it("F_ACCESS before F_PERMISSION, and AFFD takes it away", () => {
    const rig = stage1Rig(0);
    expect(rig.dma(PAGE, WRITE)).toBe(-1);
    expect(rig.names()).toEqual(["F_ACCESS"]);
    const ignored = stage1Rig(0, 0, { AFFD: 1 });
    expect(ignored.dma(PAGE)).toBe(-1);
    expect(ignored.names()).toEqual(["F_PERMISSION"]);
  });

  it("an absent descriptor under a read-only table is F_TRANSLATION for a write (7.3.22)", () => {
    const rig = stage1Rig();
    rig.change(rig.stage1.root, 2n << 61n);
    expect(rig.dma(PAGE + 1, WRITE)).toBe(-1);
    expect(rig.dma(PAGE, WRITE)).toBe(-1);
    expect(rig.names()).toEqual(["F_TRANSLATION", "F_PERMISSION"]);
    expect(rig.dma(PAGE)).toBe(OUT);
  });

  it("HAD takes the tables' restrictions away (5.4, corner case 29)", () => {
    const rig = stage1Rig(LEAF1, 0, { HAD0: 1 });
    rig.change(rig.stage1.root, 31n << 59n);
    expect([rig.dma(PAGE, WRITE), rig.dma(PAGE, FETCH)]).toEqual([OUT, OUT]);
  });

  it("execute-only pages, UXN, and unprivileged write against privileged execute (D8.4, corner case 29)", () => {
    const xo = stage1Rig(LEAF1 & ~0x40);
    expect([xo.dma(PAGE, FETCH), xo.dma(PAGE)]).toEqual([OUT, -1]);
    const data = stage1Rig(LEAF1, UXN);
    expect([data.dma(PAGE), data.dma(PAGE, FETCH)]).toEqual([OUT, -1]);
    expect(data.event().fields).toMatchObject({ InD: 1, RnW: 1 });
    const privilegedFetch = { access: FETCH.access | Access.PRIVILEGED };
    expect([stage1Rig(LEAF1).dma(PAGE, privilegedFetch), stage1Rig(LEAF1 | 0x80).dma(PAGE, privilegedFetch)]).toEqual([-1, OUT]);
  });

  it("WXN counts a writable-clean page as writable (D8.4, corner case 29)", () => {
    const readOnly = LEAF1 | 0x80;
    expect(stage1Rig(readOnly, DBM, { WXN: 1 }).dma(PAGE, FETCH)).toBe(OUT);
    expect(stage1Rig(readOnly, DBM, { WXN: 1, HA: 1, HD: 1 }).dma(PAGE, FETCH)).toBe(-1);
  });

  it("PAN, and EPAN for executable pages (8.1)", () => {
    expect(stage1Rig(LEAF1, 0, { PAN: 1 }).dma(PAGE, PRIVILEGED)).toBe(-1);
    expect(stage1Rig(LEAF1 & ~0x40, 0, { PAN: 1 }).dma(PAGE, PRIVILEGED)).toBe(OUT);
    expect(stage1Rig(LEAF1 & ~0x40, 0, { PAN: 1, EPAN: 1 }).dma(PAGE, PRIVILEGED)).toBe(-1);
    expect(stage1Rig(LEAF1 & ~0x40, UXN, { PAN: 1, EPAN: 1 }).dma(PAGE, PRIVILEGED)).toBe(OUT);
  });

  it("an atomic access: write is looked at first, RnW=1 when only the right to read is missing (7.3.16, corner case 30)", () => {
    const atomic = { access: Access.READ | Access.WRITE };
    const readOnly = stage1Rig(LEAF1 | 0x80);
    readOnly.dma(PAGE, atomic);
    expect(readOnly.event().fields).toMatchObject({ RnW: 0 });
    const rig = new Rig();
    rig.stage2.map(PAGE, OUT, 1, LEAF2 & ~0x40);
    rig.ste(rig.stage2Fields()).start();
    expect(rig.dma(PAGE, atomic)).toBe(-1);
    expect(rig.event().fields).toMatchObject({ RnW: 1, S2: 1 });
  });

  it("big-endian tables beside little-endian structures (5.2, 5.4, corner case 51)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1);
    rig.stage1Stream({ ENDI: 1, HA: 1 });
    const swap = (at: number): void => {
      const bytes = new Uint8Array(8);
      rig.memory.read(at, bytes);
      rig.memory.write(at, bytes.reverse());
    };
    let table = rig.stage1.root;
    for (let level = 3; level >= 0; level--) {
      const at = level === 0 ? table + PAGE * 8 : table;
      const next = Number((rig.memory.readU64(at) ?? 0n) & 0xffff_f000n);
      if (level === 0) rig.change(at, 0n, 0x400n);
      swap(at);
      if (level > 0) table = next;
    }
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    // AF of the leaf, set in its own byte order.
    expect((rig.memory.readU64(table + PAGE * 8) ?? 0n) & (0x400n << 40n)).toBe(0x400n << 40n);
  });

  it("F_WALK_EABT at stage 1: S2=0, CLASS=TT, the descriptor's address (7.3.12, corner case 26)", () => {
    const rig = stage1Rig();
    rig.memory.writeU64(rig.stage1.root, (1n << 36n) | 3n);
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_WALK_EABT", fields: { S2: 0, CLASS: 1, FetchAddr: 2 ** 36 } });
  });

  it("64K pages with 52-bit addresses, 4K with LPA2 (D8.3, corner case 23)", () => {
    const output = 0x9 * 2 ** 36 + 0x40;
    const wide = new Rig();
    const tables = wide.table({ granule: 1, outputBits: 52, ds: false, wide: true });
    tables.map(0x100, output, 16, LEAF1);
    wide.stage1Stream({ T0SZ: 16, TG0: 1, TTB0: BigInt(tables.root) >> 4n });
    expect(wide.start().dma(0x105)).toBe(output + 5);
    const lpa = new Rig();
    const small = lpa.table({ granule: 0, outputBits: 52, ds: true, wide: true });
    small.map(0x100, output, 1, LEAF1);
    lpa.stage1Stream({ T0SZ: 16, DS: 1, TTB0: BigInt(small.root) >> 4n });
    expect(lpa.start().dma(0x100)).toBe(output);
  });
});

describe("stage 2 and nesting (7.8)", () => {
  it("concatenated start tables are one table with a wide index (D8.2, corner case 23)", () => {
    const rig = new Rig();
    const tables = rig.frames.alloc(16);
    const second = rig.table({ granule: 0, outputBits: 48, ds: false, wide: false });
    second.map(PAGE, OUT, 1, LEAF2);
    // 40-bit input at level 1: two tables. The second one's entry 0 leads to what `second` has below its first gigabyte entry.
    const level1 = Number((rig.memory.readU64(second.root) ?? 0n) & 0xffff_ffff_f000n);
    rig.memory.writeU64(tables + 4096, rig.memory.readU64(level1) ?? 0n);
    rig.ste(rig.stage2Fields({ S2T0SZ: 24, S2SL0: 1, S2TTB: BigInt(tables) >> 4n })).start();
    expect([rig.dma(2 ** 27 + PAGE), rig.dma(PAGE)]).toEqual([OUT, -1]);
  });

  it("each descriptor of stage 1 goes through stage 2 on its own, and the other half's table is not touched (3.3, corner case 25)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, PAGE, 1, LEAF1);
    rig.nestedStream({ EPD1: 0, T1SZ: 16, TG1: 2, TTB1: 2n ** 36n });
    rig.start();
    expect(rig.dma(PAGE)).toBe(PAGE);
    expect(rig.dma(2 ** 52 - 1)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_TRANSLATION", fields: { S2: 1, CLASS: 1 } });
  });

  it("a 64K table of stage 1 that stage 2 has in 4K pieces (3.3, corner case 25)", () => {
    const rig = new Rig();
    const tables = rig.table({ granule: 1, outputBits: 48, ds: false, wide: true });
    tables.map(0x2000 * 16, 0x100, 16, LEAF1); // second entry page of the level-3 table
    tables.map(0x1f00 * 16, 0x200, 16, LEAF1);
    const entry = tables.root;
    rig.nestedStream({ TG0: 1, TTB0: BigInt(entry) >> 4n });
    const level2 = Number((rig.memory.readU64(entry) ?? 0n) & 0xffff_ffff_0000n);
    const level3 = Number((rig.memory.readU64(level2) ?? 0n) & 0xffff_ffff_0000n);
    // The last page of the level-3 table lies elsewhere in memory than its first.
    const moved = rig.frames.alloc();
    const bytes = new Uint8Array(4096);
    const last = level3 + 15 * 4096;
    rig.memory.read(last, bytes);
    rig.memory.write(moved, bytes);
    rig.memory.clear(last, 4096);
    rig.stage2.unmap(last / 4096, 1);
    rig.stage2.map(last / 4096, moved / 4096, 1, LEAF2);
    rig.start();
    expect(rig.dma(0x1f00 * 16)).toBe(0x200);
  });

  it("a stage-2 fault in a stage-1 walk: S2=1, CLASS=TT, IPA of the descriptor, InputAddr of the access (7.3.13, corner case 26)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, PAGE, 1, LEAF1);
    rig.nestedStream();
    const leaf = rig.leaf(rig.stage1, PAGE);
    rig.stage2.unmap(Math.floor(leaf / 4096), 1);
    rig.start();
    expect(rig.dma(PAGE, { ...WRITE, offset: 8 })).toBe(-1);
    const { name, fields, words } = rig.event();
    expect(name).toBe("F_TRANSLATION");
    expect(fields).toMatchObject({ S2: 1, CLASS: 1, IPA: Math.floor(leaf / 4096) * 4096, RnW: 0 });
    expect(words[2]).toBe(BigInt(PAGE) * 4096n + 8n);
  });

  it("a stage-2 fault on the CD: CLASS=CD, and S2R decides on it (7.3.13, corner case 26)", () => {
    for (const S2R of [1, 0]) {
      const rig = new Rig();
      const cd = rig.nestedStream({}, { S2R });
      rig.stage2.unmap(cd / 4096, 1);
      rig.start();
      expect(rig.dma(PAGE)).toBe(-1);
      const records = rig.events();
      expect(records.map(({ name }) => name)).toEqual(S2R === 1 ? ["F_TRANSLATION"] : []);
      if (S2R === 1) expect(records[0].fields).toMatchObject({ S2: 1, CLASS: 0, IPA: cd });
    }
  });

  it("stage-1 output beyond S2T0SZ is a stage-2 F_TRANSLATION, beyond IPS a stage-1 F_ADDR_SIZE (3.4, corner case 24)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, 2 ** 33, 1, LEAF1);
    rig.nestedStream({}, { S2T0SZ: 25, S2SL0: 1 });
    const level1 = Number((rig.memory.readU64(rig.stage2.root) ?? 0n) & 0xffff_ffff_f000n);
    rig.nestedStream({}, { S2T0SZ: 25, S2SL0: 1, S2TTB: BigInt(level1) >> 4n });
    rig.start();
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_TRANSLATION", fields: { S2: 1, CLASS: 2, IPA: 2 ** 45 } });
  });

  it("S2PTW: a table in Device memory is a stage-2 F_PERMISSION with TTRnW=1 (5.2, corner case 27)", () => {
    for (const [S2PTW, result] of [[1, -1], [0, PAGE]] as const) {
      const rig = new Rig();
      rig.stage1.map(PAGE, PAGE, 1, LEAF1);
      rig.nestedStream({}, { S2PTW });
      const page = Math.floor(rig.leaf(rig.stage1, PAGE) / 4096);
      rig.stage2.unmap(page, 1);
      rig.stage2.map(page, page, 1, LEAF2 & ~0x3c);
      rig.start();
      expect(rig.dma(PAGE)).toBe(result);
      if (result === -1) expect(rig.event()).toMatchObject({ name: "F_PERMISSION", fields: { S2: 1, CLASS: 1, TTRnW: 1 } });
    }
  });

  it("F_WALK_EABT at stage 2 has the CLASS of what was translated", () => {
    const rig = new Rig();
    rig.ste(rig.stage2Fields()).start();
    rig.memory.writeU64(rig.stage2.root, (1n << 36n) | 3n);
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_WALK_EABT", fields: { S2: 1, CLASS: 2, FetchAddr: 2 ** 36 } });
  });

  it("XNX: execution by privilege (8.2)", () => {
    for (const [xn, user, privileged] of [[0, OUT, OUT], [1, OUT, -1], [2, -1, -1], [3, -1, OUT]]) {
      const rig = new Rig();
      rig.stage2.map(PAGE, OUT, 1, LEAF2, xn << 21);
      rig.ste(rig.stage2Fields()).start();
      expect([rig.dma(PAGE, FETCH), rig.dma(PAGE, { access: FETCH.access | Access.PRIVILEGED })], `XN ${xn}`).toEqual([user, privileged]);
    }
  });
});

describe("updates of flags (3.13, corner case 28)", () => {
  const AF = 0x400n;
  const AP2 = 0x80n;

  it("HA sets AF and takes F_ACCESS away; a denied access sets nothing", () => {
    const rig = stage1Rig(0x40, 0, { HA: 1 });
    const leaf = rig.leaf(rig.stage1, PAGE);
    expect(rig.dma(PAGE)).toBe(OUT);
    expect((rig.memory.readU64(leaf) ?? 0n) & AF).toBe(AF);
    const denied = stage1Rig(0xc0, 0, { HA: 1 });
    expect(denied.dma(PAGE, WRITE)).toBe(-1);
    expect((denied.memory.readU64(denied.leaf(denied.stage1, PAGE)) ?? 0n) & AF).toBe(0n);
  });

  it("HD clears AP[2] on a write, not on a read, and the page stays writable for the cache", () => {
    const rig = stage1Rig(LEAF1 | 0x80, DBM, { HA: 1, HD: 1 });
    const leaf = rig.leaf(rig.stage1, PAGE);
    expect(rig.dma(PAGE)).toBe(OUT);
    expect((rig.memory.readU64(leaf) ?? 0n) & AP2).toBe(AP2);
    expect(rig.dma(PAGE, WRITE)).toBe(OUT);
    expect((rig.memory.readU64(leaf) ?? 0n) & AP2).toBe(0n);
    rig.stage1.unmap(PAGE, 1);
    expect(rig.dma(PAGE, WRITE)).toBe(OUT);
  });

  it("a table's APTable is a reason to fault, not to dirty", () => {
    const rig = stage1Rig(LEAF1 | 0x80, DBM, { HA: 1, HD: 1 });
    rig.change(rig.stage1.root, 2n << 61n);
    expect(rig.dma(PAGE, WRITE)).toBe(-1);
    expect((rig.memory.readU64(rig.leaf(rig.stage1, PAGE)) ?? 0n) & AP2).toBe(AP2);
  });

  it("stage 2 sets S2AP[1]; without HD the write faults", () => {
    for (const [S2HD, result] of [[1, OUT], [0, -1]]) {
      const rig = new Rig();
      rig.stage2.map(PAGE, OUT, 1, LEAF2 & ~0x480, DBM);
      rig.ste(rig.stage2Fields({ S2HA: 1, S2HD })).start();
      expect(rig.dma(PAGE, WRITE)).toBe(result);
      expect((rig.memory.readU64(rig.leaf(rig.stage2, PAGE)) ?? 0n) & 0x480n).toBe(result === OUT ? 0x480n : 0n);
    }
  });

  it("an update of stage 1 needs the right to write its page in stage 2: F_PERMISSION, CLASS=TT, TTRnW=0", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, PAGE, 1, 0x40);
    rig.nestedStream({ HA: 1 });
    const page = Math.floor(rig.leaf(rig.stage1, PAGE) / 4096);
    rig.stage2.unmap(page, 1);
    rig.stage2.map(page, page, 1, LEAF2 & ~0x80);
    rig.start();
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_PERMISSION", fields: { S2: 1, CLASS: 1, TTRnW: 0, RnW: 1, IPA: page * 4096 } });
  });

  it("reading a CD sets AF of its page in stage 2 and never makes it dirty", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, PAGE, 1, LEAF1);
    const cd = rig.nestedStream({}, { S2HA: 1, S2HD: 1 });
    rig.stage2.unmap(cd / 4096, 1);
    rig.stage2.map(cd / 4096, cd / 4096, 1, LEAF2 & ~0x480, DBM);
    rig.start();
    expect(rig.dma(PAGE, WRITE)).toBe(PAGE);
    expect((rig.memory.readU64(rig.leaf(rig.stage2, cd / 4096)) ?? 0n) & 0x480n).toBe(0x400n);
  });

  it("an entry with AF=0 is not cached (8.4)", () => {
    const rig = stage1Rig(0x40);
    rig.dma(PAGE);
    expect(rig.names()).toEqual(["F_ACCESS"]);
    rig.change(rig.leaf(rig.stage1, PAGE), AF);
    expect(rig.dma(PAGE)).toBe(OUT);
  });

  it("HAFT: tables get AF before the leaf", () => {
    const id = UNITS["with table access flags"];
    const rig = new Rig(id);
    rig.stage1.map(PAGE, OUT, 1, 0x40);
    rig.stage1Stream({ IPS: 5, HA: 1, HAFT: 1 });
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    let table = rig.stage1.root;
    for (let level = 3; level > 0; level--) {
      const word = rig.memory.readU64(table) ?? 0n;
      expect(word & AF).toBe(AF);
      table = Number(word & 0xffff_ffff_f000n);
    }
  });
});
