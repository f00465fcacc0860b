/**
 * What a structure must not hold in one unit, beyond the bits that are always
 * reserved: fields of absent capabilities, addresses above the host address
 * width, domain ids that are too wide (VT-d 9).
 */
import { extractBits, fieldValue, type FieldTable } from "@iommukit/core";
import type { Capabilities } from "./capabilities.js";
import {
  LEGACY_CONTEXT_ENTRY,
  LEGACY_ROOT_ENTRY,
  PASID_DIRECTORY_ENTRY,
  PASID_TABLE_ENTRY,
  Pgtt,
  SCALABLE_CONTEXT_ENTRY,
  SCALABLE_ROOT_ENTRY,
} from "./entries.js";
import { DEV_TLB_DESCRIPTOR, P_DEV_TLB_DESCRIPTOR, WAIT_DESCRIPTOR } from "./descriptors.js";
import { IRTE_POSTED, IRTE_REMAPPED } from "./interrupts.js";
import * as paging from "./paging-entries.js";

/** A unit as far as its structures depend on it. */
export interface UnitRules {
  readonly caps: Capabilities;
  /** Latched RTADDR.SSIRWE: the second stage's rights are IR and IW. */
  readonly ssirwe?: boolean;
  /** Latched IRTA.EIME; undefined: not known. */
  readonly eime?: boolean;
}

/** Reserved bits that are set. */
export interface Violation {
  /** Field that they lie in. */
  readonly field: string;
  /** "63:39" */
  readonly bits: string;
  /** Why they are reserved: "ECAP.DT=0". */
  readonly why: string;
}

type Value = (name: string) => number;
interface Rule {
  readonly field: string;
  /** Bits of the field that the rule is about; the whole field unless given. */
  readonly bits?: (rules: UnitRules) => readonly [low: number, width: number];
  readonly applies: (rules: UnitRules) => boolean;
  /** A further condition on the structure's own fields. */
  readonly when?: (value: Value) => boolean;
  readonly why: (rules: UnitRules) => string;
}

const without = (capability: keyof Capabilities, why: string, ...fields: readonly string[]): Rule[] =>
  fields.map((field) => ({ field, applies: ({ caps }) => caps[capability] === false, why: () => why }));

/** Bits 63:HAW of a page address; `low` is the page number's lowest address bit. */
function hostAddress(field: string, top = 64, low = 12): Rule {
  return {
    field,
    bits: ({ caps }) => [Math.max(0, caps.haw - low), top - Math.max(caps.haw, low)],
    applies: ({ caps }) => caps.haw < top,
    why: ({ caps }) => `above the host address width of ${caps.haw} bits`,
  };
}

const domainId = (field: string): Rule => ({
  field,
  bits: ({ caps }) => [caps.domainIdBits, 16 - caps.domainIdBits],
  applies: ({ caps }) => caps.domainIdBits < 16,
  why: ({ caps }) => `domain ids have ${caps.domainIdBits} bits (CAP.ND)`,
});

/** SNP of a leaf, and IW, which is a right only with SSIRWE (9.8). */
const secondStage = (leaf: boolean): Rule[] => [
  { field: "IW", applies: ({ ssirwe }) => ssirwe !== true, why: () => "RTADDR.SSIRWE=0" },
  ...(leaf ? without("snoopControl", "ECAP.SC=0", "SNP") : []),
];
const largePage = (level: number): Rule => ({
  field: "PS",
  applies: ({ caps }) => ((caps.secondStageLargePages >> (level - 1)) & 1) === 0,
  why: () => `CAP.SSLPS has no ${level === 1 ? "2 MiB" : "1 GiB"} pages`,
});

