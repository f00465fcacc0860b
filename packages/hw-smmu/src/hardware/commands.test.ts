/** The command queue: every error, recovery, and what each invalidation takes out of the caches and what it leaves. */
import { Access } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { LEAF1, LEAF2, Rig, type Values } from "../reference/rig.js";
import { identify, UNITS } from "../reference/units.js";
import { CD as CD_TABLE, COMMANDS, CommandError, Cr0, Gerror, Op, Reg } from "../spec/index.js";

const bare = identify(1, { S1P: 1n, TTF: 2n, TTENDIAN: 2n, STALL_MODEL: 1n }, { SIDSIZE: 6n, CMDQS: 8n, EVENTQS: 8n }, { HAD: 1n }, { OAS: 4n, GRAN4K: 1n });
const stage2Only = identify(1, { S2P: 1n, TTF: 2n, TTENDIAN: 2n, STALL_MODEL: 1n }, { SIDSIZE: 6n, CMDQS: 8n, EVENTQS: 8n }, { XNX: 1n }, { OAS: 4n, GRAN4K: 1n });
const full = UNITS["with everything"];

describe("CERROR_ILL (4.1, 7.1, corner case 38)", () => {
  const illegal: readonly (readonly [what: string, id: typeof full, name: string, fields: Values])[] = [
    ["CFGI_CD without stage 1", stage2Only, "CFGI_CD", {}],
    ["CFGI_CD_ALL without stage 1", stage2Only, "CFGI_CD_ALL", {}],
    ["TLBI_NH_ALL without stage 1", stage2Only, "TLBI_NH_ALL", {}],
    ["TLBI_NH_ASID without stage 1", stage2Only, "TLBI_NH_ASID", {}],
    ["TLBI_NH_VA without stage 1", stage2Only, "TLBI_NH_VA", {}],
    ["TLBI_NH_VAA without stage 1", stage2Only, "TLBI_NH_VAA", {}],
    ["TLBI_EL2_ALL without EL2", bare, "TLBI_EL2_ALL", {}],
    ["TLBI_EL2_ASID without EL2", bare, "TLBI_EL2_ASID", {}],
    ["TLBI_EL2_VA without EL2", bare, "TLBI_EL2_VA", {}],
    ["TLBI_EL2_VAA without EL2", bare, "TLBI_EL2_VAA", {}],
    ["TLBI_S12_VMALL without stage 2", bare, "TLBI_S12_VMALL", {}],
    ["TLBI_S2_IPA without stage 2", bare, "TLBI_S2_IPA", {}],
    ["ATC_INV without ATS", bare, "ATC_INV", {}],
    ["ATC_INV of more than everything", full, "ATC_INV", { Size: 53 }],
    ["PRI_RESP without page requests", bare, "PRI_RESP", {}],
    ["PRI_RESP with a reserved response", full, "PRI_RESP", { Resp: 3 }],
    ["RESUME without stalls", bare, "RESUME", {}],
    ["STALL_TERM without stalls", bare, "STALL_TERM", {}],
    ["SYNC with CS 3", full, "SYNC", { CS: 3 }],
    ["TLBI range of nothing", full, "TLBI_NH_VA", { TG: 1 }],
    ["TLBI_S2_IPA range of nothing", full, "TLBI_S2_IPA", { TG: 1 }],
    ["TLBI of a 16K level 1 without LPA2", UNITS["as QEMU's"], "TLBI_NH_VA", { TG: 2, TTL: 1 }],
    ["a Secure StreamID", full, "CFGI_STE", { SSec: 1 }],
  ];
  it.each(illegal)("%s", (_what, id, name, fields) => {
    const rig = new Rig(id).start();
    rig.command(name, fields);
    expect(rig.commandError).toBe(CommandError.ILL);
    expect(rig.drained).toBe(false);
  });

  it("every opcode that is no command", () => {
    const known = new Set(COMMANDS.map(({ opcode }) => opcode));
    for (let opcode = 0; opcode < 256; opcode++) {
      if (known.has(opcode)) continue;
      const rig = new Rig(full).start();
      rig.queueWords([BigInt(opcode), 0n]);
      rig.submit();
      expect(rig.commandError, `opcode 0x${opcode.toString(16)}`).toBe(CommandError.ILL);
    }
  });

  it("every command is legal on a unit that has everything", () => {
    for (const { table } of COMMANDS) {
      const rig = new Rig(full).start();
      rig.command(table.structure.replace("CMD_", ""));
      expect(rig.commandError, table.structure).toBe(0);
      expect(rig.drained).toBe(true);
    }
  });

  it("reserved bits only where the implementation is strict", () => {
    for (const strictCommands of [false, true]) {
      const rig = new Rig(full, { strictCommands }).start();
      rig.queueWords([BigInt(Op.TLBI_NSNH_ALL) | (1n << 40n), 0n]);
      rig.submit();
      expect(rig.commandError).toBe(strictCommands ? CommandError.ILL : 0);
    }
  });
});

