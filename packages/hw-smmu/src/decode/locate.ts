/** From a StreamID and SubstreamID to what translates them: stream table, STE, context descriptors (SMMU 3.3, 5). */
import { CD, L1_CONTEXT_DESCRIPTOR, TG1_AS_TG0 } from "../spec/context.js";
import { Event } from "../spec/events.js";
import { enabledHalves, hasStage1, hasStage2, outputBits, streamWorld, substreamBits, World } from "../spec/illegal.js";
import { L1_STREAM_DESCRIPTOR, S1dss, STE, SteConfig } from "../spec/stream-table.js";
import { GRANULE_SHIFTS, LAST_LEVEL, stage1TopLevel, stage2StartBits, stage2TopLevel } from "../spec/tables.js";
import type { Fields } from "../spec/words.js";
import { brokenCdRules, brokenSteRules } from "./rules.js";
import { through } from "./stages.js";
import { fieldsOf, Stopped, type Trail } from "./trail.js";
import type { Unit } from "./unit.js";

/** The tables of one stage. Levels are the manual's: -1 to 3. */
export interface Tables {
  readonly stage: 1 | 2;
  readonly root: bigint;
  readonly level: number;
  readonly inputBits: number;
  /** log2 of the granule, by the encoding of TG0. */
  readonly granule: number;
  readonly outputBits: number;
  readonly ds: boolean;
  readonly bigEndian: boolean;
}

/** One half of stage 1's input range. */
export interface Half {
  readonly enabled: boolean;
  readonly tables: Tables;
  readonly topByteIgnored: boolean;
  /** Table descriptors give no permissions (HADx). */
  readonly flat: boolean;
  /** Unprivileged accesses fault (E0PDx). */
  readonly e0pd: boolean;
}

export interface Translation {
  readonly kind: "pass-through" | "stage-1" | "stage-2" | "nested";
  readonly ste: Fields;
  readonly world: number;
  readonly second?: Tables;
  readonly cd?: Fields;
  readonly halves?: readonly Half[];
}

/** Rounded down to a power of two. */
const aligned = (address: number | bigint, bytes: number): bigint => BigInt(address) & -BigInt(bytes);

/** @throws Stopped */
export function locate(trail: Trail, rid: number, substream: number | undefined): Translation {
  const { caps, e2h } = trail.unit;
  const at = streamEntry(trail, rid);
  const words = trail.read(STE, at.pa, Event.F_STE_FETCH);
  const f = fieldsOf(STE, words);
  const world = streamWorld(f, caps, e2h);
  const legal = f.V === 1 && f.Config >= 4;
  const broken = legal ? brokenSteRules({ f, caps, world }) : [];
  trail.show(STE, at.pa, words, { index: at.index }, broken);
  if (f.V === 0) throw new Stopped(Event.C_BAD_STE, "the STE has V=0");
  if (!legal) throw new Stopped(undefined, "STE.Config is abort: the transaction ends without a record");
  if (broken.length > 0) throw new Stopped(Event.C_BAD_STE, `the STE is ILLEGAL: ${broken.map(({ text }) => text).join("; ")}`);
  trail.ste = f;
  return translationOf(trail, { f, world }, substream);
}

function translationOf(trail: Trail, { f, world }: { readonly f: Fields; readonly world: number }, substream: number | undefined): Translation {
  const { caps } = trail.unit;
  if (!hasStage1(f) && substream !== undefined) throw new Stopped(Event.C_BAD_SUBSTREAMID, `the stream has no stage 1, but the transaction has SubstreamID 0x${substream.toString(16)}`);
  if (f.Config === SteConfig.BYPASS) return { kind: "pass-through", ste: f, world };
  const second = hasStage2(f) ? { second: secondTables(trail.unit, f) } : {};
  const index = hasStage1(f) ? contextIndex(f, substreamBits(f, caps), substream) : undefined;
  if (index === undefined) {
    if (hasStage1(f)) trail.notes.push("S1DSS: stage 1 is bypassed by transactions without SubstreamID");
    return { kind: hasStage2(f) ? "stage-2" : "pass-through", ste: f, world, ...second };
  }
  const base: Translation = { kind: hasStage2(f) ? "nested" : "stage-1", ste: f, world, ...second };
  const cd = contextDescriptor(trail, base, index);
  return { ...base, cd, halves: halvesOf(trail.unit, cd, world) };
}

