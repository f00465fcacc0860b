/** Event queue, stalls, page requests and ATS (SMMU 3.5, 3.9, 3.12, 7, 8). */
import { Access, type AtsInvalidation, CompletionStatus, NO_PASID, PageResponseCode, type PageResponse, StallEnd, TranslationCompletion } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { LEAF1, LEAF2, Rig, type Values } from "../reference/rig.js";
import { UNITS } from "../reference/units.js";
import { CD, CommandError, Cr0, Gerror, Reg } from "../spec/index.js";
import type { SmmuUnitOptions } from "./index.js";

const full = UNITS["with everything"];
const PAGE = 0x100;
const OUT = 0x500;
const OVERFLOW = 0x8000_0000;

const faulting = (cd: Values = {}, options: Partial<SmmuUnitOptions> = {}): Rig => {
  const rig = new Rig(full, options);
  rig.stage1Stream(cd);
  return rig.start();
};
const overflow = (rig: Rig): boolean => ((rig.read(Reg.EVENTQ_PROD) ^ rig.read(Reg.EVENTQ_CONS)) & OVERFLOW) !== 0;

describe("event queue (7.2)", () => {
  it("overflows once until acknowledged, and an overflow does not stop new records (7.2, corner case 33)", () => {
    const rig = faulting();
    for (let i = 0; i < 16; i++) rig.dma(i);
    expect(overflow(rig)).toBe(false);
    rig.dma(16);
    rig.dma(17);
    expect(overflow(rig)).toBe(true);
    rig.write(Reg.EVENTQ_CONS, 4); // room, not acknowledged
    rig.dma(18);
    expect(rig.read(Reg.EVENTQ_PROD) % 32).toBe(17);
    expect(overflow(rig)).toBe(true);
    rig.write(Reg.EVENTQ_CONS, 4 + OVERFLOW);
    expect(overflow(rig)).toBe(false);
  });

  it("drops without overflow while it is off (7.2, corner case 33)", () => {
    const rig = faulting();
    rig.write(Reg.CR0, Cr0.CMDQEN | Cr0.SMMUEN);
    rig.dma(1);
    expect([rig.read(Reg.EVENTQ_PROD), rig.read(Reg.EVENTQ_CONS)]).toEqual([0, 0]);
  });

  it("a write to nowhere is EVENTQ_ABT_ERR; PROD stays and nothing is written until it is acknowledged (7.2, corner case 33)", () => {
    const rig = new Rig();
    rig.stage1Stream();
    const base = rig.read(Reg.EVENTQ_BASE, 8);
    rig.write(Reg.EVENTQ_BASE, 2n ** 40n | 4n, 8);
    rig.start();
    rig.dma(1);
    expect(rig.gerror(Gerror.EVENTQ_ABT_ERR)).toBe(true);
    expect(rig.read(Reg.EVENTQ_PROD)).toBe(0);
    rig.write(Reg.CR0, Cr0.SMMUEN);
    rig.write(Reg.EVENTQ_BASE, base, 8);
    rig.write(Reg.CR0, Cr0.SMMUEN | Cr0.EVENTQEN);
    rig.dma(2);
    expect(rig.read(Reg.EVENTQ_PROD)).toBe(0);
    rig.write(Reg.GERRORN, rig.read(Reg.GERROR));
    rig.dma(3);
    expect(rig.read(Reg.EVENTQ_PROD)).toBe(1);
  });

  it("interrupts on the first record in an empty queue, by message or wire, and only while enabled (3.18, corner case 49)", () => {
    const messages: [bigint, number][] = [];
    const lines: string[] = [];
    const rig = new Rig(full, { onMessage: (address, data) => messages.push([address, data]) > 0, onWire: (line) => lines.push(line) });
    rig.stage1Stream();
    rig.write(Reg.EVENTQ_IRQ_CFG0, 0xfee0_0000n, 8);
    rig.write(Reg.EVENTQ_IRQ_CFG1, 0x55);
    rig.start();
    rig.dma(1);
    expect(messages).toEqual([]);
    rig.write(Reg.IRQ_CTRL, 4);
    expect(messages).toEqual([]);
    rig.dma(2);
    rig.events();
    rig.dma(3);
    rig.dma(4);
    expect(messages).toEqual([[0xfee0_0000n, 0x55]]);
    rig.write(Reg.IRQ_CTRL, 0);
    rig.write(Reg.EVENTQ_IRQ_CFG0, 0, 8);
    rig.write(Reg.IRQ_CTRL, 4);
    rig.events();
    rig.dma(5);
    expect(lines).toEqual(["eventq"]);
  });

  it("an event's message to nowhere is MSI_EVENTQ_ABT_ERR and changes nothing else", () => {
    const rig = new Rig();
    rig.stage1Stream();
    rig.write(Reg.EVENTQ_IRQ_CFG0, 2n ** 40n, 8);
    rig.start();
    rig.write(Reg.IRQ_CTRL, 4);
    rig.dma(1);
    expect(rig.gerror(Gerror.MSI_EVENTQ_ABT_ERR)).toBe(true);
    expect(rig.names()).toEqual(["F_TRANSLATION"]);
  });

  it("A, R and S decide on translation faults and on nothing else (5.5, corner case 31)", () => {
    for (const [A, R, S, recorded] of [[0, 0, 0, false], [0, 1, 0, true], [1, 0, 0, false], [1, 1, 0, true], [1, 0, 1, true]] as const) {
      const rig = faulting({ A, R, S });
      expect(rig.dma(1)).toBe(-1);
      const records = rig.events();
      expect(records.length).toBe(recorded ? 1 : 0);
      if (recorded) expect(records[0].fields.Stall).toBe(S);
    }
    const bad = faulting({ R: 0, AA64: 0 });
    bad.dma(1);
    expect(bad.names()).toEqual(["C_BAD_CD"]);
  });
});

