/**
 * Scenes: a unit that can do everything, tables that translate one address, and a request that goes through. A recipe changes
 * one thing in a scene, and the request is blocked.
 */
import { type FieldTable, NO_PASID } from "@iommukit/core";
import {
  LEGACY_CONTEXT_ENTRY, LEGACY_ROOT_ENTRY, PASID_DIRECTORY_ENTRY, PASID_TABLE_ENTRY, Pgtt, SCALABLE_CONTEXT_ENTRY, SCALABLE_ROOT_ENTRY,
  TranslationTableMode,
} from "../spec/entries.js";
import { IRTE_POSTED, IRTE_REMAPPED, POSTED_INTERRUPT_DESCRIPTOR } from "../spec/interrupts.js";
import {
  FIRST_STAGE_LEVELS, HPT_L1E, HPT_L2E, HPT_L3E, HPT_L4E, SECOND_STAGE_LEVELS,
} from "../spec/paging-entries.js";

export type Values = Readonly<Record<string, bigint>>;

/** One structure in memory, by a name that recipes use. */
export interface Part {
  readonly name: string;
  readonly table: FieldTable;
  readonly pa: number;
  readonly index: { readonly value: number; readonly from: string };
  readonly values: Values;
}

export type BaseName = "legacy" | "legacy pass-through" | "first stage" | "second stage" | "nested" | "pass-through" | "interrupt" | "posted interrupt";

export interface Scene {
  readonly mode: number;
  readonly parts: readonly Part[];
  /** Input address of requests. */
  readonly address: bigint;
}

export const REQUESTER = 0x18;
export const PASID = 5;
/** Nothing answers there; a page number. */
export const HOLE: bigint = 0x2000_0000n >> 12n;
export const TARGET = 0x10_0000;
export const RAM_BYTES: number = 0x100_0000;
export const INTERRUPT_INDEX = 3;

const ROOT = 0x1000;
const CONTEXTS = 0x2000;
const DIRECTORY = 0x3000;
const PASID_TABLE = 0x4000;
/** First-stage and second-stage tables by level, the last level first. */
const FIRST = [0x8000, 0x7000, 0x6000, 0x5000];
const SECOND = [0xc000, 0xb000, 0xa000, 0x9000];
const HOST_PERMISSIONS = [0x13000, 0xf000, 0xe000, 0xd000];
export const INTERRUPT_TABLE = 0x11000;
const POSTED_DESCRIPTOR = 0x12000;
/** Index 0 of the top table, then 1, 1, 1. */
const IOVA = 0x4020_1000n;
/** Where the second stage of a nested scene has the first-stage tables and the page: the same address range. */
const GUEST = [0x4020_8000n, 0x4020_7000n, 0x4020_6000n, 0x4020_5000n];
const GUEST_PAGE = 0x4020_9000n;

const frame = (pa: number | bigint): bigint => BigInt(pa) >> 12n;
const indexOf = (address: bigint, level: number): number => Number((address >> BigInt(12 + 9 * level)) & 511n);
const bitsOf = (level: number): string => `address bits ${20 + 9 * level}:${12 + 9 * level}`;
const requesterIndex = { value: REQUESTER, from: "devfn of 00:03.0" };
const bus = { value: 0, from: "bus of 00:03.0" };

/** Entries of one stage, top first, from `address` to `target`. */
function firstStage(address: bigint, next: readonly bigint[], target: bigint): Part[] {
  return [3, 2, 1, 0].map((level) => ({
    name: FIRST_STAGE_LEVELS[level].table.structure,
    table: FIRST_STAGE_LEVELS[level].table,
    pa: FIRST[level] + indexOf(address, level) * 8,
    index: { value: indexOf(address, level), from: bitsOf(level) },
    values: { P: 1n, "R/W": 1n, "U/S": 1n, A: 1n, ADDR: level === 0 ? target : next[level - 1], ...(level === 0 ? { D: 1n } : {}) },
  }));
}

function secondTables(address: bigint): Part[] {
  return [3, 2, 1].map((level) => secondEntry(address, level, frame(SECOND[level - 1])));
}

function secondEntry(address: bigint, level: number, target: bigint, of = ""): Part {
  return {
    name: SECOND_STAGE_LEVELS[level].table.structure + of,
    table: SECOND_STAGE_LEVELS[level].table,
    pa: SECOND[level] + indexOf(address, level) * 8,
    index: { value: indexOf(address, level), from: bitsOf(level) },
    values: { R: 1n, W: 1n, ADDR: target },
  };
}

function legacy(type: bigint): Scene {
  const parts: Part[] = [
    { name: "root", table: LEGACY_ROOT_ENTRY, pa: ROOT, index: bus, values: { P: 1n, CTP: frame(CONTEXTS) } },
    {
      name: "context", table: LEGACY_CONTEXT_ENTRY, pa: CONTEXTS + REQUESTER * 16, index: requesterIndex,
      values: { P: 1n, TT: type, AW: 2n, DID: 1n, SSPTPTR: type === 2n ? 0n : frame(SECOND[3]) },
    },
  ];
  if (type !== 2n) parts.push(...secondTables(IOVA), secondEntry(IOVA, 0, frame(TARGET)));
  return { mode: TranslationTableMode.LEGACY, parts, address: IOVA };
}

