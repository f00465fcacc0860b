/** Corner cases that lie between parts: registers and caches, ATS and configuration, invalidation and lookups (CORNER-CASES.md). */
import { Access, CompletionStatus, NO_PASID, StallEnd, TranslationCompletion } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { LEAF1, LEAF2, Rig, type Values } from "../reference/rig.js";
import { identify, UNITS } from "../reference/units.js";
import { CD, CommandError, Cr0, Gerror, Reg, STE } from "../spec/index.js";
import { DEFAULT_CACHES, type SmmuUnitOptions } from "./index.js";

const full = UNITS["with everything"];
const PAGE = 0x100;
const OUT = 0x500;
const ALL_QUEUES = Cr0.CMDQEN | Cr0.EVENTQEN | Cr0.PRIQEN;
const NG = 0x800;

function mapped(cd: Values = {}, ste: Values = {}, options: Partial<SmmuUnitOptions> = {}, id = full): Rig {
  const rig = new Rig(id, options);
  rig.stage1.map(PAGE, OUT, 1, LEAF1 | NG);
  rig.stage1Stream(cd, ste);
  return rig;
}

describe("registers and queues", () => {
  it("PRIQEN is acknowledged with SMMUEN=0, where page requests are failures all the same (6.3.9, corner case 2)", () => {
    const rig = new Rig();
    const codes: number[] = [];
    rig.unit.ats?.connectEndpoint(1, { invalidate: () => {}, respond: ({ code }) => codes.push(code) });
    const ask = (): void => rig.unit.ats?.requestPage({ rid: 1, pasid: NO_PASID, page: PAGE, access: Access.READ, group: 1, last: true });
    rig.write(Reg.PRIQ_BASE, BigInt(rig.frames.alloc()) | 4n, 8);
    rig.write(Reg.CR0, ALL_QUEUES);
    expect(rig.read(Reg.CR0ACK) & Cr0.PRIQEN).toBe(Cr0.PRIQEN);
    ask();
    expect([rig.read(Reg.PRIQ_PROD), codes]).toEqual([0, [15]]);
    rig.write(Reg.CR0, ALL_QUEUES | Cr0.SMMUEN);
    ask();
    expect([rig.read(Reg.PRIQ_PROD), codes]).toEqual([1, [15]]);
  });

  it("turning translation off aborts what is stalled, gives its STAG back, and leaves the caches: stale entries live on (6.3.9, corner case 3)", () => {
    const ends: number[] = [];
    const rig = mapped({ S: 1 }, {}, { onStallEnd: (_, end) => ends.push(end) }).start();
    expect([rig.dma(PAGE), rig.dma(PAGE + 1)]).toEqual([OUT, -1]);
    const [{ fields: { STAG: stag } }] = rig.events();
    rig.stage1.unmap(PAGE, 1);
    rig.stop();
    expect([ends, rig.unit.stalls.size]).toEqual([[StallEnd.ABORT], 0]);
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.command("RESUME", { StreamID: 1, STAG: stag, Ac: 1 });
    expect(ends).toEqual([StallEnd.ABORT]);
  });

  it("with SMMUEN=0 CMD_ATC_INV and CMD_PRI_RESP are ignored, but illegal where the unit has no ATS (4.5, corner case 4)", () => {
    const none = identify(1, { S1P: 1n, TTF: 2n, TTENDIAN: 2n, STALL_MODEL: 1n }, { SIDSIZE: 6n, CMDQS: 8n, EVENTQS: 8n }, { HAD: 1n }, { OAS: 4n, GRAN4K: 1n });
    for (const [id, error] of [[full, 0], [none, CommandError.ILL]] as const) {
      for (const name of ["ATC_INV", "PRI_RESP"]) {
        const rig = new Rig(id);
        rig.write(Reg.CR0, Cr0.CMDQEN);
        rig.command(name, { StreamID: 1 });
        expect(rig.commandError, name).toBe(error);
      }
    }
  });

  it("a wrap bit moves with LOG2SIZE: indices are cut off to the new size (3.5.1, corner case 37)", () => {
    const rig = new Rig();
    for (let i = 0; i < 15; i++) rig.queue("SYNC");
    rig.write(Reg.CR0, Cr0.CMDQEN);
    rig.submit();
    expect(rig.drained).toBe(true);
    rig.write(Reg.CR0, 0);
    // Two entries: index 15 is entry 1 on the second lap.
    rig.write(Reg.CMDQ_BASE, BigInt(rig.commands | 1), 8);
    rig.memory.writeU64(rig.commands + 16, 0n);
    rig.write(Reg.CR0, Cr0.CMDQEN);
    rig.write(Reg.CMDQ_PROD, 0);
    expect(rig.commandError).toBe(CommandError.ILL);
    rig.memory.writeU64(rig.commands + 16, 0x46n);
    rig.write(Reg.GERRORN, rig.read(Reg.GERROR));
    expect(rig.read(Reg.CMDQ_CONS) & 0xf_ffff).toBe(0);
  });

  it("GERRORN of an error that is not active makes it active, and the queue stops: the choice here (6.3.19, corner case 48)", () => {
    const rig = new Rig().start();
    rig.write(Reg.GERRORN, Gerror.CMDQ_ERR);
    rig.command("SYNC");
    expect(rig.drained).toBe(false);
    rig.write(Reg.GERRORN, 0);
    expect(rig.drained).toBe(true);
  });

  it("MSI_GERROR_ABT_ERR raises no interrupt of its own (3.18, corner case 48)", () => {
    const messages: bigint[] = [];
    const lines: string[] = [];
    const rig = new Rig(full, { onMessage: (address) => messages.push(address) < 0, onWire: (line) => lines.push(line) });
    rig.write(Reg.GERROR_IRQ_CFG0, 2n ** 40n, 8);
    rig.write(Reg.IRQ_CTRL, 1);
    rig.start();
    rig.queueWords([0n, 0n]);
    rig.submit();
    expect([rig.gerror(Gerror.CMDQ_ERR), rig.gerror(Gerror.MSI_GERROR_ABT_ERR)]).toEqual([true, true]);
    expect([messages, lines]).toEqual([[2n ** 40n], []]);
  });
});

