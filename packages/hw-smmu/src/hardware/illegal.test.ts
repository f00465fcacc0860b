/** Each rule of what is ILLEGAL, broken alone: the unit says C_BAD_STE or C_BAD_CD. */
import { describe, expect, it } from "vitest";
import { Rig, type Values } from "../reference/rig.js";
import { identify, UNITS } from "../reference/units.js";
import type { Identification } from "../reference/request.js";
import { CD, CD_RULES, hasStage1, type IllegalRule, readCapabilities, readFields, STE, STE_RULES, streamWorld, World } from "../spec/index.js";

interface Broken {
  readonly rule: string;
  readonly id?: Identification;
  readonly ste?: Values;
  readonly cd?: Values;
  /** Which stages are on: 5, 6 or 7. */
  readonly config: 5 | 6 | 7;
}

const full = UNITS["with everything"];
const idr0 = { S2P: 1n, S1P: 1n, TTF: 2n, ASID16: 1n, VMID16: 1n, TTENDIAN: 2n, ST_LEVEL: 1n, HTTU: 2n, Hyp: 1n, CD2L: 1n, ATS: 1n };
const idr1 = { SIDSIZE: 16n, SSIDSIZE: 8n, CMDQS: 8n, EVENTQS: 8n };
const idr5 = { OAS: 5n, GRAN4K: 1n, GRAN16K: 1n, GRAN64K: 1n, STALL_MAX: 4n };
const unit = (zero: Record<string, bigint> = {}, five: Record<string, bigint> = {}, one: Record<string, bigint> = {}): Identification =>
  identify(1, { ...idr0, ...zero }, { ...idr1, ...one }, { XNX: 1n, HAD: 1n }, { ...idr5, ...five });