describe("stalls (3.12, 4.6, corner case 32)", () => {
  const stalling = (options: Partial<SmmuUnitOptions> = {}): { rig: Rig; ends: [number, number][] } => {
    const ends: [number, number][] = [];
    return { rig: faulting({ S: 1 }, { onStallEnd: ({ page }, end) => ends.push([page, end]), ...options }), ends };
  };

  it("each has a STAG of its own; CMD_RESUME retries, aborts or reads zero", () => {
    const { rig, ends } = stalling();
    for (const page of [1, 2, 3]) expect(rig.dma(page)).toBe(-1);
    const stags = rig.events().map(({ fields }) => fields.STAG);
    expect(new Set(stags).size).toBe(3);
    rig.command("RESUME", { StreamID: 1, STAG: stags[0], Ac: 1 });
    rig.command("RESUME", { StreamID: 1, STAG: stags[1], Ab: 1 });
    rig.command("RESUME", { StreamID: 1, STAG: stags[2] });
    expect(ends).toEqual([[1, StallEnd.RETRY], [2, StallEnd.ABORT], [3, StallEnd.ZERO]]);
    expect(rig.unit.stalls.size).toBe(0);
  });

  it("another stream's or an unknown STAG does nothing, without an error", () => {
    const { rig, ends } = stalling();
    rig.dma(1);
    const [{ fields }] = rig.events();
    rig.command("RESUME", { StreamID: 2, STAG: fields.STAG });
    rig.command("RESUME", { StreamID: 1, STAG: 0xffff });
    expect(ends).toEqual([]);
    expect(rig.commandError).toBe(0);
  });

  it("CMD_STALL_TERM and turning translation off abort, and the records that were not written vanish", () => {
    for (const end of ["STALL_TERM", "SMMUEN"]) {
      const { rig, ends } = stalling();
      rig.write(Reg.CR0, Cr0.SMMUEN | Cr0.CMDQEN);
      rig.dma(1);
      if (end === "STALL_TERM") rig.command("STALL_TERM", { StreamID: 1 });
      else rig.write(Reg.CR0, Cr0.CMDQEN);
      expect(ends).toEqual([[1, StallEnd.ABORT]]);
      rig.write(Reg.CR0, Cr0.SMMUEN | Cr0.CMDQEN | Cr0.EVENTQEN);
      expect(rig.events()).toEqual([]);
    }
  });

  it("a record waits for room and is no overflow", () => {
    const { rig } = stalling();
    for (let page = 0; page < 18; page++) rig.dma(page);
    expect(overflow(rig)).toBe(false);
    expect(rig.read(Reg.EVENTQ_PROD)).toBe(16);
    rig.write(Reg.EVENTQ_CONS, 2);
    expect(rig.read(Reg.EVENTQ_PROD)).toBe(18);
    expect(rig.eventAt(17).words[2]).toBe(17n * 4096n);
  });

  it("a record that waits does not outlive a CMD_SYNC: its transaction is retried", () => {
    const { rig, ends } = stalling();
    for (let page = 0; page < 17; page++) rig.dma(page);
    rig.command("TLBI_NSNH_ALL");
    rig.command("SYNC");
    rig.write(Reg.EVENTQ_CONS, 2);
    expect(rig.read(Reg.EVENTQ_PROD)).toBe(16);
    expect(ends).toEqual([[16, StallEnd.RETRY]]);
  });

  it("STALL_MAX: what is beyond waits without a record", () => {
    const { rig } = stalling();
    for (let page = 0; page < 70; page++) {
      rig.dma(page);
      rig.events();
    }
    expect(rig.unit.stalls.size).toBe(64);
  });

  it("devices that may not stall are terminated, and duplicates are told once if the implementation says so", () => {
    const { rig } = stalling({ mayStall: () => false });
    rig.dma(1);
    expect(rig.event().fields.Stall).toBe(0);
    for (const [suppressDuplicateStalls, records] of [[true, 1], [false, 2]] as const) {
      const other = stalling({ suppressDuplicateStalls }).rig;
      other.dma(1);
      other.dma(1);
      expect(other.events().length).toBe(records);
    }
  });

  it("TERM_MODEL: Ab is ignored", () => {
    const ends: number[] = [];
    const rig = new Rig({ ...full, idr0: full.idr0 | (1 << 26) }, { onStallEnd: (_, end) => ends.push(end) });
    rig.stage1Stream({ S: 1 });
    rig.start();
    rig.dma(1);
    rig.command("RESUME", { StreamID: 1, STAG: rig.event().fields.STAG });
    expect(ends).toEqual([StallEnd.ABORT]);
  });

  it("the stage of the fault decides: stage 2 stalls, stage 1 does not", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, 0x10_0000, 1, LEAF1);
    rig.nestedStream({}, { S2S: 1 });
    rig.start();
    rig.dma(PAGE);
    rig.dma(PAGE + 1);
    expect(rig.events().map(({ fields }) => [fields.S2, fields.Stall])).toEqual([[1, 1], [0, 0]]);
  });
});

