/** Everything that can be decoded on its own, by the name that a person types. */
import type { FieldTable } from "@iommukit/core";
import type { StructureKind } from "@iommukit/core/decode";
import * as descriptors from "../spec/descriptors.js";
import * as entries from "../spec/entries.js";
import * as interrupts from "../spec/interrupts.js";
import * as paging from "../spec/paging-entries.js";
import * as records from "../spec/records.js";
import { REGISTER_LAYOUTS } from "../spec/register-fields.js";

export interface Kind {
  readonly name: string;
  readonly group: string;
  /** For a kind whose words choose the table, the one that stands for all. */
  readonly table: FieldTable;
  /** Picks the table by the words: a large page, a posted interrupt, a descriptor's type. */
  readonly choose?: (words: readonly bigint[]) => FieldTable;
  /** Bits of a slot that is wider than `table`. */
  readonly bits?: number;
  /** Fault condition of a request that meets a reserved bit in it. */
  readonly reserved?: string;
  /** Fault condition when it is not present. */
  readonly absent?: string;
}

const entry = (name: string, table: FieldTable, more: Partial<Kind> = {}): Kind => ({ name, group: "table entry", table, ...more });

function pagingKinds(prefix: "fs" | "ss", levels: readonly paging.PagingLevel[], conditions: Partial<Kind>): Kind[] {
  return levels.map(({ table, large }, level) => {
    const name = `${prefix}-${["pte", "pde", "pdpe", "pml4e", "pml5e"][level]}`;
    const choose = large === undefined ? {} : { choose: ([word]: readonly bigint[]) => ((word & 0x80n) === 0n ? table : large) };
    return entry(name, table, { ...conditions, ...choose });
  });
}

/** Type of a descriptor: bits 11:9 and 3:0. */
export function descriptorType(words: readonly bigint[]): number {
  return Number(((words[0] >> 5n) & 0x70n) | (words[0] & 15n));
}

const DESCRIPTORS: readonly (readonly [name: string, type: number, table: FieldTable])[] = [
  ["cc-descriptor", descriptors.DescriptorType.CC, descriptors.CC_DESCRIPTOR],
  ["iotlb-descriptor", descriptors.DescriptorType.IOTLB, descriptors.IOTLB_DESCRIPTOR],
  ["dev-tlb-descriptor", descriptors.DescriptorType.DEV_TLB, descriptors.DEV_TLB_DESCRIPTOR],
  ["iec-descriptor", descriptors.DescriptorType.IEC, descriptors.IEC_DESCRIPTOR],
  ["wait-descriptor", descriptors.DescriptorType.WAIT, descriptors.WAIT_DESCRIPTOR],
  ["p-iotlb-descriptor", descriptors.DescriptorType.P_IOTLB, descriptors.P_IOTLB_DESCRIPTOR],
  ["pc-descriptor", descriptors.DescriptorType.PC, descriptors.PC_DESCRIPTOR],
  ["p-dev-tlb-descriptor", descriptors.DescriptorType.P_DEV_TLB, descriptors.P_DEV_TLB_DESCRIPTOR],
  ["pgr-descriptor", descriptors.DescriptorType.PGR, descriptors.PGR_DESCRIPTOR],
  ["hpt-descriptor", descriptors.DescriptorType.HPT, descriptors.HPT_DESCRIPTOR],
];

/** The type that a descriptor kind must have. */
export const TYPE_OF_DESCRIPTOR: ReadonlyMap<FieldTable, number> = new Map(DESCRIPTORS.map(([, type, table]) => [table, type]));

function descriptorTable(words: readonly bigint[]): FieldTable {
  const type = descriptorType(words);
  const row = DESCRIPTORS.find(([, candidate]) => candidate === type);
  if (row === undefined) throw new RangeError(`no invalidation descriptor has type 0x${type.toString(16)}: bits 11:9 and 3:0 of the first word are 1 to 0xa (a queue with it stops, IQEI 3)`);
  return row[2];
}

export const KINDS: readonly Kind[] = [
  entry("root-entry", entries.LEGACY_ROOT_ENTRY, { reserved: "LRT.3", absent: "LRT.2" }),
  entry("sm-root-entry", entries.SCALABLE_ROOT_ENTRY, { reserved: "SRT.3", absent: "SRT.2" }),
  entry("context-entry", entries.LEGACY_CONTEXT_ENTRY, { reserved: "LCT.3", absent: "LCT.2" }),
  entry("sm-context-entry", entries.SCALABLE_CONTEXT_ENTRY, { reserved: "SCT.3", absent: "SCT.2" }),
  entry("pasid-dir-entry", entries.PASID_DIRECTORY_ENTRY, { reserved: "SPD.3", absent: "SPD.2" }),
  entry("pasid-entry", entries.PASID_TABLE_ENTRY, { reserved: "SPT.3", absent: "SPT.2" }),
  ...pagingKinds("fs", paging.FIRST_STAGE_LEVELS, { reserved: "SFS.3", absent: "SFS.2" }),
  ...pagingKinds("ss", paging.SECOND_STAGE_LEVELS, { reserved: "SSS.3", absent: "SSS.2" }),
  ...[paging.HPT_L1E, paging.HPT_L2E, paging.HPT_L3E, paging.HPT_L4E].map((table, i) => entry(`hpt-l${i + 1}-entry`, table, { reserved: "HPT.2" })),
  entry("irte", interrupts.IRTE_REMAPPED, {
    reserved: "IRR.24", absent: "IRR.22",
    choose: ([word]) => ((word & 0x8000n) === 0n ? interrupts.IRTE_REMAPPED : interrupts.IRTE_POSTED),
  }),
  entry("posted-interrupt-descriptor", interrupts.POSTED_INTERRUPT_DESCRIPTOR, { reserved: "IRR.28" }),
  { name: "frcd", group: "record", table: records.FAULT_RECORD },
  { name: "page-request", group: "record", table: records.PAGE_REQUEST },
  { name: "descriptor", group: "invalidation descriptor", table: descriptors.CC_DESCRIPTOR, choose: descriptorTable },
  { name: "descriptor-256", group: "invalidation descriptor", table: descriptors.CC_DESCRIPTOR, bits: 256, choose: descriptorTable },
  ...DESCRIPTORS.map(([name, , table]): Kind => ({ name, group: "invalidation descriptor", table })),
  ...REGISTER_LAYOUTS.map(({ table }): Kind => ({ name: table.structure.toLowerCase(), group: "register", table })),
];

/** Names of kinds whose table depends on the words. */
const ANY: Readonly<Record<string, string>> = {
  descriptor: "Invalidation descriptor in a queue of 128 bits (IQA.DW=0)",
  "descriptor-256": "Invalidation descriptor in a queue of 256 bits (IQA.DW=1)",
  irte: "Interrupt remapping table entry, remapped or posted",
};

export function asKind({ name, group, table, bits }: Kind): StructureKind {
  return { name, group, structure: ANY[name] ?? table.structure, section: name.startsWith("descriptor") ? "VT-d 6.5.2" : table.section, bits: bits ?? table.bits };
}
