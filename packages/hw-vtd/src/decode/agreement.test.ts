/**
 * The decoder and the hardware read the same tables by different code: over random tables, most of them with something wrong,
 * the decoder's verdict is what the hardware does.
 */
import { Access, encodeFields, NO_PASID, PhysicalMemory, type TableSource, type WalkReport, type WalkRequest } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { vtdReplayUnitFactory } from "../hardware/replay.js";
import { PRESETS, type VtdPreset } from "../presets.js";
import { CAP, ECAP, readCapabilities } from "../spec/capabilities.js";
import {
  LEGACY_CONTEXT_ENTRY, LEGACY_ROOT_ENTRY, PASID_DIRECTORY_ENTRY, PASID_TABLE_ENTRY, Pgtt, SCALABLE_CONTEXT_ENTRY, SCALABLE_ROOT_ENTRY,
} from "../spec/entries.js";
import { Reg } from "../spec/registers.js";
import { vtdTableDecoder } from "./decoder.js";

const CASES = 1500;
const REQUESTS = 10;
/** Entries of a table that hold anything; addresses have indexes below it, mostly. */
const FILLED = 6;
const ROOT = 1;
const CONTEXT = 2;
const DIRECTORY = 3;
const PASIDS = 4;
/** Pages of tables, one a level, first stage and second stage. */
const FIRST = 8;
const SECOND = 16;
const RAM_PAGES = 64;