const RULES: ReadonlyMap<FieldTable, readonly Rule[]> = new Map<FieldTable, readonly Rule[]>([
  [LEGACY_ROOT_ENTRY, [hostAddress("CTP")]],
  [SCALABLE_ROOT_ENTRY, [hostAddress("LCTP"), hostAddress("UCTP")]],
  // With TT=2 the pointer is ignored, its upper bits included.
  [LEGACY_CONTEXT_ENTRY, [{ ...hostAddress("SSPTPTR"), when: (value) => value("TT") !== 2 }, domainId("DID")]],
  [SCALABLE_CONTEXT_ENTRY, [
    ...without("deviceTlb", "ECAP.DT=0", "DTE"), ...without("pasid", "ECAP.PASID=0", "PASIDE"), ...without("pageRequests", "ECAP.PRS=0", "PRE"),
    ...without("hostPermission", "ECAP.HPTS=0", "HPTE"), ...without("translatedPasid", "ECAP.PTRS=0", "EPTR"), ...without("ridPasid", "ECAP.RPS=0", "RID_PASID"),
    ...without("ridPrivileged", "ECAP.RPRIVS=0", "RID_PRIV"), hostAddress("PASIDDIRPTR"),
  ]],
  [PASID_DIRECTORY_ENTRY, [hostAddress("SMPTBLPTR")]],
  [PASID_TABLE_ENTRY, [
    ...without("secondStage", "ECAP.SSTS=0", "AW", "SSADE", "SSPTPTR"), ...without("secondStageDirty", "ECAP.SSADS=0", "SSADE"),
    ...without("walkCoherency", "ECAP.SMPWC=0", "PWSNP"), ...without("snoopControl", "ECAP.SC=0", "PGSNP"),
    ...without("memoryType", "ECAP.MTS=0", "CD", "EMTE", "PAT"), ...without("supervisor", "ECAP.SRS=0", "SRE"),
    ...without("firstStage", "ECAP.FSTS=0", "FSPM", "WPE", "FSPTPTR"), ...without("extendedAccessed", "ECAP.EAFS=0", "EAFE"),
    ...without("hostPermission", "ECAP.HPTS=0", "HPTSZ", "HPTPFD", "HPTPTR", "HPTDID"),
    hostAddress("SSPTPTR"), hostAddress("FSPTPTR"), hostAddress("HPTPTR"), domainId("DID"), domainId("HPTDID"),
  ]],
  ...[paging.FS_PML5E, paging.FS_PML4E, paging.FS_PDPE, paging.FS_PDE, paging.FS_PTE].map((table) => [table, [hostAddress("ADDR", 52)]] as const),
  [paging.FS_PDPE_1G, [hostAddress("ADDR", 52, 30), ...without("firstStage1G", "CAP.FS1GP=0", "PS")]],
  [paging.FS_PDE_2M, [hostAddress("ADDR", 52, 21)]],
  ...[paging.SS_PML5E, paging.SS_PML4E, paging.SS_PDPE, paging.SS_PDE].map((table) => [table, [hostAddress("ADDR", 52), ...secondStage(false)]] as const),
  [paging.SS_PDPE_1G, [hostAddress("ADDR", 52, 30), ...secondStage(true), largePage(2)]],
  [paging.SS_PDE_2M, [hostAddress("ADDR", 52, 21), ...secondStage(true), largePage(1)]],
  [paging.SS_PTE, [hostAddress("ADDR", 52), ...secondStage(true)]],
  [IRTE_REMAPPED, [
    { field: "DST", bits: () => [0, 8], applies: ({ eime }) => eime === false, why: () => "IRTA.EIME=0: only bits 47:40 are a destination" },
    { field: "DST", bits: () => [16, 16], applies: ({ eime }) => eime === false, why: () => "IRTA.EIME=0: only bits 47:40 are a destination" },
    { field: "SVT", applies: () => true, when: (value) => value("SVT") === 3, why: () => "SVT 3 is reserved" },
  ]],
  [IRTE_POSTED, [
    ...without("postedInterrupts", "CAP.PI=0", "IM", "URG"), hostAddress("PDAH", 64, 32),
    { field: "SVT", applies: () => true, when: (value) => value("SVT") === 3, why: () => "SVT 3 is reserved" },
  ]],
  [WAIT_DESCRIPTOR, without("pageRequestDrain", "ECAP.PDS=0", "PD")],
  [DEV_TLB_DESCRIPTOR, without("deviceTlbThrottle", "ECAP.DIT=0", "PFSID_LOW", "PFSID_HIGH")],
  [P_DEV_TLB_DESCRIPTOR, without("deviceTlbThrottle", "ECAP.DIT=0", "PFSID_LOW", "PFSID_HIGH")],
]);