describe("configuration", () => {
  it("a SubstreamID on a stream of stage 2 alone is C_BAD_SUBSTREAMID, and with SMMUEN=0 no reason to fail (7.3.9, corner case 8)", () => {
    const rig = new Rig();
    rig.stage2.map(PAGE, OUT, 1, LEAF2);
    rig.ste(rig.stage2Fields()).start();
    expect([rig.dma(PAGE), rig.dma(PAGE, { substream: 1 })]).toEqual([OUT, -1]);
    expect(rig.names()).toEqual(["C_BAD_SUBSTREAMID"]);
    rig.stop();
    expect(rig.dma(PAGE, { substream: 1 })).toBe(PAGE);
  });

  it("S1DSS=01 on a nested stream leaves stage 2, and reads no CD (5.2, corner case 10)", () => {
    const rig = new Rig();
    rig.stage2.map(PAGE, OUT, 1, LEAF2);
    rig.ste(rig.stage2Fields({ Config: 7, S1CDMax: 1, S1DSS: 1, S1ContextPtr: 0x9_0000n })).start();
    expect([rig.dma(PAGE), rig.dma(PAGE + 1)]).toEqual([OUT, -1]);
    expect(rig.event()).toMatchObject({ name: "F_TRANSLATION", fields: { S2: 1, CLASS: 2 } });
    expect(rig.dma(PAGE, { substream: 1 })).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_TRANSLATION", fields: { S2: 1, CLASS: 0 } });
  });

  it("SPLIT at or above LOG2SIZE: one level-1 descriptor, and StreamIDs end at 2^LOG2SIZE whatever Span says (6.3.25, corner case 11)", () => {
    const rig = new Rig();
    const [table, level2] = [rig.frames.alloc(), rig.frames.alloc()];
    for (const stream of [3, 5]) rig.put(level2 + stream * 64, STE, { V: 1, Config: 4 });
    rig.l1Stream(table, { Span: 7, L2Ptr: BigInt(level2) >> 6n });
    rig.write(Reg.STRTAB_BASE, table, 8);
    rig.write(Reg.STRTAB_BASE_CFG, 2 | (6 << 6) | (1 << 16));
    rig.start();
    expect([rig.dma(PAGE, { stream: 3 }), rig.dma(PAGE, { stream: 5 })]).toEqual([PAGE, -1]);
    expect(rig.names()).toEqual(["C_BAD_STREAMID"]);
  });

  it("S2S=1 with EATS=01 is ILLEGAL with stage 2 on, and IGNORED without (5.2.2, corner case 14)", () => {
    const rig = mapped({}, { EATS: 1, S2S: 1 }).start();
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.ste(rig.stage2Fields({ EATS: 1, S2S: 1 }), 2);
    expect(rig.dma(PAGE, { stream: 2 })).toBe(-1);
    expect(rig.names()).toEqual(["C_BAD_STE"]);
  });

  it("EPD0 stops walks, not translations that are cached (5.4, corner case 17)", () => {
    const rig = mapped().start();
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.stage1Stream({ EPD0: 1 });
    rig.command("CFGI_STE", { StreamID: 1 });
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.command("TLBI_NSNH_ALL");
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.names()).toEqual(["F_TRANSLATION"]);
  });

  it("a table of CDs that stage 2 has in two places (7.8, corner case 25)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, PAGE, 1, LEAF1 | NG);
    rig.identity();
    // 128 CDs are two pages; the second is elsewhere than the intermediate address says.
    const [table, elsewhere] = [rig.frames.alloc(2), rig.frames.alloc()];
    rig.stage2.unmap(table / 4096 + 1, 1);
    rig.stage2.map(table / 4096 + 1, elsewhere / 4096, 1, LEAF2);
    rig.put(elsewhere + 6 * 64, CD, rig.cdFields());
    rig.ste(rig.stage2Fields({ Config: 7, S1ContextPtr: BigInt(table) >> 6n, S1CDMax: 7 })).start();
    expect(rig.dma(PAGE, { substream: 70 })).toBe(PAGE);
    expect(rig.dma(PAGE, { substream: 6 })).toBe(-1);
    expect(rig.names()).toEqual(["C_BAD_CD"]);
  });

  it("without S2PTW a table in Device memory is read (5.2, corner case 27)", () => {
    for (const [S2PTW, page] of [[0, PAGE], [1, -1]] as const) {
      const rig = new Rig();
      rig.stage1.map(PAGE, PAGE, 1, LEAF1 | NG);
      rig.nestedStream({}, { S2PTW });
      const root = rig.stage1.root / 4096;
      rig.stage2.unmap(root, 1);
      rig.stage2.map(root, root, 1, LEAF2 & ~0x3c);
      expect(rig.start().dma(PAGE), `S2PTW ${S2PTW}`).toBe(page);
    }
  });

  it("what failed to be fetched is not cached, and V from 0 to 1 is seen without CFGI: nothing invalid is cached here (3.21.3, corner case 40)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1 | NG);
    const cd = rig.stage1Stream();
    const base = rig.read(Reg.STRTAB_BASE, 8);
    rig.write(Reg.STRTAB_BASE, 2n ** 40n, 8);
    rig.start();
    expect(rig.dma(PAGE)).toBe(-1);
    rig.stop();
    rig.write(Reg.STRTAB_BASE, base, 8);
    rig.start();
    for (const [at, valid] of [[rig.steAddress(1), 1n], [cd, 1n << 31n]] as const) {
      rig.change(at, 0n, valid);
      expect(rig.dma(PAGE)).toBe(-1);
      rig.change(at, valid);
    }
    expect(rig.dma(PAGE)).toBe(OUT);
    expect(rig.names()).toEqual(["F_STE_FETCH", "C_BAD_STE", "C_BAD_CD"]);
  });

  it("CONT makes no neighbour answer: each STE is its own StreamID's, and invalidated by it (5.2, corner case 43)", () => {
    const rig = mapped({}, { CONT: 3 });
    rig.ste({ Config: 4, CONT: 3 }, 2);
    rig.start();
    expect([rig.dma(PAGE), rig.dma(PAGE, { stream: 2 }), rig.dma(PAGE, { stream: 3 })]).toEqual([OUT, PAGE, -1]);
    rig.ste({ Config: 0 }, 2);
    rig.command("CFGI_STE", { StreamID: 1 });
    expect(rig.dma(PAGE, { stream: 2 })).toBe(PAGE);
    rig.command("CFGI_STE", { StreamID: 2 });
    expect(rig.dma(PAGE, { stream: 2 })).toBe(-1);
  });

  it("STEs that CONT covers and that differ are F_CFG_CONFLICT where the unit is told to look, once both are cached (7.3.18, corner case 43)", () => {
    const twins = (other: Values): string[] => {
      const rig = new Rig(full, { cfgConflicts: true });
      for (const stream of [4, 5, 6]) rig.ste({ Config: 4, CONT: 1, ...(stream === 5 ? other : {}) }, stream);
      rig.start();
      return [4, 6, 5].map((stream) => (rig.dma(PAGE, { stream }) === PAGE ? "bypass" : rig.names().join()));
    };
    expect(twins({})).toEqual(["bypass", "bypass", "bypass"]);
    expect(twins({ MEV: 1 })).toEqual(["bypass", "bypass", "F_CFG_CONFLICT"]);
    // The neighbour's CONT counts: this one's own is 0.
    expect(twins({ CONT: 0 })).toEqual(["bypass", "bypass", "F_CFG_CONFLICT"]);
  });

  it("two streams that name one VMID and ASID for different tables: what is cached first counts for both (5.7, corner case 56)", () => {
    const rig = mapped();
    const other = rig.table({ granule: 0, outputBits: 48, ds: false, wide: false });
    other.map(PAGE, OUT + 1, 1, LEAF1 | NG);
    rig.stage1Stream({ TTB0: BigInt(other.root) >> 4n }, {}, 2);
    rig.start();
    expect([rig.dma(PAGE), rig.dma(PAGE, { stream: 2 })]).toEqual([OUT, OUT]);
    rig.command("TLBI_NH_ASID", { VMID: 0, ASID: 9 });
    expect([rig.dma(PAGE, { stream: 2 }), rig.dma(PAGE)]).toEqual([OUT + 1, OUT + 1]);
  });

  it("the top byte is stripped with TBI alone: on a stream that bypasses it is address (3.4.1, corner case 50)", () => {
    const tagged = PAGE + 0x5a * 2 ** 44;
    const rig = mapped({ TBI0: 1 });
    rig.ste({ Config: 4 }, 2).start();
    expect([rig.dma(tagged), rig.dma(tagged, { stream: 2 })]).toEqual([OUT, -1]);
    expect(rig.names()).toEqual(["F_ADDR_SIZE"]);
  });
});