const STE_CASES: readonly Broken[] = [
  { rule: "Config: stage 1 is not implemented", id: unit({ S1P: 0n, Hyp: 0n }), config: 5 },
  { rule: "Config: stage 2 is not implemented", id: unit({ S2P: 0n }), config: 6 },
  { rule: "EATS: split-stage ATS is not for this stream", config: 6, ste: { EATS: 2 } },
  { rule: "EATS: split-stage ATS is not for this stream", config: 7, ste: { EATS: 2, S2S: 1 } },
  { rule: "EATS: split-stage ATS is not for this stream", config: 7, id: unit({ NS1ATS: 1n }), ste: { EATS: 2 } },
  { rule: "EATS: full ATS on a stream that stage 2 may stall", config: 6, ste: { EATS: 1, S2S: 1 } },
  { rule: "STRW: reserved", config: 5, ste: { STRW: 1 } },
  { rule: "STRW: reserved", config: 5, ste: { STRW: 3 } },
  { rule: "S1STALLD: the unit's stall model is not changed by streams", id: unit({ STALL_MODEL: 1n }), config: 5, ste: { S1STALLD: 1 } },
  { rule: "S1CDMax: more SubstreamIDs than the unit has", id: unit(), config: 5, ste: { S1CDMax: 9, S1DSS: 2 } },
  { rule: "S1Fmt: two-level CD tables are not implemented", id: unit({ CD2L: 0n }), config: 5, ste: { S1CDMax: 3, S1Fmt: 1, S1DSS: 2 } },
  { rule: "S1Fmt: two-level CD tables are not implemented", id: unit({ CD2L: 0n }), config: 5, ste: { S1CDMax: 3, S1Fmt: 2, S1DSS: 2 } },
  { rule: "S1ContextPtr: beyond the address size", id: unit(), config: 5, ste: { S1ContextPtr: 1n << 42n } },
  { rule: "S1ContextPtr: beyond the address size", id: unit(), config: 7, ste: { S1ContextPtr: 1n << 42n } },
  { rule: "S2AA64: the table format is not implemented", config: 6, ste: { S2AA64: 0 } },
  { rule: "S2S: against the unit's stall model", id: unit({ STALL_MODEL: 1n }), config: 6, ste: { S2S: 1 } },
  { rule: "S2S: against the unit's stall model", id: unit({ STALL_MODEL: 2n }), config: 6, ste: { S2S: 0 } },
  { rule: "S2HA: access flags are not updated by this unit", id: unit({ HTTU: 0n }), config: 6, ste: { S2HA: 1 } },
  { rule: "S2HD: dirty state is not updated by this unit", id: unit({ HTTU: 1n }), config: 6, ste: { S2HA: 1, S2HD: 1 } },
  { rule: "S2HAFT: table access flags without access flags", id: unit({ HTTU: 3n }), config: 6, ste: { S2HAFT: 1 } },
  { rule: "S2TG: reserved or not implemented", config: 6, ste: { S2TG: 3 } },
  { rule: "S2TG: reserved or not implemented", id: unit({}, { GRAN16K: 0n }), config: 6, ste: { S2TG: 2, S2SL0: 2, S2T0SZ: 17 } },
  { rule: "S2T0SZ: out of range", id: unit(), config: 6, ste: { S2T0SZ: 15, S2SL0: 2 } },
  { rule: "S2T0SZ: out of range", id: unit(), config: 6, ste: { S2T0SZ: 40, S2SL0: 0 } },
  { rule: "S2SL0: does not fit S2T0SZ and S2TG", config: 6, ste: { S2T0SZ: 25, S2SL0: 2 } },
  { rule: "S2SL0: does not fit S2T0SZ and S2TG", config: 6, ste: { S2T0SZ: 20, S2SL0: 1 } },
  { rule: "S2TTB: beyond the output address size", id: unit(), config: 6, ste: { S2PS: 0, S2TTB: 1n << 28n } },
  { rule: "S2TTB: beyond the output address size", config: 6, ste: { S2TTB: 1n << 44n } },
  { rule: "S2ENDI: the unit has no tables of this endianness", id: unit(), config: 6, ste: { S2ENDI: 1 } },
  { rule: "S2ENDI: the unit has no tables of this endianness", id: unit({ TTENDIAN: 3n }), config: 6, ste: { S2ENDI: 0 } },
  { rule: "S2VMID: wider than 8 bits", id: unit({ VMID16: 0n }), config: 6, ste: { S2VMID: 256 } },
  { rule: "S2VMID: wider than 8 bits", id: unit({ VMID16: 0n }), config: 5, ste: { S2VMID: 256 } },
];

const CD_CASES: readonly Broken[] = [
  { rule: "S: the STE forbids stalls", config: 5, ste: { S1STALLD: 1 }, cd: { S: 1 } },
  { rule: "A: the unit aborts always", id: unit({ TERM_MODEL: 1n }), config: 5, cd: { A: 0 } },
  { rule: "S: against the unit's stall model", id: unit({ STALL_MODEL: 1n }), config: 5, cd: { S: 1 } },
  { rule: "S: against the unit's stall model", id: unit({ STALL_MODEL: 2n }), config: 5, cd: { S: 0 } },
  { rule: "ENDI: the unit has no tables of this endianness", id: unit(), config: 5, cd: { ENDI: 1 } },
  { rule: "AA64: the table format is not implemented", config: 5, cd: { AA64: 0 } },
  { rule: "HA: access flags are not updated by this unit", id: unit({ HTTU: 0n }), config: 5, cd: { HA: 1 } },
  { rule: "HD: dirty state is not updated by this unit", id: unit({ HTTU: 1n }), config: 5, cd: { HA: 1, HD: 1 } },
  { rule: "HAFT: table access flags without access flags", id: unit({ HTTU: 3n }), config: 5, cd: { HAFT: 1 } },
  { rule: "ASID: wider than 8 bits", id: unit({ ASID16: 0n }), config: 5, cd: { ASID: 256 } },
  { rule: "TxSZ: out of range", id: unit(), config: 5, cd: { T0SZ: 40 } },
  { rule: "TxSZ: out of range", id: unit(), config: 5, cd: { T0SZ: 15 } },
  { rule: "TxSZ: out of range", id: unit(), config: 5, cd: { EPD1: 0, T1SZ: 40, TG1: 2 } },
  { rule: "TxSZ: out of range", config: 5, cd: { T0SZ: 11 } },
  { rule: "TGx: reserved or not implemented", id: unit(), config: 5, cd: { EPD1: 0, T1SZ: 16, TG1: 0 } },
  { rule: "TGx: reserved or not implemented", id: unit(), config: 5, cd: { TG0: 3 } },
  { rule: "TGx: reserved or not implemented", id: unit({}, { GRAN64K: 0n }), config: 5, cd: { TG0: 1 } },
  { rule: "TTBx: beyond the output address size", id: unit(), config: 5, cd: { IPS: 0, TTB0: 1n << 28n } },
  { rule: "TTBx: beyond the output address size", id: unit(), config: 5, cd: { EPD1: 0, T1SZ: 16, TG1: 2, TTB1: 1n << 44n } },
];

