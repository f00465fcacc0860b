/**
 * What makes an STE or a CD ILLEGAL (SMMU 5.2.2, 5.4.2): one row a rule. Every broken rule of a structure is the same event, so
 * that the order means nothing. Rules on fields that the structure ignores are not asked.
 */
import { ADDRESS_SIZES, type Capabilities, StallModel, TableEndian } from "./identification.js";
import { TG1_AS_TG0 } from "./context.js";
import { Eats, SteConfig } from "./stream-table.js";
import { stage2StartBits } from "./tables.js";
import type { Fields } from "./words.js";

/** Translation regimes (SMMU 3.3.4): what an STE's traffic belongs to. */
export const World = { EL1: 0, EL2: 1, EL2_E2H: 2, IPA: 3 } as const;

export interface SteContext {
  readonly f: Fields;
  readonly caps: Capabilities;
  readonly world: number;
}

export interface CdContext {
  readonly f: Fields;
  readonly ste: Fields;
  readonly caps: Capabilities;
  readonly world: number;
}

export interface IllegalRule<Context> {
  /** The field that is wrong. */
  readonly name: string;
  readonly text: string;
  readonly when: (context: Context) => boolean;
}

export const hasStage1 = (f: Fields): boolean => f.Config >= 4 && (f.Config & 1) === 1;
export const hasStage2 = (f: Fields): boolean => f.Config >= 4 && (f.Config & 2) === 2;

/** STRW counts only where stage 1 alone may be on (5.2). */
export function streamWorld(f: Fields, caps: Capabilities, e2h: boolean): number {
  if (!caps.stage1 || !caps.hyp || hasStage2(f) || f.Config === SteConfig.BYPASS || f.STRW !== 2) return World.EL1;
  return e2h ? World.EL2_E2H : World.EL2;
}

/** S1CDMax is IGNORED without SubstreamIDs. */
export const substreamBits = (f: Fields, caps: Capabilities): number => (caps.ssidBits === 0 ? 0 : f.S1CDMax);

/** Output address size of an IPS or S2PS field, capped by OAS. */
export function outputBits(encoding: number, caps: Capabilities): number {
  const largest = caps.minor === 0 ? 5 : 6;
  return Math.min(ADDRESS_SIZES[Math.min(encoding, largest)], caps.oas);
}

/** EATS counts with ATS and for traffic that may be translated; 11 acts as 00 without DPT, which is not modelled (3.9). */
export function effectiveEats(f: Fields, caps: Capabilities, atsCheck: boolean): number {
  if (!caps.ats || f.Config === SteConfig.BYPASS || f.Config < 4 || f.EATS === Eats.DPT) return Eats.NONE;
  return f.EATS === Eats.SPLIT && !atsCheck ? Eats.NONE : f.EATS;
}

function badSize(size: number, granule: number, ds: boolean, least: number, caps: Capabilities): boolean {
  const most = caps.smallTables ? (granule === 1 ? 47 : 48) : 39;
  return size > most || size < (granule === 1 || ds ? Math.max(12, least) : Math.max(16, least));
}
const beyond = (address: number, bits: number): boolean => address >= 2 ** bits;
const badEndian = (big: number, caps: Capabilities): boolean =>
  (caps.endian === TableEndian.LITTLE && big === 1) || (caps.endian === TableEndian.BIG && big === 0);
const badStall = (stall: number, caps: Capabilities): boolean =>
  (caps.stallModel === StallModel.NONE && stall === 1) || (caps.stallModel === StallModel.FORCED && stall === 0);

type Ste = IllegalRule<SteContext>;
const ste = (name: string, text: string, when: Ste["when"]): Ste => ({ name, text, when });
/** Rules that count with stage 1, with stage 2, or with ATS only. */
const stage1 = (name: string, text: string, when: Ste["when"]): Ste => ste(name, text, (c) => hasStage1(c.f) && when(c));
const stage2 = (name: string, text: string, when: Ste["when"]): Ste => ste(name, text, (c) => hasStage2(c.f) && when(c));
const ats = (text: string, when: Ste["when"]): Ste => ste("EATS", text, (c) => c.caps.ats && c.f.Config !== SteConfig.BYPASS && when(c));