/** xorshift32: one number names a whole case. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed + 1, 0x9e37_79b1) ^ 0x5bd1_e995) | 1;
  }

  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
}

interface Case {
  readonly registers: Record<string, bigint>;
  readonly requests: readonly WalkRequest[];
}

function makeCase(preset: VtdPreset, memory: PhysicalMemory, seed: number): Case {
  const random = new Random(seed);
  const caps = readCapabilities(preset.version, preset.cap, preset.ecap, preset.haw);
  memory.write(0, new Uint8Array(RAM_PAGES * 4096));
  const put = (page: number, offset: number, words: readonly bigint[]): void => {
    // Now and then one bit is not as it should be.
    const bent = random.chance(6) ? random.below(words.length * 64) : -1;
    for (const [i, word] of words.entries()) memory.writeU64(page * 4096 + offset + i * 8, bent >> 6 === i ? word ^ (1n << BigInt(bent & 63)) : word);
  };
  const flag = (percent: number): bigint => (random.chance(percent) ? 1n : 0n);
  const page = (normal: number): bigint => BigInt(random.chance(3) ? random.pick([0, RAM_PAGES + 5, 2 ** (preset.haw - 12), 0xfee00]) : normal);
  const ifAble = (able: boolean, value: bigint): bigint => (able || random.chance(2) ? value : 0n);
  const mode = random.chance(4) ? BigInt(random.below(4)) : caps.scalableMode && random.chance(75) ? 1n : 0n;

  const widths = [1, 2, 3].filter((width) => (caps.sagaw >> width) & 1);
  const width = random.chance(3) ? random.below(8) : random.pick(widths);
  const firstLevels = caps.firstStage5Level && random.chance(40) ? 5 : 4;
  const rid = 0x18 + random.below(2) * 0x80;
  const pasid = random.chance(60) ? 5 : 70;
  const domain = BigInt(random.below(16));
  if (mode === 0n) {
    put(ROOT, 0, encodeFields(LEGACY_ROOT_ENTRY, { P: flag(97), CTP: page(CONTEXT) }));
    const type = random.pick([0n, 0n, 0n, 2n, BigInt(random.below(4))]);
    const aw = type === 2n && random.chance(85) ? Math.max(...widths) : width;
    put(CONTEXT, (rid & 0xff) * 16, encodeFields(LEGACY_CONTEXT_ENTRY, { P: flag(97), FPD: flag(5), TT: type, SSPTPTR: page(SECOND + aw + 1), AW: BigInt(aw), DID: domain }));
  } else {
    put(ROOT, 0, encodeFields(SCALABLE_ROOT_ENTRY, { LP: flag(97), LCTP: page(CONTEXT), UP: flag(97), UCTP: page(CONTEXT) }));
    const ridPasid = ifAble(caps.ridPasid, random.chance(40) ? BigInt(random.pick([5, 70, 0x3fff])) : 0n);
    const context = {
      P: flag(97), FPD: flag(5), PASIDE: ifAble(caps.pasid, flag(85)), PRE: flag(2), EPTR: flag(2), PDTS: BigInt(random.chance(90) ? 7 : 0), PASIDDIRPTR: page(DIRECTORY),
      RID_PASID: ridPasid, RID_PRIV: ifAble(caps.ridPrivileged, flag(20)),
    };
    put(CONTEXT, (rid & 0x7f) * 32, encodeFields(SCALABLE_CONTEXT_ENTRY, context));
    for (const index of [0, 1]) put(DIRECTORY, index * 8, encodeFields(PASID_DIRECTORY_ENTRY, { P: flag(97), FPD: flag(4), SMPTBLPTR: page(PASIDS) }));
    for (const slot of new Set([0, 5, 70 & 63, 0x3fff & 63])) {
      const able = [
        ...(caps.firstStage ? [Pgtt.FIRST_STAGE, Pgtt.FIRST_STAGE] : []), ...(caps.secondStage ? [Pgtt.SECOND_STAGE] : []), ...(caps.passThrough ? [Pgtt.PASS_THROUGH] : []),
        ...(caps.nesting ? [Pgtt.NESTED, Pgtt.NESTED] : []),
      ];
      const type = random.chance(3) ? random.below(8) : random.pick(able);
      const second = type === Pgtt.SECOND_STAGE || type === Pgtt.NESTED;
      const first = type === Pgtt.FIRST_STAGE || type === Pgtt.NESTED;
      const entry = {
        P: flag(97), FPD: flag(4), AW: ifAble(second, BigInt(width)), PGTT: BigInt(type), SSADE: ifAble(caps.secondStageDirty && second, flag(40)),
        SSPTPTR: second ? page(SECOND + width + 1) : 0n, DID: domain, PWSNP: ifAble(caps.walkCoherency, flag(80)), SRE: ifAble(caps.supervisor, flag(60)),
        FSPM: random.chance(2) ? BigInt(random.below(4)) : first ? BigInt(firstLevels - 4) : 0n, WPE: ifAble(caps.firstStage, flag(40)),
        EAFE: ifAble(caps.extendedAccessed, flag(30)), FSPTPTR: first ? page(FIRST + firstLevels - 1) : 0n,
      };
      put(PASIDS, slot * 64, encodeFields(PASID_TABLE_ENTRY, entry));
    }
  }
  const ssirwe = random.chance(caps.secondStageIoRights && mode === 1n ? 25 : 1);
  const rights = (): bigint => {
    const low = random.chance(85) ? 3n : BigInt(random.below(4));
    return ssirwe ? (low << 61n) | BigInt(random.below(4)) : low;
  };
  for (let level = 0; level < 5; level++) {
    for (let index = 0; index < FILLED; index++) {
      const leaf = level === 0 || (level <= 2 && random.chance(8)) || random.chance(1);
      const target = (next: number): bigint => (leaf && level > 0 ? BigInt(random.below(3)) << BigInt(9 * level) : level === 0 ? (random.chance(5) ? page(0xfee00 + 3) : BigInt(random.below(RAM_PAGES))) : page(next)) << 12n;
      const large = leaf && level > 0 ? 0x80n : 0n;
      put(FIRST + level, index * 8, [flag(97) | (flag(80) << 1n) | (flag(85) << 2n) | (flag(85) << 5n) | (flag(60) << 6n) | (flag(60) << 10n) | large | target(FIRST + level - 1)]);
      put(SECOND + level, index * 8, [rights() | (flag(85) << 8n) | (flag(60) << 9n) | large | target(SECOND + level - 1)]);
    }
  }
  // Guest-physical is host-physical where first-stage tables lie.
  for (let index = FILLED; index < RAM_PAGES; index++) put(SECOND, index * 8, [rights() | (flag(85) << 8n) | (flag(60) << 9n) | (BigInt(index) << 12n)]);
  const requests = Array.from({ length: REQUESTS }, (): WalkRequest => {
    const bits = random.pick([12, 21, 30, 39, 47, 48, 56, 57, 64]);
    const indexes = Array.from({ length: 5 }, (_, level) => BigInt(random.below(FILLED)) << BigInt(12 + 9 * level)).reduce((all, part) => all | part);
    let iova = (random.chance(4) ? BigInt(random.below(2 ** 30)) << 34n : indexes) & ((1n << BigInt(bits)) - 1n);
    if (random.chance(4)) iova = BigInt.asUintN(64, ~iova);
    if (random.chance(2)) iova = 0xfee0_1000n;
    return {
      rid, iova,
      access: random.pick(["read", "read", "write", "write", "atomic"] as const), execute: random.chance(10),
      ...(random.chance(mode === 1n ? 40 : 3) ? { pasid: random.chance(4) ? random.pick([0, 0x3fff, 0xfffff]) : pasid } : {}),
      privileged: random.chance(30),
    };
  });
  const registers = { VER: BigInt(preset.version), CAP: preset.cap, ECAP: preset.ecap, HAW: BigInt(preset.haw), RTADDR: BigInt(ROOT * 4096) | (mode << 10n) | (ssirwe ? 0x80n : 0n), STRICT: 1n };
  return { registers, requests };
}

const ACCESS = { read: Access.READ, write: Access.WRITE, atomic: Access.READ | Access.WRITE } as const;
const outcome = (verdict: WalkReport["verdict"]): string => (verdict.ok ? `page 0x${Math.floor(verdict.pa / 4096).toString(16)}` : `reason ${verdict.code.split(" ")[0]}`);

/** Everything that a decoder can be asked about. */
const FULL: VtdPreset = {
  about: "",
  version: 0x60,
  haw: 46,
  cap: encodeFields(CAP, { ND: 6n, ZLR: 1n, SSLPS: 3n, PSI: 1n, MAMV: 18n, ESRTPS: 1n, FRO: 0x22n, NFR: 7n, SAGAW: 14n, MGAW: 47n, FS1GP: 1n, FS5LP: 1n })[0],
  ecap: encodeFields(ECAP, {
    C: 1n, QI: 1n, PT: 1n, SC: 1n, IRO: 0xfn, NEST: 1n, SRS: 1n, EAFS: 1n, PSS: 19n, PASID: 1n, SMTS: 1n, SSADS: 1n, SSTS: 1n, FSTS: 1n, SMPWC: 1n, RPS: 1n, ADMS: 1n,
    RPRIVS: 1n, SSIRWS: 1n,
  })[0],
};