describe("errors and recovery (4.8)", () => {
  it("the index stays at the bad command, the rest waits, and an acknowledgement alone starts it again from memory (4.8, 7.1, corner case 35)", () => {
    const rig = new Rig().start();
    rig.command("TLBI_NSNH_ALL");
    const before = rig.read(Reg.CMDQ_CONS);
    const bad = rig.queueWords([0n, 0n]);
    rig.queue("SYNC");
    rig.submit();
    expect(rig.commandError).toBe(CommandError.ILL);
    expect(rig.read(Reg.CMDQ_CONS) & 0xf_ffff).toBe(before);
    rig.memory.writeU64(bad, BigInt(Op.SYNC));
    rig.write(Reg.GERRORN, rig.read(Reg.GERROR));
    expect(rig.drained).toBe(true);
    expect(rig.commandError).toBe(0);
  });

  it("nothing runs until it is acknowledged, though the command is mended and PROD written", () => {
    const rig = new Rig().start();
    const bad = rig.queueWords([0n, 0n]);
    rig.submit();
    rig.memory.writeU64(bad, BigInt(Op.SYNC));
    rig.command("SYNC");
    expect(rig.read(Reg.CMDQ_CONS) & 0xf_ffff).toBe(0);
  });

  it("turning the queue off does not acknowledge (7.1, corner case 35)", () => {
    const rig = new Rig().start();
    rig.queueWords([0n, 0n]);
    rig.submit();
    rig.write(Reg.CR0, Cr0.EVENTQEN);
    rig.write(Reg.CR0, Cr0.EVENTQEN | Cr0.CMDQEN);
    expect(rig.gerror(Gerror.CMDQ_ERR)).toBe(true);
    expect(rig.drained).toBe(false);
  });

  it("a fetch from nowhere is CERROR_ABT and leaves the index (7.1, corner case 35)", () => {
    const rig = new Rig();
    rig.write(Reg.CMDQ_BASE, (1n << 40n) | 4n, 8);
    rig.start();
    rig.write(Reg.CMDQ_PROD, 1);
    expect(rig.commandError).toBe(CommandError.ABT);
    expect(rig.read(Reg.CMDQ_CONS) & 0xf_ffff).toBe(0);
  });

  it("PROD may go back while the error stands, not before CONS (3.5.1, corner case 35)", () => {
    const rig = new Rig().start();
    rig.queueWords([0n, 0n]);
    rig.queueWords([0n, 0n]);
    rig.submit();
    rig.write(Reg.CMDQ_PROD, 0);
    rig.write(Reg.GERRORN, rig.read(Reg.GERROR));
    expect(rig.commandError).toBe(0);
  });

  it("a pair of indices that makes no sense stops the queue (3.5.1, corner case 37)", () => {
    const rig = new Rig().start();
    rig.write(Reg.CMDQ_PROD, 20);
    expect(rig.read(Reg.CMDQ_CONS)).toBe(0);
    expect(rig.commandError).toBe(0);
  });

  it("a queue of one entry has its wrap bit in bit 0 (3.5.1, corner case 37)", () => {
    const rig = new Rig();
    rig.write(Reg.CMDQ_BASE, rig.commands, 8);
    rig.start();
    for (let i = 1; i < 4; i++) {
      rig.memory.writeU64(rig.commands, BigInt(Op.SYNC));
      rig.write(Reg.CMDQ_PROD, i % 2);
      expect(rig.read(Reg.CMDQ_CONS)).toBe(i % 2);
    }
  });

  it("a message of CMD_SYNC into CMDQ_PROD does not go on for ever", () => {
    const rig = new Rig();
    rig.memory.addMmio(2 ** 30, 0x20000, rig.unit);
    rig.start();
    for (let i = 0; i < 15; i++) rig.queue("SYNC", { CS: 1, MSIAddress: (2n ** 30n + BigInt(Reg.CMDQ_PROD)) >> 2n, MSIData: 17 });
    rig.submit();
    expect(rig.read(Reg.CMDQ_CONS) & 0xf_ffff).toBeLessThan(32);
  });
});