describe("faults and stalls", () => {
  it("CMD_RESUME with Ab=0 ends a stage-2 stall as reads of zero, though stage 2 without stalls always aborts (4.6.1, corner case 31)", () => {
    const ends: number[] = [];
    const rig = new Rig(full, { onStallEnd: (_, end) => ends.push(end) });
    rig.ste(rig.stage2Fields({ S2S: 1 })).start();
    expect(rig.dma(PAGE)).toBe(-1);
    const { fields } = rig.event();
    expect(fields).toMatchObject({ Stall: 1, S2: 1 });
    rig.command("RESUME", { StreamID: 1, STAG: fields.STAG });
    expect(ends).toEqual([StallEnd.ZERO]);
  });
});

describe("invalidation", () => {
  const ranged = (id: typeof full, fields: Values): boolean => {
    const rig = mapped({ IPS: 4 }, {}, {}, id);
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.stage1.unmap(PAGE, 1);
    rig.command("TLBI_NH_VA", { VMID: 0, ASID: 9, ...fields });
    expect(rig.commandError).toBe(0);
    return rig.dma(PAGE) === -1;
  };

  it("a range does not wrap from the top to address 0 (4.4.1.1, corner case 38)", () => {
    expect(ranged(full, { TG: 1, Addr: 2n ** 52n - 1n, NUM: 31, SCALE: 10 })).toBe(false);
    expect(ranged(full, { TG: 1, Addr: 0n, NUM: 31, SCALE: 10 })).toBe(true);
  });

  it("SCALE has its sixth bit with LPA2 alone, and TG leaves entries of other granules (4.4.1.1, corner case 38)", () => {
    const withoutDs = { ...full, idr5: full.idr5 & ~0x80 };
    const far = { TG: 1, Addr: 0n, NUM: 1, SCALE: 32 };
    expect([ranged(full, far), ranged(withoutDs, far)]).toEqual([true, false]);
    expect(ranged(full, { TG: 3, Addr: 0n, NUM: 31, SCALE: 10 })).toBe(false);
  });
});