/** Index of the CD; undefined where stage 1 is bypassed. @throws Stopped */
function contextIndex(f: Fields, bits: number, substream: number | undefined): number | undefined {
  if (substream === undefined) {
    if (bits === 0) return 0;
    if (f.S1DSS === S1dss.BYPASS) return undefined;
    if (f.S1DSS === S1dss.SUBSTREAM0) return 0;
    throw new Stopped(Event.F_STREAM_DISABLED, "S1DSS ends transactions without SubstreamID");
  }
  if (bits === 0) throw new Stopped(Event.C_BAD_SUBSTREAMID, `the stream takes no SubstreamIDs (S1CDMax=${f.S1CDMax})`);
  if (substream >= 2 ** bits) throw new Stopped(Event.C_BAD_SUBSTREAMID, `SubstreamID 0x${substream.toString(16)} is not below 2^${bits} (S1CDMax)`);
  if (substream === 0 && f.S1DSS === S1dss.SUBSTREAM0) throw new Stopped(Event.F_STREAM_DISABLED, "SubstreamID 0 is that of transactions without one (S1DSS)");
  return substream;
}

export interface StreamTableShape {
  readonly entries: number;
  /** StreamID bits that index the second level; undefined: a linear table. */
  readonly split?: number;
  readonly base: bigint;
}

/** STRTAB_BASE and STRTAB_BASE_CFG (6.3.25, 6.3.26). The base is aligned to LOG2SIZE as written, lookups are capped by SIDSIZE. */
export function streamTableShape({ caps, streamTable, streamTableConfig: config }: Unit): StreamTableShape {
  const log2 = config & 63;
  const entries = 2 ** Math.min(log2, caps.sidBits);
  if (!caps.twoLevelStream || ((config >> 16) & 3) !== 1) return { entries, base: aligned(streamTable, 2 ** (log2 + 6)) };
  const coded = (config >> 6) & 31;
  const split = coded === 8 || coded === 10 ? coded : 6;
  return { entries, split, base: aligned(streamTable, 2 ** Math.max(6, log2 - split + 3)) };
}

/** Second-level table of a level-1 descriptor; undefined when Span says that there is none. */
export function secondLevel(f: Fields, split: number): { readonly base: bigint; readonly entries: number } | undefined {
  if (f.Span === 0 || f.Span > 11 || f.Span > split + 1) return undefined;
  return { base: aligned(f.L2Ptr, 2 ** (5 + f.Span)), entries: 2 ** (f.Span - 1) };
}

interface Place {
  readonly pa: bigint;
  readonly index: { readonly value: number; readonly from: string };
}

function streamEntry(trail: Trail, rid: number): Place {
  const { entries, split, base } = streamTableShape(trail.unit);
  if (rid >= entries) throw new Stopped(Event.C_BAD_STREAMID, `StreamID 0x${rid.toString(16)} is not below 0x${entries.toString(16)}, the table's size`);
  if (split === undefined) return { pa: base + BigInt(rid) * 64n, index: { value: rid, from: "StreamID" } };
  const upper = Math.floor(rid / 2 ** split);
  const lower = rid % 2 ** split;
  const at = base + BigInt(upper) * 8n;
  const words = trail.read(L1_STREAM_DESCRIPTOR, at, Event.F_STE_FETCH);
  trail.show(L1_STREAM_DESCRIPTOR, at, words, { index: { value: upper, from: `StreamID 31:${split}` } });
  const f = fieldsOf(L1_STREAM_DESCRIPTOR, words);
  const table = secondLevel(f, split);
  if (table === undefined) throw new Stopped(Event.C_BAD_STREAMID, `the level-1 descriptor has Span=${f.Span}: there is no second-level table`);
  if (lower >= table.entries) throw new Stopped(Event.C_BAD_STREAMID, `the second-level table has ${table.entries} entries (Span=${f.Span}), and ${lower} is not among them`);
  return { pa: table.base + BigInt(lower) * 64n, index: { value: lower, from: `StreamID ${split - 1}:0` } };
}

/** Where CDs lie: entries of a second-level table, as log2; 0 for a linear table. */
export function contextLeafBits(f: Fields, bits: number): number {
  return bits === 0 ? 0 : [0, 6, 10, 0][f.S1Fmt];
}

/** A table of context descriptors is aligned to its size. */
export function contextTable(pointer: number, bits: number): bigint {
  return aligned(pointer, 64 * 2 ** bits);
}

/** Address of a level-1 context descriptor. */
export function contextLevel1(f: Fields, bits: number, leafBits: number, upper: number): bigint {
  return aligned(f.S1ContextPtr, Math.max(64, 8 * 2 ** (bits - leafBits))) + BigInt(upper) * 8n;
}

