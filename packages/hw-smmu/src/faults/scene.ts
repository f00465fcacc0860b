/**
 * Scenes: structures in memory that translate one address, by names that recipes use. A recipe changes one thing in a scene, and
 * the request fails.
 */
import type { FieldTable } from "@iommukit/core";
import { CD, L1_CONTEXT_DESCRIPTOR } from "../spec/context.js";
import { L1_STREAM_DESCRIPTOR, S1dss, STE, SteConfig } from "../spec/stream-table.js";
import { STAGE1_LEAF, STAGE1_TABLE, STAGE2_LEAF, STAGE2_TABLE } from "../spec/tables.js";
import type { Values } from "./recipe.js";

export type SceneName =
  | "bypass" | "stage 1" | "stage 2" | "nested" | "two-level streams"
  /** The page behind is mapped too. */
  | "stage 1, two pages" | "stage 2, two pages"
  /** The StreamID above has an STE of its own with the same words. */
  | "two streams"
  /** With SubstreamIDs: a linear CD table, and one in two levels. */
  | "substreams" | "two-level CDs" | "nested two-level CDs";

/** One structure in memory. */
export interface Part {
  readonly name: string;
  readonly table: FieldTable;
  readonly pa: number;
  readonly index: { readonly value: number; readonly from: string };
  /** What it is read for, where the structure's name does not say it. */
  readonly purpose?: string;
  readonly values: Values;
}

export interface Scene {
  readonly parts: readonly Part[];
  /** Input address of the request, and the page that it comes to. */
  readonly address: bigint;
  readonly target: number;
  readonly substream?: number;
  readonly registers: Values;
}

/** Everything of a scene and the queues lies below; RAM ends at RAM_BYTES. */
export const RAM_BYTES: number = 0x100_0000;
/** Nothing answers there. */
export const HOLE = 0x2000_0000n;
export const STREAM = 0x18;
export const SUBSTREAM = 5;
export const TARGET = 0x20_f000;
export const EVENT_QUEUE = 0x1_1000;
export const COMMAND_QUEUE = 0x1_0000;
export const PAGE_QUEUE = 0x1_2000;
/** Where messages go that arrive. */
export const DOORBELL = 0x1_3000n;

const STREAM_TABLE = 0x1000;
const L1_STREAM_TABLE = 0x2000;
const CONTEXT = 0x4000;
const L1_CONTEXT = 0x5000;
/** Tables of stages by the manual's levels 0 to 3; stage 2 has three of the last level, one for each `Region`. */
export const STAGE1_TABLES: readonly number[] = [0x6000, 0x7000, 0x8000, 0x9000];
export const STAGE2_TABLES: readonly number[] = [0xa000, 0xb000, 0xc000, 0xd000];
/** 2 MiB each of intermediate addresses, so that stage 2 can fail for one and not for another. */
const REGIONS = { CDs: 0x4020_0000, tables: 0x4040_0000, page: 0x4060_0000 } as const;
type Region = keyof typeof REGIONS;
/** Offset 0x234 of a page: index 1 in every table of stage 1, and 15 in the last. */
export const IOVA = 0x80_4020_f234n;
/** Intermediate address of the page. A block of 2 MiB comes to the same page as the tables do. */
export const IPA = 0x4060_f234n;

/** An address as a field holds it that begins at bit `low` of it. */
export const from = (low: number, address: number | bigint): bigint => BigInt(address) >> BigInt(low);
const regionOf = (pa: number): Region => (pa < STAGE1_TABLES[0] ? "CDs" : pa < TARGET ? "tables" : "page");
/** Intermediate address of a structure that lies at `pa`. */
export const guest = (pa: number): number => REGIONS[regionOf(pa)] + pa;

const streamIndex = { value: STREAM, from: "StreamID of 00:03.0" };
const tableIndex = (address: bigint | number, level: number): number => Number((BigInt(address) >> BigInt(39 - 9 * level)) & 511n);
const bitsOf = (level: number): string => `address bits ${47 - 9 * level}:${39 - 9 * level}`;