/** Root to PASID table entry; `hostPermission` for translated requests that are looked up (ECAP.HPTS). */
function scalable(pasid: number, pgtt: number, hostPermission: boolean, stages: readonly Part[]): Scene {
  const first = pgtt === Pgtt.FIRST_STAGE || pgtt === Pgtt.NESTED;
  const second = pgtt === Pgtt.SECOND_STAGE || pgtt === Pgtt.NESTED;
  const index = pasid === NO_PASID ? 0 : pasid;
  const from = pasid === NO_PASID ? "RID_PASID" : "PASID";
  const entry: Values = {
    P: 1n, PGTT: BigInt(pgtt), DID: 1n, PWSNP: 1n, SRE: 1n,
    ...(second ? { AW: 2n, SSPTPTR: frame(SECOND[3]) } : {}),
    ...(first ? { FSPTPTR: pgtt === Pgtt.NESTED ? frame(GUEST[3]) : frame(FIRST[3]), WPE: 1n } : {}),
    ...(hostPermission ? { HPTPTR: frame(HOST_PERMISSIONS[3]), HPTDID: 1n } : {}),
  };
  const context: Values = { P: 1n, DTE: 1n, PASIDE: 1n, PRE: 1n, EPTR: 1n, PASIDDIRPTR: frame(DIRECTORY), ...(hostPermission ? { HPTE: 1n } : {}) };
  return {
    mode: TranslationTableMode.SCALABLE,
    address: IOVA,
    parts: [
      { name: "root", table: SCALABLE_ROOT_ENTRY, pa: ROOT, index: bus, values: { LP: 1n, LCTP: frame(CONTEXTS) } },
      { name: "context", table: SCALABLE_CONTEXT_ENTRY, pa: CONTEXTS + REQUESTER * 32, index: requesterIndex, values: context },
      { name: "directory", table: PASID_DIRECTORY_ENTRY, pa: DIRECTORY, index: { value: 0, from: `${from} bits 19:6` }, values: { P: 1n, SMPTBLPTR: frame(PASID_TABLE) } },
      { name: "PASID entry", table: PASID_TABLE_ENTRY, pa: PASID_TABLE + index * 64, index: { value: index, from: `${from} bits 5:0` }, values: entry },
      ...stages,
      ...(hostPermission ? hostPermissions() : []),
    ],
  };
}

/** The path to the target page, which may be read and written. */
function hostPermissions(): Part[] {
  const part = (level: number, table: FieldTable, entry: number, from: string, values: Values): Part => ({
    name: `HPT-L${level}`, table, pa: HOST_PERMISSIONS[level - 1] + entry * 16, index: { value: entry, from }, values,
  });
  return [
    part(4, HPT_L4E, 0, "address bits 45:41", { AV: 1n, ADDR: frame(HOST_PERMISSIONS[2]) }),
    part(3, HPT_L3E, 0, "address bits 40:33", { AV: 1n, ADDR: frame(HOST_PERMISSIONS[1]) }),
    part(2, HPT_L2E, 0, "address bits 32:25", { AV: 1n, ADDR: frame(HOST_PERMISSIONS[0]) }),
    part(1, HPT_L1E, TARGET >> 17, "address bits 24:17", { PP0_7: 3n }),
  ];
}

function nestedStages(): Part[] {
  const tables = ["FS-PTE", "FS-PDE", "FS-PDPE", "FS-PML4E"];
  return [
    ...secondTables(IOVA),
    ...[3, 2, 1, 0].map((level) => secondEntry(GUEST[level], 0, frame(FIRST[level]), ` of the ${tables[level]}`)),
    ...firstStage(IOVA, GUEST.map(frame), frame(GUEST_PAGE)),
    secondEntry(GUEST_PAGE, 0, frame(TARGET), " of the page"),
  ];
}

function interrupt(posted: boolean): Scene {
  const pa = INTERRUPT_TABLE + INTERRUPT_INDEX * 16;
  const index = { value: INTERRUPT_INDEX, from: "interrupt index" };
  const source = { SVT: 1n, SID: BigInt(REQUESTER) };
  const parts: Part[] = posted
    ? [
        { name: "IRTE", table: IRTE_POSTED, pa, index, values: { P: 1n, IM: 1n, VV: 0x41n, PDAL: BigInt(POSTED_DESCRIPTOR) >> 6n, ...source } },
        { name: "descriptor", table: POSTED_INTERRUPT_DESCRIPTOR, pa: POSTED_DESCRIPTOR, index: { value: 0, from: "PDA of the entry" }, values: { NV: 0xf2n } },
      ]
    : [{ name: "IRTE", table: IRTE_REMAPPED, pa, index, values: { P: 1n, V: 0x31n, DST: 0x100n, ...source } }];
  return { mode: TranslationTableMode.LEGACY, parts, address: 0xfee0_0000n };
}

/** The scene in which nothing is wrong. */
export function sceneOf(base: BaseName, pasid: number, hostPermission: boolean): Scene {
  const firstTables = FIRST.map(frame);
  switch (base) {
    case "legacy":
      return legacy(1n);
    case "legacy pass-through":
      return legacy(2n);
    case "first stage":
      return scalable(pasid, Pgtt.FIRST_STAGE, hostPermission, firstStage(IOVA, firstTables, frame(TARGET)));
    case "second stage":
      return scalable(pasid, Pgtt.SECOND_STAGE, hostPermission, [...secondTables(IOVA), secondEntry(IOVA, 0, frame(TARGET))]);
    case "nested":
      return scalable(pasid, Pgtt.NESTED, hostPermission, nestedStages());
    case "pass-through":
      return scalable(pasid, Pgtt.PASS_THROUGH, hostPermission, []);
    case "interrupt":
      return interrupt(false);
    default:
      return interrupt(true);
  }
}