class Device {
  readonly invalidations: AtsInvalidation[] = [];
  readonly responses: PageResponse[] = [];
  readonly rig: Rig;
  answers = true;
  constructor(rig: Rig, stream = 1) {
    this.rig = rig;
    rig.unit.ats?.connectEndpoint(stream, {
      invalidate: (request) => {
        this.invalidations.push(request);
        if (this.answers) this.rig.unit.ats?.completeInvalidation(stream, 1 << request.tag, 1);
      },
      respond: (response) => this.responses.push(response),
    });
  }
  request(page: number, { pasid = NO_PASID, group = 1, last = true, access = Access.READ as number } = {}): void {
    this.rig.unit.ats?.requestPage({ rid: 1, pasid, page, access, group, last });
  }
}

const LOG2_PRIQ = 2;
function priRig(ste: Values = {}): { rig: Rig; device: Device; queue: number } {
  const rig = new Rig();
  rig.stage1Stream({}, ste);
  const queue = rig.frames.alloc();
  rig.write(Reg.PRIQ_BASE, queue | LOG2_PRIQ, 8);
  rig.start(Cr0.PRIQEN | Cr0.ATSCHK);
  return { rig, device: new Device(rig), queue };
}

describe("page requests (8)", () => {
  it("are written as the manual lays them out", () => {
    const { rig, device, queue } = priRig();
    device.request(0x12345, { pasid: 7, group: 0x1ff, access: Access.READ | Access.WRITE | Access.EXECUTE | Access.PRIVILEGED });
    expect(rig.memory.readU64(queue)).toBe((0xfn << 58n) | (3n << 62n) | (7n << 32n) | 1n);
    expect(rig.memory.readU64(queue + 8)).toBe((0x12345n << 12n) | 0x1ffn);
    expect(rig.read(Reg.PRIQ_PROD)).toBe(1);
    rig.command("PRI_RESP", { StreamID: 1, SSV: 1, SubstreamID: 7, PRGIndex: 0x1ff, Resp: 2 });
    expect(device.responses).toEqual([{ pasid: 7, group: 0x1ff, code: PageResponseCode.SUCCESS }]);
  });

  it("overflow answers the last of a group, and blocks until acknowledged even with room (8.1, corner case 34)", () => {
    const { rig, device } = priRig();
    for (let i = 0; i < 4; i++) device.request(i);
    device.request(4, { last: false });
    device.request(5, { group: 5 });
    expect(device.responses).toEqual([{ pasid: NO_PASID, group: 5, code: PageResponseCode.SUCCESS }]);
    rig.write(Reg.PRIQ_CONS, 4);
    device.request(6, { group: 6 });
    expect(device.responses).toHaveLength(2);
    expect(rig.read(Reg.PRIQ_PROD) % 8).toBe(4);
    rig.write(Reg.PRIQ_CONS, 4 + OVERFLOW);
    device.request(7);
    expect(rig.read(Reg.PRIQ_PROD) % 8).toBe(5);
  });

  it.each([[0, NO_PASID], [1, 7]])("the answer to an overflow has the PASID with PPAR=%i", (PPAR, pasid) => {
    const { device } = priRig({ PPAR });
    for (let i = 0; i < 4; i++) device.request(i);
    device.request(5, { pasid: 7 });
    expect(device.responses).toEqual([{ pasid, group: 1, code: PageResponseCode.SUCCESS }]);
  });

  it("an STE that cannot be had makes it a failure without PASID; a stop marker is never answered (8.2, corner case 34)", () => {
    const { rig, device } = priRig();
    for (let i = 0; i < 4; i++) device.request(i);
    rig.memory.clear(rig.steAddress(1), 64);
    rig.command("CFGI_STE", { StreamID: 1 });
    device.request(5, { pasid: 7 });
    device.request(6, { pasid: 7, access: 0 });
    expect(device.responses).toEqual([{ pasid: NO_PASID, group: 1, code: PageResponseCode.FAILURE }]);
  });

  it("are failures while the queue or translation is off, and PRIQ_ABT_ERR stands", () => {
    const { rig, device } = priRig();
    rig.write(Reg.CR0, Cr0.SMMUEN | Cr0.CMDQEN);
    device.request(1);
    rig.write(Reg.PRIQ_BASE, 2n ** 40n | 2n, 8);
    rig.write(Reg.CR0, Cr0.SMMUEN | Cr0.PRIQEN);
    device.request(2);
    expect(rig.gerror(Gerror.PRIQ_ABT_ERR)).toBe(true);
    device.request(3);
    expect(device.responses.map(({ code }) => code)).toEqual([15, 15, 15]);
    expect(rig.read(Reg.PRIQ_PROD)).toBe(0);
  });

  it("LO: interrupts on the last request of a group, dropped ones included (6.3.34, corner case 49)", () => {
    const lines: string[] = [];
    const rig = new Rig(full, { onWire: (line) => lines.push(line) });
    rig.stage1Stream();
    rig.write(Reg.PRIQ_BASE, rig.frames.alloc() | LOG2_PRIQ, 8);
    rig.write(Reg.PRIQ_IRQ_CFG2, 0x8000_0000);
    rig.start(Cr0.PRIQEN);
    rig.write(Reg.IRQ_CTRL, 2);
    const device = new Device(rig);
    device.request(0, { last: false });
    expect(lines).toEqual([]);
    for (let i = 0; i < 4; i++) device.request(i);
    expect(lines).toEqual(["priq", "priq", "priq", "priq"]);
  });
});