describe("CMD_SYNC (4.7.3)", () => {
  it("writes its data, into the command's own slot if told so", () => {
    const rig = new Rig().start();
    const at = rig.queue("SYNC", { CS: 1, MSIData: 0x1234, MSIAddress: BigInt(rig.commands) >> 2n });
    rig.submit();
    expect(at).toBe(rig.commands);
    expect((rig.memory.readU64(at) ?? 0n) & 0xffff_ffffn).toBe(0x1234n);
    expect(rig.drained).toBe(true);
  });
  it("completes though its message goes nowhere: MSI_CMDQ_ABT_ERR (4.7.3, corner case 36)", () => {
    const rig = new Rig().start();
    rig.command("SYNC", { CS: 1, MSIData: 1, MSIAddress: 2n ** 38n });
    expect(rig.drained).toBe(true);
    expect(rig.gerror(Gerror.MSI_CMDQ_ABT_ERR)).toBe(true);
  });
  it("raises a wire without an address", () => {
    const lines: string[] = [];
    const rig = new Rig(full, { onWire: (line) => lines.push(line) }).start();
    rig.command("SYNC", { CS: 1 });
    expect(lines).toEqual(["sync"]);
  });
});

/** Pages that every scene below maps, and where to. */
const PAGE = 0x100;
const OUT = 0x500;

/** What is still cached: the tables are emptied, so that only a cached translation answers. */
class Scene {
  readonly rig: Rig;
  constructor(id = full) {
    this.rig = new Rig(id);
    this.rig.stage1.map(PAGE, OUT, 4, LEAF1 | 0x800);
    this.rig.stage1.map(PAGE + 16, OUT + 16, 1, LEAF1); // global
    this.rig.stage2.map(PAGE, OUT, 4, LEAF2);
  }
  /** Streams: 1 and 2 stage 1 with ASIDs 9 and 10, VMID 3; 3 as 1 with VMID 4; 4 stage 2, VMID 3; 5 EL2. */
  warm(): this {
    const { rig } = this;
    rig.stage1Stream({ ASID: 9 }, { S2VMID: 3 }, 1);
    rig.stage1Stream({ ASID: 10 }, { S2VMID: 3 }, 2);
    rig.stage1Stream({ ASID: 9 }, { S2VMID: 4 }, 3);
    rig.ste(rig.stage2Fields({ S2VMID: 3 }), 4);
    rig.stage1Stream({ ASID: 9 }, { STRW: 2 }, 5);
    rig.start(Cr0.ATSCHK);
    for (const [stream, page] of this.all) expect(rig.dma(page, { stream })).toBe(page - PAGE + OUT);
    rig.stage1.unmap(PAGE, 32);
    rig.stage2.unmap(PAGE, 32);
    return this;
  }
  readonly all: readonly (readonly [stream: number, page: number])[] = [
    [1, PAGE], [1, PAGE + 1], [2, PAGE], [3, PAGE], [4, PAGE], [4, PAGE + 1], [5, PAGE], [1, PAGE + 16], [5, PAGE + 16],
  ];
  /** "stream+page offset" of what is cached. */
  left(): string[] {
    return this.all.filter(([stream, page]) => this.rig.dma(page, { stream }) !== -1).map(([stream, page]) => `${stream}+${page - PAGE}`);
  }
  after(name: string, fields: Values = {}): string[] {
    this.rig.command(name, fields);
    expect(this.rig.commandError).toBe(0);
    return this.left();
  }
}

const EVERYTHING = ["1+0", "1+1", "2+0", "3+0", "4+0", "4+1", "5+0", "1+16", "5+16"];
const without = (...gone: string[]): string[] => EVERYTHING.filter((entry) => !gone.includes(entry));
const Addr = BigInt(PAGE);