/** EATS=01 so that ATS meets the same faults; stalls forbid that. */
const STE_VALUES = { V: 1n, EATS: 1n } as const;
const STAGE1_VALUES = { Config: BigInt(SteConfig.STAGE1), S1ContextPtr: from(6, CONTEXT) };
export const STAGE2_VALUES: Values = { Config: BigInt(SteConfig.STAGE2), S2VMID: 3n, S2T0SZ: 16n, S2SL0: 2n, S2PS: 5n, S2AA64: 1n, S2R: 1n, S2TTB: from(4, STAGE2_TABLES[0]) };

function ste(values: Values): Part {
  return { name: "STE", table: STE, pa: STREAM_TABLE + STREAM * 64, index: streamIndex, values: { ...STE_VALUES, ...values } };
}

function cd(nested: boolean, substream: number): Part {
  const root = nested ? guest(STAGE1_TABLES[0]) : STAGE1_TABLES[0];
  const values = { V: 1n, T0SZ: 16n, EPD1: 1n, IPS: 5n, AA64: 1n, A: 1n, R: 1n, ASET: 1n, ASID: 9n, TTB0: from(4, root) };
  return { name: "CD", table: CD, pa: CONTEXT + substream * 64, index: { value: substream, from: "SubstreamID" }, values };
}

/** Tables of one stage from level 0 on, and the leaf. @param where of the table that a table descriptor names */
function stage1(where: (pa: number) => number, target: number | bigint): Part[] {
  return [0, 1, 2, 3].map((level) => ({
    name: `S1 level ${level}`,
    table: level === 3 ? STAGE1_LEAF : STAGE1_TABLE,
    pa: STAGE1_TABLES[level] + tableIndex(IOVA, level) * 8,
    index: { value: tableIndex(IOVA, level), from: bitsOf(level) },
    purpose: `level ${level}`,
    values: level === 3 ? { valid: 1n, type: 1n, AP: 1n, AF: 1n, nG: 1n, OA: from(12, target) } : { valid: 1n, type: 1n, OA: from(12, where(STAGE1_TABLES[level + 1])) },
  }));
}

/** Tables of stage 2 that lead to the regions. */
function stage2Tables(regions: readonly Region[]): Part[] {
  const part = (level: number, name: string, address: number, next: number): Part => ({
    name, table: STAGE2_TABLE, purpose: name.replace("S2 ", ""), values: { valid: 1n, type: 1n, OA: from(12, next) },
    pa: STAGE2_TABLES[level] + tableIndex(address, level) * 8, index: { value: tableIndex(address, level), from: `IPA ${bitsOf(level)}` },
  });
  return [
    part(0, "S2 level 0", REGIONS.page, STAGE2_TABLES[1]), part(1, "S2 level 1", REGIONS.page, STAGE2_TABLES[2]),
    ...regions.map((region) => part(2, `S2 level 2 of the ${region}`, REGIONS[region], leafTable(region))),
  ];
}

const leafTable = (region: Region): number => STAGE2_TABLES[3] + Object.keys(REGIONS).indexOf(region) * 0x1000;

/** The last descriptor of stage 2 for what lies at `pa`. */
function stage2Leaf(what: string, address: bigint | number, pa: number): Part {
  return {
    name: `S2 of ${what}`,
    table: STAGE2_LEAF,
    pa: leafTable(regionOf(pa)) + tableIndex(address, 3) * 8,
    index: { value: tableIndex(address, 3), from: `IPA ${bitsOf(3)}` },
    purpose: `level 3, of ${what}`,
    values: { valid: 1n, type: 1n, MemAttr: 15n, S2AP: 3n, AF: 1n, OA: from(12, pa) },
  };
}

const plain = (part: Part): Part[] => [part];
/** A structure behind stage 2: first the descriptor that maps it. */
const behind = (part: Part): Part[] => [stage2Leaf(`the ${part.name}`, guest(part.pa), part.pa), part];

function l1Context(nested: boolean): Part {
  const values = { V: 1n, L2Ptr: from(12, nested ? guest(CONTEXT) : CONTEXT) };
  return { name: "L1CD", table: L1_CONTEXT_DESCRIPTOR, pa: L1_CONTEXT, index: { value: 0, from: "SubstreamID bits 19:6" }, values };
}