describe("ATS (3.9, 13.6, 14)", () => {
  function atsRig(cd: Values = {}, ste: Values = {}, leaf = LEAF1, hi = 0, cr0 = Cr0.ATSCHK): { rig: Rig; ask: (page?: number, access?: number, pasid?: number) => TranslationCompletion } {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, leaf, hi);
    rig.stage1Stream(cd, { EATS: 1, ...ste });
    rig.start(cr0);
    const ask = (page = PAGE, access = Access.READ | Access.WRITE, pasid = NO_PASID): TranslationCompletion => {
      const out = new TranslationCompletion();
      rig.unit.ats?.requestTranslation(1, pasid, page, access, out);
      return out;
    };
    return { rig, ask };
  }
  const granted = ({ status, read, write, execute, page }: TranslationCompletion): unknown => [status, read, write, execute, page];

  it("grants what both stages give, and less is no fault (13.7, corner case 44)", () => {
    expect(granted(atsRig().ask())).toEqual([0, true, true, false, OUT]);
    const readOnly = atsRig({}, {}, LEAF1 | 0x80);
    expect(granted(readOnly.ask())).toEqual([0, true, false, false, OUT]);
    expect(readOnly.ask(PAGE + 1)).toMatchObject({ status: 0, read: false, write: false });
    expect(readOnly.rig.events()).toEqual([]);
  });

  it("No Write does not make a page dirty, a write request does (3.13.7, corner case 28)", () => {
    const { rig, ask } = atsRig({ HA: 1, HD: 1 }, {}, LEAF1 | 0x80, 1 << 19);
    const dirty = (): boolean => ((rig.memory.readU64(rig.leaf(rig.stage1, PAGE)) ?? 0n) & 0x80n) === 0n;
    expect(granted(ask(PAGE, Access.READ))).toEqual([0, true, false, false, OUT]);
    expect(dirty()).toBe(false);
    expect(granted(ask())).toEqual([0, true, true, false, OUT]);
    expect(dirty()).toBe(true);
  });

  it("Exe needs a PASID and the right to read", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, OUT, 1, LEAF1);
    const table = rig.frames.alloc();
    rig.put(table + 64, CD, rig.cdFields());
    rig.ste({ S1ContextPtr: BigInt(table) >> 6n, S1CDMax: 1, S1DSS: 1, EATS: 1 }).start(Cr0.ATSCHK);
    const out = new TranslationCompletion();
    rig.unit.ats?.requestTranslation(1, 1, PAGE, Access.READ | Access.EXECUTE, out);
    expect(granted(out)).toEqual([0, true, true, true, OUT]);
    // Without a PASID S1DSS takes it past: itself, with every right but execution.
    rig.unit.ats?.requestTranslation(1, NO_PASID, PAGE, Access.READ | Access.EXECUTE, out);
    expect(granted(out)).toEqual([0, true, true, false, PAGE]);
  });

  it("EATS=0, Config=100 and SMMUEN=0 are Unsupported with F_BAD_ATS_TREQ; Config=000 silently", () => {
    const { rig, ask } = atsRig({}, { EATS: 0 });
    expect(ask().status).toBe(CompletionStatus.UNSUPPORTED_REQUEST);
    expect(rig.event()).toMatchObject({ name: "F_BAD_ATS_TREQ", fields: { R: 1, W: 1, X: 0, InputAddr: PAGE * 4096 } });
    rig.ste({ Config: 4 });
    rig.command("CFGI_STE", { StreamID: 1 });
    expect(ask(PAGE, Access.READ).status).toBe(CompletionStatus.UNSUPPORTED_REQUEST);
    expect(rig.event().fields).toMatchObject({ W: 0 });
    rig.ste({ Config: 0 });
    rig.command("CFGI_STE", { StreamID: 1 });
    expect(ask().status).toBe(CompletionStatus.UNSUPPORTED_REQUEST);
    expect(rig.events()).toEqual([]);
    rig.stop();
    expect(ask().status).toBe(CompletionStatus.UNSUPPORTED_REQUEST);
    expect(rig.names()).toEqual(["F_BAD_ATS_TREQ"]);
  });

  it("configuration errors are Completer Abort, recorded with REC_CFG_ATS only", () => {
    for (const [cr2, names] of [[2, []], [10, ["C_BAD_CD"]]] as const) {
      const rig = new Rig();
      rig.stage1Stream({ AA64: 0 }, { EATS: 1 });
      rig.write(Reg.CR2, cr2);
      rig.start(Cr0.ATSCHK);
      const out = new TranslationCompletion();
      rig.unit.ats?.requestTranslation(1, NO_PASID, PAGE, Access.READ, out);
      expect(out.status).toBe(CompletionStatus.COMPLETER_ABORT);
      expect(rig.names()).toEqual(names);
    }
  });

  it("translated transactions pass with full ATS, are forbidden without, and bypass everything with ATSCHK=0 (3.9.1.3, corner case 45)", () => {
    const { rig } = atsRig();
    const translated = (page: number, stream = 1): number | undefined => rig.unit.ats?.translated(stream, NO_PASID, page, Access.WRITE);
    expect(translated(0x777)).toBe(0x777);
    expect(translated(2 ** 40)).toBe(-1);
    rig.ste({ Config: 4 }, 2);
    expect(translated(0x777, 2)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_TRANSL_FORBIDDEN", fields: { RnW: 0 } });
    expect(translated(0x777, 9)).toBe(-1);
    expect(rig.events()).toEqual([]);
    rig.write(Reg.CR0, Cr0.SMMUEN | Cr0.EVENTQEN);
    expect(translated(0x777, 9)).toBe(0x777);
    rig.write(Reg.CR0, Cr0.EVENTQEN);
    expect(translated(0x777)).toBe(-1);
    expect(rig.names()).toEqual(["F_TRANSL_FORBIDDEN"]);
  });

  it("split-stage: the answer is intermediate, and translated traffic goes through stage 2", () => {
    const rig = new Rig();
    rig.stage1.map(PAGE, 0x9_0000, 1, LEAF1);
    rig.nestedStream({}, { EATS: 2 });
    rig.stage2.map(0x9_0000, OUT, 1, LEAF2);
    rig.start(Cr0.ATSCHK);
    expect(rig.dma(PAGE)).toBe(OUT);
    const out = new TranslationCompletion();
    rig.unit.ats?.requestTranslation(1, NO_PASID, PAGE, Access.READ, out);
    expect(granted(out)).toEqual([0, true, true, false, 0x9_0000]);
    expect(rig.unit.ats?.translated(1, NO_PASID, 0x9_0000, Access.READ)).toBe(OUT);
    expect(rig.unit.ats?.translated(1, NO_PASID, 0xa_0000, Access.READ)).toBe(-1);
    expect(rig.event()).toMatchObject({ name: "F_TRANSLATION", fields: { S2: 1 } });
  });

  it("CMD_ATC_INV reaches the device with its range and PASID; a CMD_SYNC waits for the answer, and fails when none comes (3.9.1.4, corner case 36)", () => {
    const { rig } = atsRig();
    const device = new Device(rig);
    rig.command("ATC_INV", { StreamID: 1, SSV: 1, SubstreamID: 5, Addr: 0x123n, Size: 4 });
    rig.command("ATC_INV", { StreamID: 1, Size: 52 });
    expect(device.invalidations).toMatchObject([{ pasid: 5, allPasids: false, page: 0x120, shift: 16 }, { pasid: NO_PASID, shift: 64 }]);
    device.answers = false;
    rig.command("ATC_INV", { StreamID: 1, Addr: 1n });
    rig.command("SYNC");
    expect(rig.drained).toBe(false);
    rig.unit.ats?.completeInvalidation(1, 1 << device.invalidations[2].tag, 1);
    expect(rig.drained).toBe(true);
    rig.command("ATC_INV", { StreamID: 1, Addr: 1n });
    rig.command("SYNC");
    rig.unit.expireInvalidations();
    expect(rig.commandError).toBe(CommandError.ATC_INV_SYNC);
    expect(rig.drained).toBe(false);
    rig.write(Reg.GERRORN, rig.read(Reg.GERROR));
    expect(rig.drained).toBe(true);
  });

  it("CMD_ATC_INV and CMD_PRI_RESP are ignored while translation is off (4.5, corner case 4)", () => {
    const { rig } = atsRig();
    const device = new Device(rig);
    rig.stop();
    rig.command("ATC_INV", { StreamID: 1, Size: 52 });
    rig.command("PRI_RESP", { StreamID: 1, Resp: 2 });
    expect([device.invalidations, device.responses]).toEqual([[], []]);
    expect(rig.drained).toBe(true);
  });
});