describe("TLBI: what goes and what stays (4.4, corner cases 20, 21 and 38)", () => {
  const cases: readonly (readonly [name: string, fields: Values, left: string[]])[] = [
    ["TLBI_NSNH_ALL", {}, ["5+0", "5+16"]],
    ["TLBI_NH_ALL", { VMID: 3 }, without("1+0", "1+1", "2+0", "1+16")],
    ["TLBI_NH_ASID", { VMID: 3, ASID: 9 }, without("1+0", "1+1")],
    ["TLBI_NH_ASID", { VMID: 3, ASID: 0 }, EVERYTHING],
    ["TLBI_NH_VA", { VMID: 3, ASID: 9, Addr }, without("1+0")],
    ["TLBI_NH_VA", { VMID: 3, ASID: 10, Addr }, without("2+0")],
    ["TLBI_NH_VA", { VMID: 3, ASID: 99, Addr: Addr + 16n }, without("1+16")],
    ["TLBI_NH_VAA", { VMID: 3, Addr }, without("1+0", "2+0")],
    ["TLBI_NH_VAA", { VMID: 5, Addr }, EVERYTHING],
    ["TLBI_EL2_ALL", {}, without("5+0", "5+16")],
    ["TLBI_EL2_VA", { ASID: 77, Addr }, without("5+0")],
    ["TLBI_EL2_VAA", { Addr: Addr + 16n }, without("5+16")],
    ["TLBI_EL2_ASID", { ASID: 9 }, EVERYTHING],
    ["TLBI_S12_VMALL", { VMID: 3 }, without("1+0", "1+1", "2+0", "4+0", "4+1", "1+16")],
    ["TLBI_S2_IPA", { VMID: 3, Addr }, without("4+0")],
    ["TLBI_S2_IPA", { VMID: 4, Addr }, EVERYTHING],
    // Ranges: two pages, one granule, one level.
    ["TLBI_NH_VA", { VMID: 3, ASID: 9, Addr, TG: 1, NUM: 1 }, without("1+0", "1+1")],
    ["TLBI_NH_VA", { VMID: 3, ASID: 9, Addr, TG: 1, SCALE: 1 }, without("1+0", "1+1")],
    ["TLBI_NH_VA", { VMID: 3, ASID: 9, Addr, TG: 3, NUM: 1 }, EVERYTHING],
    ["TLBI_NH_VA", { VMID: 3, ASID: 9, Addr, TG: 1, TTL: 3 }, without("1+0")],
    ["TLBI_NH_VA", { VMID: 3, ASID: 9, Addr, TG: 1, TTL: 2 }, EVERYTHING],
    ["TLBI_S2_IPA", { VMID: 3, Addr, TG: 1, NUM: 1 }, without("4+0", "4+1")],
    ["CFGI_ALL as a range", {}, EVERYTHING],
  ];
  it.each(cases)("%s %o leaves %o", (name, fields, left) => {
    const scene = new Scene().warm();
    const result = name === "CFGI_ALL as a range" ? scene.after("CFGI_STE_RANGE", { Range: 31 }) : scene.after(name, fields);
    expect(result).toEqual(left);
  });

  it("everything is cached before", () => {
    expect(new Scene().warm().left()).toEqual(EVERYTHING);
  });

  it("VMID wildcards widen invalidations and nothing else (6.3.9 VMW, corner case 22)", () => {
    const scene = new Scene().warm();
    scene.rig.write(Reg.CR0, Cr0.CMDQEN | Cr0.EVENTQEN | Cr0.SMMUEN | Cr0.ATSCHK | (3 << 6));
    // VMIDs 3 and 4 share bits 15:3.
    expect(scene.after("TLBI_NH_ALL", { VMID: 7 })).toEqual(["4+0", "4+1", "5+0", "5+16"]);
  });

  it("EL2 commands follow CR2.E2H (4.4.2, corner case 21)", () => {
    const scene = new Scene();
    const { rig } = scene;
    rig.stage1Stream({ ASID: 9 }, { STRW: 2 }, 5);
    rig.write(Reg.CR2, 3);
    rig.start();
    expect(rig.dma(PAGE, { stream: 5 })).toBe(OUT);
    rig.stage1.unmap(PAGE, 32);
    rig.command("TLBI_EL2_VA", { ASID: 8, Addr });
    expect(rig.dma(PAGE, { stream: 5 })).toBe(OUT);
    rig.command("TLBI_EL2_ASID", { ASID: 9 });
    expect(rig.dma(PAGE, { stream: 5 })).toBe(-1);
  });

  it("an address takes its whole leaf, though stage 2 has cut it into pieces (D8.16)", () => {
    const rig = new Rig();
    rig.stage1.map(0x400, 0x200, 0x200, LEAF1 | 0x800);
    rig.nestedStream();
    // Stage 2 small where stage 1 is large.
    rig.stage2.unmap(0x300, 1);
    rig.stage2.map(0x300, 0x900, 1, LEAF2);
    rig.start();
    expect(rig.dma(0x500)).toBe(0x900);
    rig.stage1.unmap(0x400, 0x200);
    expect(rig.dma(0x500)).toBe(0x900);
    rig.command("TLBI_NH_VA", { VMID: 3, ASID: 9, Addr: 0x400n });
    expect(rig.dma(0x500)).toBe(-1);
  });

  it("TLBI_S2_IPA leaves combined entries alone; with TLBI_NH_ALL they go (4.4.3, corner case 21)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, PAGE, 1, LEAF1 | 0x800);
    rig.nestedStream();
    rig.start();
    expect(rig.dma(PAGE)).toBe(PAGE);
    rig.stage2.unmap(PAGE, 1);
    rig.stage2.map(PAGE, OUT, 1, LEAF2);
    rig.command("TLBI_S2_IPA", { VMID: 3, Addr });
    expect(rig.dma(PAGE)).toBe(PAGE);
    rig.command("TLBI_NH_ALL", { VMID: 3 });
    expect(rig.dma(PAGE)).toBe(OUT);
  });

  it("the upper half is invalidated by its sign-extended address, under any tag", () => {
    const rig = new Rig();
    const upper = rig.table({ granule: 0, outputBits: 48, ds: false, wide: false });
    upper.map(0x123, OUT, 1, LEAF1 | 0x800);
    rig.stage1Stream({ EPD0: 1, EPD1: 0, T1SZ: 16, TG1: 2, TTB1: BigInt(upper.root) >> 4n, TBI1: 1 });
    rig.start();
    const page = 2 ** 52 - 2 ** 36 + 0x123;
    const tagged = page - 0x7f * 2 ** 44;
    expect([rig.dma(page), rig.dma(tagged)]).toEqual([OUT, OUT]);
    upper.unmap(0x123, 1);
    expect(rig.dma(tagged)).toBe(OUT);
    rig.command("TLBI_NH_VA", { VMID: 0, ASID: 9, Addr: BigInt(page) });
    expect(rig.dma(tagged)).toBe(-1);
  });
});