function contextDescriptor(trail: Trail, t: Translation, index: number): Fields {
  const { caps } = trail.unit;
  const bits = substreamBits(t.ste, caps);
  const leafBits = contextLeafBits(t.ste, bits);
  let at = contextTable(t.ste.S1ContextPtr, bits) + BigInt(index) * 64n;
  let place = { value: index, from: "SubstreamID" };
  if (leafBits > 0) {
    const upper = Math.floor(index / 2 ** leafBits);
    const lower = index % 2 ** leafBits;
    const pa = through(trail, t, contextLevel1(t.ste, bits, leafBits, upper), "CD", "the level-1 context descriptor");
    const words = trail.read(L1_CONTEXT_DESCRIPTOR, pa, Event.F_CD_FETCH);
    trail.show(L1_CONTEXT_DESCRIPTOR, pa, words, { index: { value: upper, from: `SubstreamID 19:${leafBits}` } });
    const f = fieldsOf(L1_CONTEXT_DESCRIPTOR, words);
    if (f.V === 0) throw new Stopped(Event.C_BAD_SUBSTREAMID, "the level-1 context descriptor has V=0");
    if (f.L2Ptr >= 2 ** (t.second === undefined ? caps.oas : caps.ias)) throw new Stopped(Event.C_BAD_SUBSTREAMID, "L2Ptr of the level-1 context descriptor is beyond the address size");
    at = contextTable(f.L2Ptr, leafBits) + BigInt(lower) * 64n;
    place = { value: lower, from: `SubstreamID ${leafBits - 1}:0` };
  }
  const pa = through(trail, t, at, "CD", "the context descriptor");
  const words = trail.read(CD, pa, Event.F_CD_FETCH);
  const f = fieldsOf(CD, words);
  const broken = f.V === 1 ? brokenCdRules({ f, ste: t.ste, caps, world: t.world }) : [];
  trail.show(CD, pa, words, { index: place }, broken);
  if (f.V === 0) throw new Stopped(Event.C_BAD_CD, "the context descriptor has V=0");
  if (broken.length > 0) throw new Stopped(Event.C_BAD_CD, `the context descriptor is ILLEGAL: ${broken.map(({ text }) => text).join("; ")}`);
  trail.cd = f;
  return f;
}

/** Start tables are aligned to their size, and to 64 bytes where addresses have more than 48 bits. */
function startTable(address: number, startBits: number, outputWidth: number): bigint {
  return aligned(address, Math.max(8 * 2 ** startBits, outputWidth > 48 ? 64 : 8));
}

/** Of a legal STE with stage 2. */
export function secondTables({ caps }: Unit, f: Fields): Tables {
  const width = outputBits(f.S2PS, caps);
  const top = stage2TopLevel(f, caps);
  const startBits = stage2StartBits(f, caps);
  if (top === undefined || startBits === undefined) throw new Error("a legal STE without a start of stage 2");
  return {
    stage: 2, root: startTable(f.S2TTB, startBits, width), level: LAST_LEVEL - top, inputBits: 64 - f.S2T0SZ, granule: f.S2TG,
    outputBits: width, ds: caps.ds && f.S2DS === 1, bigEndian: f.S2ENDI === 1,
  };
}

function halvesOf({ caps }: Unit, f: Fields, world: number): Half[] {
  const width = outputBits(f.IPS, caps);
  const enabled = enabledHalves(f, world);
  const half = (upper: 0 | 1, size: number, granule: number, base: number): Half => {
    const inputBits = 64 - size;
    // A half that is off may hold anything.
    const top = enabled[upper] ? stage1TopLevel(granule, inputBits) : 0;
    const shift = GRANULE_SHIFTS[granule] ?? 12;
    const tables: Tables = {
      stage: 1, root: startTable(base, Math.max(0, inputBits - (shift + (shift - 3) * top)), width), level: LAST_LEVEL - top, inputBits, granule,
      outputBits: width, ds: caps.ds && f.DS === 1, bigEndian: f.ENDI === 1,
    };
    return {
      enabled: enabled[upper], tables, topByteIgnored: f[`TBI${upper}`] === 1, flat: caps.hierarchicalDisable && f[`HAD${upper}`] === 1,
      e0pd: caps.e0pd && world !== World.EL2 && f[`E0PD${upper}`] === 1,
    };
  };
  return [half(0, f.T0SZ, f.TG0, f.TTB0), half(1, f.T1SZ, TG1_AS_TG0[f.TG1], f.TTB1)];
}