describe("ATS", () => {
  const answer = (rig: Rig, pasid = NO_PASID, access: number = Access.READ): TranslationCompletion => {
    const out = new TranslationCompletion();
    rig.unit.ats?.requestTranslation(1, pasid, PAGE, access, out);
    return out;
  };

  it("C_BAD_STREAMID of translated traffic asks REC_CFG_ATS and not RECINVSID (3.9.1.3, corner case 12)", () => {
    for (const [cr2, names] of [[2, []], [8, ["C_BAD_STREAMID"]]] as const) {
      const rig = new Rig();
      rig.write(Reg.CR2, cr2);
      rig.start(Cr0.ATSCHK);
      expect(rig.unit.ats?.translated(64, NO_PASID, PAGE, Access.READ)).toBe(-1);
      expect(rig.names()).toEqual(names);
    }
  });

  it("S1DSS=01 answers a request without PASID with its own address, and what may only be executed is denied (13.6, corner case 44)", () => {
    const rig = new Rig();
    // AP=10, UXN=0: the unprivileged may execute and nothing else.
    rig.stage1.map(PAGE, OUT, 1, LEAF1 & ~0x40);
    const table = rig.frames.alloc();
    rig.put(table + 64, CD, rig.cdFields());
    rig.ste({ S1ContextPtr: BigInt(table) >> 6n, S1CDMax: 1, S1DSS: 1, EATS: 1 }).start(Cr0.ATSCHK);
    expect(answer(rig)).toMatchObject({ status: CompletionStatus.SUCCESS, read: true, write: true, page: PAGE });
    expect(answer(rig, 1, Access.READ | Access.EXECUTE)).toMatchObject({ status: CompletionStatus.SUCCESS, read: false, write: false, execute: false });
    expect(rig.events()).toEqual([]);
  });

  it("INSTCFG: reads that are fetches need the right to execute alone, and fetches that are reads the right to read (13.7.1, corner case 44)", () => {
    const asked = (INSTCFG: number, leaf: number, uxn: number): string => {
      const rig = new Rig();
      rig.stage1.map(PAGE, OUT, 1, leaf, uxn);
      const table = rig.frames.alloc();
      rig.put(table + 64, CD, rig.cdFields());
      rig.ste({ S1ContextPtr: BigInt(table) >> 6n, S1CDMax: 1, S1DSS: 1, EATS: 1, INSTCFG }).start(Cr0.ATSCHK);
      const { read, write, execute } = answer(rig, 1, Access.READ | Access.WRITE | Access.EXECUTE);
      return `${read ? "r" : ""}${write ? "w" : ""}${execute ? "x" : ""}`;
    };
    const [executeOnly, plain, never] = [LEAF1 & ~0x40, LEAF1, 1 << 22];
    expect([0, 2, 3].map((cfg) => asked(cfg, executeOnly, 0))).toEqual(["", "", "rx"]);
    expect([0, 2, 3].map((cfg) => asked(cfg, plain, never))).toEqual(["rw", "rwx", "w"]);
    expect([0, 2, 3].map((cfg) => asked(cfg, plain, 0))).toEqual(["rwx", "rwx", "rwx"]);
  });

  it("EATS=10 with ATSCHK=0 acts as no ATS, and translated traffic passes unchecked as physical (5.2, corner case 45)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, 0x9_0000, 1, LEAF1);
    rig.nestedStream({}, { EATS: 2 });
    rig.start();
    expect(answer(rig).status).toBe(CompletionStatus.UNSUPPORTED_REQUEST);
    expect(rig.names()).toEqual(["F_BAD_ATS_TREQ"]);
    expect(rig.unit.ats?.translated(1, NO_PASID, 0x9_0000, Access.READ)).toBe(0x9_0000);
  });

  it("a translated address beyond the physical ones is aborted without an event, checked or not (3.9.1.1, corner case 46)", () => {
    for (const atschk of [0, Cr0.ATSCHK]) {
      const rig = mapped({}, { EATS: 1 }).start(atschk);
      expect(rig.unit.ats?.translated(1, NO_PASID, 2 ** 40, Access.READ)).toBe(-1);
      expect(rig.events()).toEqual([]);
    }
  });

  it("translated requests have neither PASID nor privilege without PASIDTT; with it the STE has a say (3.9.1.3)", () => {
    const passes = (idr3: number, pasid: number, ste: Values = {}): string => {
      const rig = new Rig({ ...full, idr3 });
      rig.ste({ S1ContextPtr: 0x1000n, EATS: 1, ...ste });
      rig.write(Reg.CR2, 8);
      rig.start(Cr0.ATSCHK);
      return rig.unit.ats?.translated(1, pasid, PAGE, Access.READ | Access.PRIVILEGED) === PAGE ? "passes" : rig.names().join();
    };
    const withPasid = full.idr3 | (1 << 16);
    expect([passes(full.idr3, 5), passes(withPasid, 5), passes(withPasid, 5, { S1CDMax: 3 }), passes(withPasid, 8, { S1CDMax: 3 })]).toEqual([
      "passes", "C_BAD_SUBSTREAMID", "passes", "C_BAD_SUBSTREAMID",
    ]);
    expect([passes(full.idr3, NO_PASID, { S1CDMax: 3 }), passes(withPasid, NO_PASID, { S1CDMax: 3 }), passes(withPasid, 0, { S1CDMax: 3, S1DSS: 2 })]).toEqual([
      "passes", "F_STREAM_DISABLED", "F_STREAM_DISABLED",
    ]);
  });
});

