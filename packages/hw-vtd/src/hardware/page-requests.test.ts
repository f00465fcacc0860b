/** Page requests on the unit's side (VT-d 7.4). */
import { Access, fieldValue, NO_PASID, type PageRequest, PageResponseCode } from "@iommukit/core";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { PASID_DIRECTORY_ENTRY, TranslationTableMode as TTM } from "../spec/entries.js";
import { PAGE_REQUEST } from "../spec/records.js";
import { Prs, Reg } from "../spec/registers.js";
import { AT, type BenchOptions, RID, type TestEndpoint, UnitBench } from "./unit.test-support.js";

const { SUCCESS, INVALID, FAILURE } = PageResponseCode;

describe("page requests", () => {
  let bench: UnitBench;
  let endpoint: TestEndpoint;

  const use = (options: BenchOptions = {}, mode: number = TTM.SCALABLE, context: Readonly<Record<string, number>> = {}): void => {
    bench = new UnitBench(options);
    bench.scalableTables(context);
    bench.start(mode);
    bench.write(Reg.PQA, BigInt(AT.PAGE_REQUESTS));
    endpoint = bench.endpoint();
  };
  beforeEach(() => use());

  const ask = (request: Partial<PageRequest> = {}): void => bench.unit.ats?.requestPage({ rid: RID, pasid: 7, page: 9, access: Access.READ, group: 3, last: true, ...request });
  const entry = (index: number): Record<string, bigint> => {
    const words = [0, 1, 2, 3].map((i) => bench.memory.readU64(AT.PAGE_REQUESTS + index * 32 + i * 8) ?? -1n);
    return Object.fromEntries(PAGE_REQUEST.fields.filter(({ name }) => name !== "").map(({ name }) => [name, fieldValue(PAGE_REQUEST, words, name)]));
  };
  const prs = (): number => Number(bench.read(Reg.PRS, 4));
  const tail = (): number => Number(bench.read(Reg.PQT));

  it("are written with all their fields, and told by PPR", () => {
    ask({ page: 2 ** 52 - 3, access: Access.WRITE | Access.PRIVILEGED, group: 0x1ff });
    ask({ pasid: NO_PASID, page: 0x1234, access: Access.READ | Access.EXECUTE, group: 0, last: false });
    expect(entry(0)).toEqual({ type: 1n, PP: 1n, RID: BigInt(RID), PASID: 7n, EXR: 0n, PMR: 1n, RDR: 0n, WRR: 1n, LPIG: 1n, PRGI: 0x1ffn, ADDR: 2n ** 52n - 3n });
    expect(entry(1)).toEqual({ type: 1n, PP: 0n, RID: BigInt(RID), PASID: 0n, EXR: 1n, PMR: 0n, RDR: 1n, WRR: 0n, LPIG: 0n, PRGI: 0n, ADDR: 0x1234n });
    expect([tail(), prs(), endpoint.responses]).toEqual([64, Prs.PPR, []]);
  });

  it.each([
    ["legacy mode", TTM.LEGACY, {}, {}, 0x32], ["abort mode", TTM.ABORT, {}, {}, 0x33], ["a reserved mode", TTM.RESERVED, {}, {}, 0x30],
    ["PRE=0", TTM.SCALABLE, { PRE: 0 }, {}, 0x47], ["PASIDE=0", TTM.SCALABLE, { PASIDE: 0 }, {}, 0x45], ["a PASID that equals RID_PASID", TTM.SCALABLE, {}, { pasid: 0 }, 0x48],
    ["a PASID beyond the directory", TTM.SCALABLE, {}, { pasid: 0x8000 }, 0x46], ["no directory entry", TTM.SCALABLE, {}, { pasid: 0x1000 }, 0x51], ["no PASID entry", TTM.SCALABLE, {}, { pasid: 8 }, 0x59],
    ["no context entry", TTM.SCALABLE, {}, { rid: 0x19 }, 0x41],
  ] as const)("corner 51: %s is recorded and answered Invalid Request, the last of a group only; nothing is queued", (_name, mode, context, request, reason) => {
    use({}, mode, context);
    const other = bench.endpoint(0x19);
    ask({ ...request, last: false });
    expect(bench.record(0)?.reason).toBe(reason);
    expect([...endpoint.responses, ...other.responses]).toEqual([]);
    ask(request);
    expect([...endpoint.responses, ...other.responses]).toEqual([{ pasid: "pasid" in request ? request.pasid : 7, group: 3, code: INVALID }]);
    expect([tail(), prs()]).toEqual([0, 0]);
  });

  it("corner 51: faults with FPD are answered, not recorded", () => {
    bench.put(PASID_DIRECTORY_ENTRY, AT.DIRECTORY + 8, { P: 0, FPD: 1 });
    ask({ pasid: 64 });
    expect([bench.record(0), endpoint.responses.map(({ code }) => code)]).toEqual([undefined, [INVALID]]);
  });

  it("corner 51: a full queue holds N - 1; then PRO with an event, Success for the last of a group, silence for others", () => {
    bench.write(Reg.PECTL, 0n, 4);
    bench.write(Reg.PQH, 0x20n);
    bench.write(Reg.PQT, 0x20n);
    for (let i = 0; i < 127; i++) ask({ last: false });
    expect([tail(), prs(), bench.messages.length]).toEqual([0, Prs.PPR, 1]);
    bench.write(Reg.PRS, BigInt(Prs.PPR), 4);
    ask({ last: false });
    expect([tail(), prs(), bench.messages.length, endpoint.responses]).toEqual([0, Prs.PRO, 2, []]);
    ask({ group: 9 });
    expect(endpoint.responses).toEqual([{ pasid: 7, group: 9, code: SUCCESS }]);
    // Room alone does not end an overflow.
    bench.write(Reg.PQH, 0n);
    ask({ group: 10 });
    expect([tail(), endpoint.responses.at(-1)]).toEqual([0, { pasid: 7, group: 10, code: SUCCESS }]);
    bench.write(Reg.PRS, BigInt(Prs.PRO), 4);
    ask();
    expect([tail(), endpoint.responses.length, bench.messages.length]).toEqual([0x20, 2, 3]);
  });

  it("corner 51: faults are recorded even while an overflow stands", () => {
    for (let i = 0; i < 128; i++) ask({ last: false });
    expect(prs() & Prs.PRO).toBe(Prs.PRO);
    ask({ pasid: 8 });
    expect([bench.record(0)?.reason, endpoint.responses[0].code]).toEqual([0x59, INVALID]);
  });

  it("have a ring as large as PQA says, whose offsets wrap", () => {
    bench.write(Reg.PQA, BigInt(AT.PAGE_REQUESTS) | 1n);
    for (let i = 0; i < 300; i++) {
      ask({ page: i });
      bench.write(Reg.PQH, bench.read(Reg.PQT));
    }
    expect([tail(), prs() & Prs.PRO, entry(0).ADDR, entry(255).ADDR]).toEqual([(300 % 256) * 32, 0, 256n, 255n]);
  });

  it.each([["a first stage", 1, 7, 6, false], ["a second stage", 2, NO_PASID, 6, false], ["nested translation", 3, 7, 6, true]])(
    "corner 52: drop what is cached for the page; %s: the whole domain when nested", (_name, pgtt, pasid, neighbour, wide) => {
      use({}, TTM.SCALABLE);
      bench.scalableTables({}, pgtt === 3 ? { PGTT: 3, SSPTPTR: AT.SECOND >> 12, AW: 2 } : {});
      // A second stage that maps low memory onto itself, so that nested tables are found.
      if (pgtt === 3) for (let page = 0; page < 16; page++) bench.memory.writeU64(AT.SECOND + 0x3000 + page * 8, BigInt(page << 12) | 3n);
      const table = pgtt === 2 ? AT.SECOND : AT.FIRST;
      const flags = pgtt === 2 ? 3n : 0x67n;
      const target = pgtt === 3 ? 6n << 12n : BigInt(AT.PAGES);
      const map = (page: number, out: bigint): void => void bench.memory.writeU64(table + 0x3000 + page * 8, out | flags);
      map(5, target);
      map(neighbour, target);
      bench.start(TTM.SCALABLE);
      const out = (page: number): number => bench.dma(page, Access.READ, pasid);
      expect([out(5), out(neighbour)]).toEqual([Number(target >> 12n), Number(target >> 12n)]);
      map(5, target + 4096n);
      map(neighbour, target + 4096n);
      ask({ pasid, page: 5 });
      expect(prs()).toBe(Prs.PPR);
      expect(out(5)).toBe(Number(target >> 12n) + 1);
      expect(out(neighbour) === Number(target >> 12n) + 1).toBe(wide);
    });

  it("corner 53: a stop marker is queued and never answered, not even when it faults", () => {
    ask({ access: 0, group: 0 });
    expect(entry(0)).toMatchObject({ RDR: 0n, WRR: 0n, LPIG: 1n });
    ask({ access: 0, pasid: 8 });
    expect([tail(), endpoint.responses]).toEqual([32, []]);
  });

  it.each([
    ["translation is off", {}, INVALID], ["the unit has no page requests", { PRS: 0 }, FAILURE],
  ])("are answered at once where nobody would look at them: %s", (_name, fields, code) => {
    use({ fields });
    bench.write(Reg.GCMD, 0n, 4);
    ask({ last: false });
    ask();
    expect(endpoint.responses).toEqual([{ pasid: 7, group: 3, code }]);
  });

  it("survive any request and any queue registers", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ rid: fc.integer({ min: 0, max: 0xffff }), pasid: fc.integer({ min: -1, max: 0xfffff }), page: fc.maxSafeInteger(), access: fc.nat(15), group: fc.nat(511), last: fc.boolean() }), { maxLength: 40 }),
        fc.array(fc.record({ register: fc.constantFrom(Reg.PQA, Reg.PQH, Reg.PQT, Reg.PRS, Reg.PECTL), value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }), { maxLength: 8 }),
        (requests, writes) => {
          use();
          for (const { register, value } of writes) bench.write(register, value, bench.unit.bank.at(register)?.width ?? 8);
          for (const request of requests) ask({ ...request, page: Math.abs(request.page) % 2 ** 52, ...(request.rid % 3 === 0 ? { rid: RID, pasid: 7 } : {}) });
          expect(prs()).toBeLessThan(4);
          expect(tail() % 32).toBe(0);
        },
      ),
    );
  });
});