const nameOf = (rule: { readonly name: string; readonly text: string }): string => `${rule.name}: ${rule.text}`;

function rigFor({ id = full, ste = {}, cd = {}, config }: Broken): Rig {
  const rig = new Rig(id);
  const stall = id === full ? {} : ((id.idr0 >> 24) & 3) === 2 ? { S: 1, S2S: 1 } : {};
  const big = ((id.idr0 >> 21) & 3) === 3 ? { S2ENDI: 1, ENDI: 1 } : {};
  const only = (allowed: readonly string[]): Record<string, number> => Object.fromEntries(Object.entries({ ...stall, ...big }).filter(([name]) => allowed.includes(name)));
  const cdValues = { IPS: id === full ? 6 : 5, ...only(["S", "ENDI"]), ...cd };
  const stage2 = rig.stage2Fields({ Config: config, S2PS: id === full ? 6 : 5, S2T0SZ: 16, S2SL0: 2, ...only(["S2S", "S2ENDI"]), ...ste });
  if (config === 6) rig.ste(stage2);
  else if (config === 7) rig.nestedStream(cdValues, stage2);
  else rig.stage1Stream(cdValues, ste);
  return rig.start();
}

describe.each([
  ["STE", STE_CASES, STE_RULES as readonly IllegalRule<never>[], "C_BAD_STE"],
  ["CD", CD_CASES, CD_RULES as readonly IllegalRule<never>[], "C_BAD_CD"],
] as const)("%s (5.2.2, 5.4.2, corner cases 15 and 16)", (_structure, cases, rules, event) => {
  it("every rule has a case", () => {
    expect([...new Set(cases.map(({ rule }) => rule))].sort()).toEqual([...new Set(rules.map(nameOf))].sort());
  });

  it.each(cases.map((broken) => [`${broken.rule} ${JSON.stringify({ ...broken.ste, ...broken.cd }, (_, value: unknown) => (typeof value === "bigint" ? value.toString() : value))}`, broken] as const))("%s", (_name, broken) => {
    const rig = rigFor(broken);
    expect(rig.dma(0x10)).toBe(-1);
    expect(rig.names()).toEqual([event]);
    expect(brokenRules(rig)).toEqual([broken.rule]);
  });
});

/** The rules that stream 1's structures in memory break, by the tables alone. */
function brokenRules(rig: Rig): string[] {
  const words = (at: number): Uint32Array => {
    const bytes = new Uint8Array(64);
    rig.memory.read(at, bytes);
    return new Uint32Array(bytes.buffer);
  };
  const caps = rig.unit.capabilities;
  const f = readFields(STE, words(rig.steAddress(1)));
  const world = streamWorld(f, caps, false);
  const ste = STE_RULES.filter((rule) => rule.when({ f, caps, world })).map(nameOf);
  if (ste.length > 0 || !hasStage1(f)) return ste;
  const cd = readFields(CD, words(f.S1ContextPtr));
  return CD_RULES.filter((rule) => rule.when({ f: cd, ste: f, caps, world })).map(nameOf);
}