/** Of an STE with V=1 and Config other than abort. */
export const STE_RULES: readonly Ste[] = [
  stage1("Config", "stage 1 is not implemented", ({ caps }) => !caps.stage1),
  stage2("Config", "stage 2 is not implemented", ({ caps }) => !caps.stage2),
  ats("split-stage ATS is not for this stream", ({ f, caps }) => f.EATS === Eats.SPLIT && (f.Config !== SteConfig.NESTED || f.S2S === 1 || caps.noSplitAts)),
  ats("full ATS on a stream that stage 2 may stall", ({ f }) => f.EATS === Eats.FULL && f.S2S === 1 && hasStage2(f)),
  ste("STRW", "reserved", ({ f, caps }) => caps.stage1 && caps.hyp && f.Config === SteConfig.STAGE1 && (f.STRW & 1) === 1),
  stage1("S1STALLD", "the unit's stall model is not changed by streams", ({ f, caps }) => f.S1STALLD === 1 && caps.stallModel !== StallModel.BOTH),
  stage1("S1CDMax", "more SubstreamIDs than the unit has", ({ f, caps }) => substreamBits(f, caps) > caps.ssidBits),
  stage1("S1Fmt", "two-level CD tables are not implemented", ({ f, caps }) => substreamBits(f, caps) > 0 && !caps.twoLevelCd && (f.S1Fmt === 1 || f.S1Fmt === 2)),
  stage1("S1ContextPtr", "beyond the address size", ({ f, caps }) => beyond(f.S1ContextPtr, hasStage2(f) ? caps.ias : caps.oas)),
  stage2("S2AA64", "the table format is not implemented", ({ f, caps }) => f.S2AA64 === 0 || !caps.aarch64),
  stage2("S2S", "against the unit's stall model", ({ f, caps }) => badStall(f.S2S, caps)),
  stage2("S2HA", "access flags are not updated by this unit", ({ f, caps }) => (f.S2HA === 1 || f.S2HD === 1) && caps.httu === 0),
  stage2("S2HD", "dirty state is not updated by this unit", ({ f, caps }) => f.S2HD === 1 && caps.httu === 1),
  stage2("S2HAFT", "table access flags without access flags", ({ f, caps }) => f.S2HAFT === 1 && f.S2HA === 0 && caps.httu === 3),
  stage2("S2TG", "reserved or not implemented", ({ f, caps }) => caps.granules[f.S2TG] !== true),
  stage2("S2T0SZ", "out of range", ({ f, caps }) => badSize(f.S2T0SZ, f.S2TG, caps.ds && f.S2DS === 1, 64 - caps.ias, caps)),
  stage2("S2SL0", "does not fit S2T0SZ and S2TG", ({ f, caps }) => f.S2TG !== 3 && stage2StartBits(f, caps) === undefined),
  stage2("S2TTB", "beyond the output address size", ({ f, caps }) => beyond(f.S2TTB, tableBits(outputBits(f.S2PS, caps), f.S2TG, caps.ds && f.S2DS === 1))),
  stage2("S2ENDI", "the unit has no tables of this endianness", ({ f, caps }) => badEndian(f.S2ENDI, caps)),
  ste("S2VMID", "wider than 8 bits", ({ f, caps, world }) => caps.stage2 && !caps.vmid16 && world === World.EL1 && f.Config !== SteConfig.BYPASS && f.S2VMID > 255),
];

/** A base address has 48 bits at most without 52-bit descriptors. */
function tableBits(bits: number, granule: number, ds: boolean): number {
  return granule === 1 || ds ? bits : Math.min(bits, 48);
}

/** A half of the input range as the CD describes it; EPDx is IGNORED, and the upper half absent, where there is one privilege level. */
interface Half {
  readonly size: number;
  readonly granule: number;
  readonly base: number;
}

export function enabledHalves(f: Fields, world: number): readonly boolean[] {
  return world === World.EL2 ? [true, false] : [f.EPD0 === 0, f.EPD1 === 0];
}

function halves({ f, world }: CdContext): Half[] {
  const enabled = enabledHalves(f, world);
  const all: Half[] = [
    { size: f.T0SZ, granule: f.TG0, base: f.TTB0 },
    { size: f.T1SZ, granule: TG1_AS_TG0[f.TG1], base: f.TTB1 },
  ];
  return all.filter((_, i) => enabled[i]);
}

type Cd = IllegalRule<CdContext>;
const cd = (name: string, text: string, when: Cd["when"]): Cd => ({ name, text, when });

/** Of a CD with V=1. */
export const CD_RULES: readonly Cd[] = [
  cd("S", "the STE forbids stalls", ({ f, ste: s }) => s.S1STALLD === 1 && f.S === 1),
  cd("A", "the unit aborts always", ({ f, caps }) => caps.abortOnly && f.A === 0),
  cd("S", "against the unit's stall model", ({ f, caps }) => badStall(f.S, caps)),
  cd("ENDI", "the unit has no tables of this endianness", (c) => halves(c).length > 0 && badEndian(c.f.ENDI, c.caps)),
  cd("AA64", "the table format is not implemented", ({ f, caps }) => f.AA64 === 0 || !caps.aarch64),
  cd("HA", "access flags are not updated by this unit", ({ f, caps }) => (f.HA === 1 || f.HD === 1) && caps.httu === 0),
  cd("HD", "dirty state is not updated by this unit", ({ f, caps }) => f.HD === 1 && caps.httu === 1),
  cd("HAFT", "table access flags without access flags", ({ f, caps }) => f.HAFT === 1 && f.HA === 0 && caps.httu === 3),
  cd("ASID", "wider than 8 bits", ({ f, caps, world }) => !caps.asid16 && world !== World.EL2 && f.ASID > 255),
  cd("TxSZ", "out of range", (c) =>
    halves(c).some(({ size, granule }) => badSize(size, granule, c.caps.ds && c.f.DS === 1, c.caps.vax >= 1 ? 12 : 16, c.caps))),
  cd("TGx", "reserved or not implemented", (c) => halves(c).some(({ granule }) => c.caps.granules[granule] !== true)),
  cd("TTBx", "beyond the output address size", (c) =>
    halves(c).some(({ base, granule }) => beyond(base, tableBits(outputBits(c.f.IPS, c.caps), granule, c.caps.ds && c.f.DS === 1)))),
];