/** Fields that a PASID table entry's PGTT makes ignored, whatever they hold (9.6). */
const IGNORED_BY_PGTT: Readonly<Record<string, readonly number[]>> = {
  AW: [Pgtt.FIRST_STAGE, Pgtt.PASS_THROUGH], SSADE: [Pgtt.FIRST_STAGE, Pgtt.PASS_THROUGH], SSPTPTR: [Pgtt.FIRST_STAGE, Pgtt.PASS_THROUGH],
  EMTE: [Pgtt.FIRST_STAGE, Pgtt.PASS_THROUGH], FSPM: [Pgtt.SECOND_STAGE, Pgtt.PASS_THROUGH], WPE: [Pgtt.SECOND_STAGE, Pgtt.PASS_THROUGH],
  EAFE: [Pgtt.SECOND_STAGE, Pgtt.PASS_THROUGH], FSPTPTR: [Pgtt.SECOND_STAGE, Pgtt.PASS_THROUGH],
};

/** True when hardware does not look at the field's value in a PASID table entry of this PGTT. */
export function isIgnored(field: string, pgtt: number): boolean {
  return IGNORED_BY_PGTT[field]?.includes(pgtt) ?? false;
}

/** Bits that a rule is about, as the lowest one and a width of 1 or more; undefined where it does not hold. */
function extent(rule: Rule, table: FieldTable, rules: UnitRules): readonly [low: number, width: number] | undefined {
  const field = table.fields.find((row) => row.name === rule.field);
  if (field === undefined || !rule.applies(rules)) return undefined;
  const [offset, width] = rule.bits?.(rules) ?? [0, field.width];
  return width <= 0 ? undefined : [field.low + offset, width];
}

function holds(rule: Rule, table: FieldTable, words: readonly bigint[]): boolean {
  return rule.when?.((name) => Number(fieldValue(table, words, name))) ?? true;
}

/** Bits that the unit calls reserved and that are set; the rows' own reserved bits are not among them. */
export function violations(table: FieldTable, words: readonly bigint[], rules: UnitRules): Violation[] {
  const found: Violation[] = [];
  for (const rule of RULES.get(table) ?? []) {
    const [low, width] = extent(rule, table, rules) ?? [0, 0];
    if (width === 0 || extractBits(words, low, width) === 0n || !holds(rule, table, words)) continue;
    found.push({ field: rule.field, bits: width === 1 ? `${low}` : `${low + width - 1}:${low}`, why: rule.why(rules) });
  }
  return found;
}

/** Masks of the rows and of the rules without `when`, by unit and structure: a dump asks for each of millions of entries. */
const masks = new WeakMap<UnitRules, Map<FieldTable, readonly bigint[]>>();

function maskOf(table: FieldTable, rules: UnitRules): readonly bigint[] {
  let known = masks.get(rules);
  if (known === undefined) masks.set(rules, (known = new Map()));
  let mask = known.get(table);
  if (mask === undefined) {
    mask = table.reserved.map((word, i) => {
      let whole = word << BigInt(64 * i);
      for (const rule of RULES.get(table) ?? []) {
        const [low, width] = extent(rule, table, rules) ?? [0, 0];
        if (rule.when === undefined) whole |= ((1n << BigInt(width)) - 1n) << BigInt(low);
      }
      return (whole >> BigInt(64 * i)) & 0xffff_ffff_ffff_ffffn;
    });
    known.set(table, mask);
  }
  return mask;
}

/** True when a bit is set that every unit, or this one, calls reserved. */
export function breaksRules(table: FieldTable, words: readonly bigint[], rules: UnitRules): boolean {
  if (maskOf(table, rules).some((mask, i) => (words[i] & mask) !== 0n)) return true;
  return (RULES.get(table) ?? []).some((rule) => {
    if (rule.when === undefined) return false;
    const [low, width] = extent(rule, table, rules) ?? [0, 0];
    return width !== 0 && extractBits(words, low, width) !== 0n && holds(rule, table, words);
  });
}