/** Stage 1 with stage 2 under it. @param contexts what leads to the stage-1 tables */
function nestedParts(values: Values, contexts: readonly Part[]): Part[] {
  const first = stage1(guest, IPA);
  return [
    ste({ ...STAGE2_VALUES, ...values, Config: BigInt(SteConfig.NESTED) }),
    ...stage2Tables(["CDs", "tables", "page"]), ...contexts.flatMap(behind), ...first.flatMap(behind), stage2Leaf("the page", IPA, TARGET),
  ];
}

const LINEAR: Values = { STRTAB_BASE: BigInt(STREAM_TABLE), STRTAB_BASE_CFG: 6n };
const SUBSTREAMS = { S1CDMax: 3n, S1DSS: BigInt(S1dss.TERMINATE) };
const TWO_LEVEL_CDS = { ...SUBSTREAMS, S1CDMax: 7n, S1Fmt: 1n };

/** The last descriptor once more, for the page behind. */
function withNextPage(parts: readonly Part[]): Part[] {
  const last = parts[parts.length - 1];
  const { value, from: bits } = last.index;
  return [...parts, { ...last, name: `${last.name}, page behind`, pa: last.pa + 8, index: { value: value + 1, from: bits }, values: { ...last.values, OA: last.values.OA + 1n } }];
}

function partsOf(name: SceneName): Part[] {
  const flat = [cd(false, 0), ...stage1((pa) => pa, TARGET)];
  const flatSubstream = [cd(false, SUBSTREAM), ...stage1((pa) => pa, TARGET)];
  switch (name) {
    case "bypass":
      return [ste({ Config: BigInt(SteConfig.BYPASS) })];
    case "stage 1":
      return [ste(STAGE1_VALUES), ...flat];
    case "stage 2":
      return [ste(STAGE2_VALUES), ...stage2Tables(["page"]), stage2Leaf("the page", IPA, TARGET)];
    case "two streams": {
      const parts = partsOf("stage 1");
      const [own] = parts;
      const neighbour = { ...own, name: "STE of the neighbour", pa: own.pa + 64, index: { value: STREAM + 1, from: "StreamID of 00:03.1" } };
      return [neighbour, ...parts];
    }
    case "stage 1, two pages":
      return withNextPage(partsOf("stage 1"));
    case "stage 2, two pages":
      return withNextPage(partsOf("stage 2"));
    case "nested":
      return nestedParts({ S1ContextPtr: from(6, guest(CONTEXT)) }, plain(cd(true, 0)));
    case "two-level streams":
      return [
        { name: "L1STD", table: L1_STREAM_DESCRIPTOR, pa: L1_STREAM_TABLE, index: { value: 0, from: "StreamID bits 31:6" }, values: { Span: 7n, L2Ptr: from(6, STREAM_TABLE) } },
        ste(STAGE1_VALUES), ...flat,
      ];
    case "substreams":
      return [ste({ ...STAGE1_VALUES, ...SUBSTREAMS }), ...flatSubstream];
    case "two-level CDs":
      return [ste({ ...STAGE1_VALUES, ...TWO_LEVEL_CDS, S1ContextPtr: from(6, L1_CONTEXT) }), l1Context(false), ...flatSubstream];
    default:
      return nestedParts({ ...TWO_LEVEL_CDS, S1ContextPtr: from(6, guest(L1_CONTEXT)) }, [l1Context(true), cd(true, SUBSTREAM)]);
  }
}

/** The scene in which nothing is wrong. */
export function sceneOf(name: SceneName): Scene {
  const registers = name === "two-level streams" ? { STRTAB_BASE: BigInt(L1_STREAM_TABLE), STRTAB_BASE_CFG: 0x1_0188n } : LINEAR;
  const substream = name === "substreams" || name.endsWith("CDs") ? { substream: SUBSTREAM } : {};
  const address = name.startsWith("stage 2") ? IPA : name === "bypass" ? BigInt(TARGET) + 0x234n : IOVA;
  return { parts: partsOf(name), address, target: TARGET / 4096, registers, ...substream };
}