describe("changing sizes without break-before-make (3.21.1, corner case 52)", () => {
  const BLOCK = 0x400;
  const NT = 1n << 16n;
  // A walk cache would go on with the table that is gone.
  const { inputTables: _1, intermediateTables: _2, ...caches } = DEFAULT_CACHES;
  /** One page of a block is cached as a page; then the table becomes a block. */
  const merge = (bbml: number, nT: bigint, options: Partial<SmmuUnitOptions>): string => {
    const rig = new Rig({ ...full, idr3: (full.idr3 & ~0x1800) | (bbml << 11) }, { caches, ...options });
    rig.stage1.map(BLOCK, BLOCK, 2, LEAF1 | NG);
    rig.stage1Stream();
    rig.start();
    expect(rig.dma(BLOCK)).toBe(BLOCK);
    // Both tables on the way have index 0.
    const next = (at: number): number => Number((rig.memory.readU64(at) ?? 0n) & 0xffff_ffff_f000n);
    rig.memory.writeU64(next(next(rig.stage1.root)) + (BLOCK / 512) * 8, BigInt(BLOCK * 4096) | BigInt(LEAF1 | NG) | 1n | nT);
    return rig.dma(BLOCK + 1) === -1 ? rig.names().join() : "translates";
  };

  it("is F_TLB_CONFLICT where the unit is told to find it, and never with BBML=2", () => {
    expect([0, 1, 2].map((bbml) => merge(bbml, 0n, { tlbConflicts: true }))).toEqual(["F_TLB_CONFLICT", "F_TLB_CONFLICT", "translates"]);
    expect([0, 1, 2].map((bbml) => merge(bbml, 0n, {}))).toEqual(["translates", "translates", "translates"]);
  });

  it("nT=1 keeps a block out of the cache with BBML=1, and is no fault", () => {
    expect([0, 1, 2].map((bbml) => merge(bbml, NT, { tlbConflicts: true }))).toEqual(["F_TLB_CONFLICT", "translates", "translates"]);
  });
});