describe("CFGI: what goes and what stays (4.3, 13.3)", () => {
  const abort = (rig: Rig): void => void rig.ste({ Config: 0 });
  const flushTlb = (rig: Rig): void => rig.command("TLBI_NSNH_ALL");

  it.each([
    ["CFGI_STE", { StreamID: 1, Leaf: 1 }, -1],
    ["CFGI_STE_RANGE", { StreamID: 0, Range: 0 }, -1],
    ["CFGI_STE_RANGE", { StreamID: 5, Range: 31 }, -1],
    ["CFGI_STE", { StreamID: 2, Leaf: 1 }, OUT],
    ["CFGI_STE_RANGE", { StreamID: 2, Range: 0 }, OUT],
    ["CFGI_CD_ALL", { StreamID: 1 }, OUT],
    ["TLBI_NSNH_ALL", {}, OUT],
  ] as const)("%s %o after an STE changed", (name, fields, result) => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1);
    rig.stage1Stream();
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    abort(rig);
    rig.command(name, fields);
    flushTlb(rig);
    expect(rig.dma(PAGE)).toBe(result);
  });

  it.each([
    ["CFGI_CD", { StreamID: 1, SubstreamID: 0, Leaf: 1 }, true],
    ["CFGI_CD_ALL", { StreamID: 1 }, true],
    ["CFGI_STE", { StreamID: 1, Leaf: 1 }, true],
    ["CFGI_CD", { StreamID: 1, SubstreamID: 1, Leaf: 0 }, false],
    ["CFGI_CD", { StreamID: 2, SubstreamID: 0, Leaf: 0 }, false],
    ["TLBI_NSNH_ALL", {}, false],
  ] as const)("%s %o after a CD became invalid", (name, fields, seen) => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1);
    const cd = rig.stage1Stream();
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.change(cd, 0n, 1n << 31n);
    rig.command(name, fields);
    flushTlb(rig);
    expect(rig.dma(PAGE)).toBe(seen ? -1 : OUT);
    expect(rig.names()).toEqual(seen ? ["C_BAD_CD"] : []);
  });

  it("CFGI_CD with Leaf=1 leaves the level-1 descriptor (4.3.3, corner case 39)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1);
    const [table, old, fresh] = [rig.frames.alloc(), rig.frames.alloc(), rig.frames.alloc()];
    rig.put(old, CD_TABLE, rig.cdFields());
    rig.l1Context(table, { V: 1, L2Ptr: BigInt(old) >> 12n });
    rig.ste({ S1ContextPtr: BigInt(table) >> 6n, S1Fmt: 1, S1CDMax: 7, S1DSS: 2 });
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.put(fresh, CD_TABLE, rig.cdFields({ V: 0 }));
    rig.l1Context(table, { V: 1, L2Ptr: BigInt(fresh) >> 12n });
    rig.command("CFGI_CD", { StreamID: 1, Leaf: 1 });
    flushTlb(rig);
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.command("CFGI_CD", { StreamID: 1, Leaf: 0 });
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.names()).toEqual(["C_BAD_CD"]);
  });

  it("CFGI_STE needs Leaf=0 for a level-1 stream table descriptor (4.3.1, corner case 39)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1);
    rig.stage1Stream();
    const table = rig.frames.alloc();
    rig.l1Stream(table, { Span: 7, L2Ptr: BigInt(rig.streams) >> 6n });
    rig.write(Reg.STRTAB_BASE, table, 8);
    rig.write(Reg.STRTAB_BASE_CFG, 8 | (6 << 6) | (1 << 16));
    rig.start();
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.l1Stream(table, { Span: 0 });
    rig.command("CFGI_STE", { StreamID: 1, Leaf: 1 });
    expect(rig.dma(PAGE)).toBe(OUT);
    rig.command("CFGI_STE", { StreamID: 1, Leaf: 0 });
    expect(rig.dma(PAGE)).toBe(-1);
    expect(rig.names()).toEqual(["C_BAD_STREAMID"]);
  });

  it("a CD that two streams share is invalidated for one of them (5.4, corner case 41)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1);
    const cd = rig.stage1Stream();
    rig.ste({ S1ContextPtr: BigInt(cd) >> 6n }, 2);
    rig.start();
    expect([rig.dma(PAGE), rig.dma(PAGE, { stream: 2 })]).toEqual([OUT, OUT]);
    rig.change(cd, 0n, 1n << 31n);
    rig.command("CFGI_CD", { StreamID: 1 });
    expect([rig.dma(PAGE), rig.dma(PAGE, { stream: 2 })]).toEqual([-1, OUT]);
  });

  it("A, R and S change with CFGI_CD alone, ASID and TTB need a TLBI too (5.4.1, corner case 42)", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1 | 0x800);
    const cd = rig.stage1Stream({ R: 1 });
    rig.start();
    rig.dma(PAGE + 1);
    expect(rig.names()).toEqual(["F_TRANSLATION"]);
    rig.put(cd, CD_TABLE, rig.cdFields({ R: 0 }));
    rig.command("CFGI_CD", { StreamID: 1 });
    rig.dma(PAGE + 1);
    expect(rig.names()).toEqual([]);
    expect(rig.dma(PAGE)).toBe(OUT);
    const other = rig.table({ granule: 0, outputBits: 48, ds: false, wide: false });
    other.map(PAGE, OUT + 1, 1, LEAF1 | 0x800);
    rig.put(cd, CD_TABLE, rig.cdFields({ TTB0: BigInt(other.root) >> 4n }));
    rig.command("CFGI_CD", { StreamID: 1 });
    expect(rig.dma(PAGE, { access: Access.READ })).toBe(OUT);
    rig.command("TLBI_NH_ASID", { ASID: 9 });
    expect(rig.dma(PAGE)).toBe(OUT + 1);
  });
});