describe.each([...Object.entries(PRESETS), ["nesting", FULL] as const])("decoder and hardware of a %s unit", (_name, named) => {
  // SRTP flushes the caches of this one, so that each request can be the first.
  const preset = { ...named, cap: named.cap | (1n << 63n) };

  it(`agree on ${CASES} random tables`, { timeout: 120_000 }, () => {
    const seen = new Set<string>();
    const memory = new PhysicalMemory();
    memory.addRam(0, RAM_PAGES * 4096);
    const word = (value: bigint | number): string => `0x${value.toString(16)}`;
    const unit = vtdReplayUnitFactory.create(memory, { registers: { VER: word(preset.version), CAP: word(preset.cap), ECAP: word(preset.ecap) }, haw: preset.haw });
    for (let seed = 0; seed < CASES; seed++) {
      const { registers, requests } = makeCase(preset, memory, seed);
      const source: TableSource = { iommu: "vtd", registers, read: (pa, target) => memory.read(pa, target) };
      for (const [i, request] of requests.entries()) {
        unit.clearFaults();
        unit.write(Reg.RTADDR, 8, registers.RTADDR);
        unit.write(Reg.GCMD, 4, 0xc000_0000n);
        const { verdict } = vtdTableDecoder.walk(source, request);
        const access = ACCESS[request.access] | (request.privileged ? Access.PRIVILEGED : 0) | (request.execute ? Access.EXECUTE : 0);
        const page = unit.hardware.translate(request.rid, request.pasid ?? NO_PASID, Number(request.iova >> 12n), access);
        const fault = unit.takeFault();
        const silent = page === -1 && fault === undefined;
        if (silent) expect(verdict.ok ? "" : verdict.note, `seed ${seed}, request ${i}`).toContain("FPD");
        else expect(outcome(verdict), `seed ${seed}, request ${i}`).toBe(page === -1 ? `reason ${String(fault?.reason)}` : `page 0x${page.toString(16)}`);
        if (!verdict.ok && !silent) expect(verdict.note ?? "", `seed ${seed}, request ${i}`).not.toContain("FPD");
        seen.add(verdict.ok ? "ok" : verdict.code.replace(/.*\((.*)\)/, "$1"));
      }
    }
    // The cases are worth their time only when they reach the rows.
    expect(seen.size).toBeGreaterThanOrEqual(named === FULL ? 60 : preset.ecap === PRESETS.scalable.ecap ? 55 : 20);
  });
});
