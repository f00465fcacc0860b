/** `TableDecoder` for SMMUv3: one walk explained, or everything that the tables map. */
import type { AddressSpaceDump, TableDecoder, TableSource, WalkReport, WalkRequest } from "@iommukit/core";
import { Right, rightLetters } from "@iommukit/core/decode";
import { Event } from "../spec/events.js";
import { SteConfig } from "../spec/stream-table.js";
import { bypassAttributes, carriedAttributes } from "./attributes.js";
import { dumpUnit, STREAM_LIMIT } from "./dump.js";
import { locate, streamTableShape, type Translation } from "./locate.js";
import { halfOf, translateFirst, translateSecond, type Wanted } from "./stages.js";
import { Stopped, Trail } from "./trail.js";
import { readUnit, type Unit } from "./unit.js";

export const smmuTableDecoder: TableDecoder = {
  iommu: "smmuv3",
  registers: ["STRTAB_BASE", "STRTAB_BASE_CFG", "CR0", "CR2", "GBPA", "IDR0", "IDR1", "IDR3", "IDR5", "AIDR"],

  summary(source: TableSource): readonly string[] {
    const unit = readUnit(source);
    const missing = ["IDR0", "IDR1", "IDR3", "IDR5"].filter((name) => source.registers[name] === undefined);
    const { entries } = streamTableShape(unit);
    return [
      modeLine(unit),
      ...(missing.length > 0 ? [`${missing.join(", ")} not given: the unit is taken to have everything that they announce`] : []),
      ...(entries > STREAM_LIMIT ? [`a dump looks at the first ${STREAM_LIMIT} StreamIDs`] : []),
    ];
  },

  walk(source: TableSource, request: WalkRequest): WalkReport {
    const trail = new Trail(readUnit(source));
    const { steps } = trail;
    try {
      if (!trail.unit.enabled) return { steps, verdict: disabled(trail.unit, request) };
      const { address, pageSize, rights, attributes } = translate(trail, locate(trail, request.rid, request.pasid), request);
      return { steps, verdict: { ok: true, pa: Number(address), pageSize, permissions: rightLetters(rights), attributes, ...noted(trail) } };
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
      const fate = fateOf(trail, error);
      if (fate !== undefined) trail.notes.unshift(fate);
      return { steps, verdict: { ok: false, code: error.code, reason: error.message, section: error.section, ...noted(trail) } };
    }
  },

  dump: (source: TableSource): Iterable<AddressSpaceDump> => dumpUnit(readUnit(source)),
};

function modeLine(unit: Unit): string {
  if (!unit.enabled) return unit.abortAll ? "SMMUEN is 0 and GBPA.ABORT is 1: every transaction aborts" : "SMMUEN is 0: every transaction bypasses the unit";
  const { entries, split, base } = streamTableShape(unit);
  return `${split === undefined ? "linear" : `two-level (split ${split})`} stream table at 0x${base.toString(16)} for StreamIDs below 0x${entries.toString(16)}`;
}

function noted({ notes }: Trail): { note?: string } {
  return notes.length === 0 ? {} : { note: notes.join("; ") };
}

/** SMMUEN=0 (3.4, 6.3.14): nothing is recorded. */
function disabled({ caps, abortAll, gbpa }: Unit, { iova }: WalkRequest): WalkReport["verdict"] {
  const aborted = (reason: string): WalkReport["verdict"] => ({ ok: false, code: "abort", reason, section: "SMMU 6.3.14" });
  if (abortAll) return aborted("SMMUEN is 0 and GBPA.ABORT is 1");
  if (iova >= 1n << BigInt(caps.oas)) return aborted(`SMMUEN is 0 and the address has more than ${caps.oas} bits`);
  return { ok: true, pa: Number(iova), pageSize: 4096, permissions: "rwx", attributes: bypassAttributes(gbpa, caps.typeOverride), note: "SMMUEN is 0: the transaction bypasses the unit" };
}

/** PRIVCFG and INSTCFG come before permissions; writes are data (5.2, 13.4). */
function wantedBy({ unit: { caps } }: Trail, { ste }: Translation, { access, execute = false, privileged = false }: WalkRequest): Wanted {
  const [priv, inst] = caps.permissionOverride ? [ste.PRIVCFG, ste.INSTCFG] : [0, 0];
  const write = access !== "read";
  const fetch = !write && (inst === 3 || (inst !== 2 && execute));
  return { read: access !== "write", write, fetch, privileged: priv === 3 || (priv !== 2 && privileged) };
}

interface Answer {
  readonly address: bigint;
  readonly pageSize: number;
  readonly rights: number;
  readonly attributes: string;
}

function translate(trail: Trail, t: Translation, request: WalkRequest): Answer {
  const { caps } = trail.unit;
  const { iova } = request;
  const wanted = wantedBy(trail, t, request);
  const tooLarge = (bits: number): Stopped => new Stopped(Event.F_ADDR_SIZE, `stage 1 is bypassed, and the address has more than ${bits} bits`);
  if (t.halves === undefined) {
    const bits = t.kind === "pass-through" && t.ste.Config === SteConfig.BYPASS ? caps.oas : caps.ias;
    if (iova >= 1n << BigInt(bits)) throw tooLarge(bits);
    if (t.kind === "stage-2" && t.second !== undefined) {
      const only = translateSecond(trail, t, iova, wanted, { cause: "IN", context: {} });
      return { ...only, attributes: carriedAttributes(trail, t, undefined, { word: only.word, tables: t.second }) };
    }
    trail.notes.push("pass-through: the address is the physical address");
    return { address: BigInt.asUintN(caps.oas, iova), pageSize: 4096, rights: Right.READ | Right.WRITE | Right.EXECUTE, attributes: carriedAttributes(trail, t, undefined, undefined) };
  }
  const first = translateFirst(trail, t, iova, wanted);
  const half = halfOf(t, iova);
  const firstLeaf = { word: first.word, tables: half.tables, half: half === t.halves[1] ? (1 as const) : (0 as const) };
  if (t.second === undefined) {
    first.update();
    return { ...first, attributes: carriedAttributes(trail, t, firstLeaf, undefined) };
  }
  const ipa = first.address;
  const second = translateSecond(trail, t, ipa, wanted, { cause: "IN", context: { purpose: `IPA 0x${ipa.toString(16)}` } });
  first.update();
  return { address: second.address, pageSize: Math.min(first.pageSize, second.pageSize), rights: first.rights & second.rights,
    attributes: carriedAttributes(trail, t, firstLeaf, { word: second.word, tables: t.second }) };
}

/** What becomes of the transaction and its record (5.5, 7.2): said where it is not the usual abort with a record. */
function fateOf({ unit, ste = {}, cd = {} }: Trail, { event, details: { controlledBy } }: Stopped): string | undefined {
  if (event === Event.C_BAD_STREAMID && !unit.recordsStreams) return "nothing is recorded: CR2.RECINVSID is 0";
  if (controlledBy === undefined) return undefined;
  const [stalls, records] = controlledBy === 1 ? [cd.S, cd.R] : [ste.S2S, ste.S2R];
  if (stalls === 1) return controlledBy === 1 ? "the transaction stalls (CD.S)" : "the transaction stalls (STE.S2S)";
  if (records === 0) return controlledBy === 1 ? "nothing is recorded: CD.R is 0" : "nothing is recorded: STE.S2R is 0";
  return controlledBy === 1 && cd.A === 0 ? "the transaction ends as RAZ/WI (CD.A=0)" : undefined;
}