describe("what is IGNORED does not make a structure ILLEGAL (5.2, corner cases 13 and 17)", () => {
  const garbage = { S2T0SZ: 63, S2SL0: 3, S2TG: 3, S2AA64: 0, S2HD: 1, S2ENDI: 1, S2TTB: (1n << 52n) - 1n };
  it("stage-2 fields with Config=101", () => {
    const rig = new Rig();
    rig.stage1.map(0x10, 0x99, 1, 0xc40);
    rig.stage1Stream({}, garbage);
    expect(rig.start().dma(0x10)).toBe(0x99);
  });
  it("everything with Config=000: silent", () => {
    const rig = new Rig();
    rig.ste({ ...garbage, Config: 0, EATS: 2, STRW: 3, S1CDMax: 31, S1STALLD: 1 });
    expect(rig.start().dma(0x10)).toBe(-1);
    expect(rig.events()).toEqual([]);
  });
  it("stage-1 fields with Config=110", () => {
    const rig = new Rig();
    rig.stage2.map(0x10, 0x99, 1, 0x4fc);
    rig.ste(rig.stage2Fields({ S1CDMax: 31, S1Fmt: 2, S1STALLD: 1, S1ContextPtr: (1n << 50n) - 1n, STRW: 3 }));
    expect(rig.start().dma(0x10)).toBe(0x99);
  });
  it("a half that EPDx disables", () => {
    const rig = new Rig();
    rig.stage1.map(0x10, 0x99, 1, 0xc40);
    rig.stage1Stream({ EPD1: 1, T1SZ: 63, TG1: 0, TTB1: (1n << 52n) - 1n });
    expect(rig.start().dma(0x10)).toBe(0x99);
  });
  it("S1CDMax without SubstreamIDs", () => {
    const rig = new Rig(unit({ CD2L: 0n }, {}, { SSIDSIZE: 0n }));
    rig.stage1.map(0x10, 0x99, 1, 0xc40);
    rig.stage1Stream({ IPS: 5 }, { S1CDMax: 5, S1Fmt: 1 });
    expect(rig.start().dma(0x10)).toBe(0x99);
  });
});

it("no rule names a field that its structure lacks", () => {
  const caps = readCapabilities(full);
  const strict = (known: readonly string[]): Record<string, number> =>
    new Proxy(Object.fromEntries(known.map((name) => [name, 0])), {
      get: (target, name) => {
        if (typeof name === "string" && !(name in target)) throw new Error(`no field ${name}`);
        return Reflect.get(target, name) as number;
      },
    });
  const rig = new Rig();
  const steNames = Object.keys(rig.stage2Fields()).concat("V", "S1ContextPtr", "S1CDMax", "S1Fmt", "S1DSS", "EATS", "STRW", "S1STALLD", "S2TG", "S2ENDI", "S2HA", "S2HD", "S2HAFT", "S2S", "S2SL0_2", "S2DS");
  const cdNames = Object.keys(rig.cdFields()).concat("T1SZ", "TG0", "TG1", "EPD0", "ENDI", "HA", "HD", "HAFT", "S", "TTB1", "DS");
  for (const Config of [4, 5, 6, 7]) {
    for (const rule of STE_RULES) {
      const f = strict(steNames);
      f.Config = Config;
      expect(() => rule.when({ f, caps, world: World.EL1 })).not.toThrow();
    }
  }
  for (const rule of CD_RULES) expect(() => rule.when({ f: strict(cdNames), ste: strict(steNames), caps, world: World.EL1 })).not.toThrow();
});
