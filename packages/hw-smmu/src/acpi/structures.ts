/**
 * The IORT table (DEN0049E.f, "IO Remapping Table"): its nodes as rows of bytes, and as values. A node is a header, rows, for
 * some an object name, and arrays that the rows point at; the ID mappings are such an array, too.
 */
import { defineFields, type FieldRow, type FieldTable } from "@iommukit/core";
import type { AcpiIdentity, AcpiRow, AcpiValues } from "@iommukit/core/acpi";
import { oneOf } from "../spec/words.js";

/** Rows come and go with the node's revision. */
export interface IortRow extends AcpiRow {
  readonly since?: number;
  readonly until?: number;
}

export type ArrayName = "mappings" | "its" | "global" | "context" | "pmu" | "ranges";

export interface IortArray {
  readonly name: ArrayName;
  /** Of one element, for people. */
  readonly element: string;
  readonly rows: readonly AcpiRow[];
  /** Row that says how many there are, or always so many. */
  readonly count: string | number;
  /** Row that says where in the node they begin; without one they follow the rows. */
  readonly offset?: string;
}

export type IortName = "ITS group" | "named component" | "root complex" | "SMMU" | "SMMUv3" | "PMCG" | "RMR";

export interface IortLayout {
  readonly type: number;
  readonly name: IortName;
  /** Revision of the node in DEN0049E.f. */
  readonly revision: number;
  /** What follows the node's header. */
  readonly rows: readonly IortRow[];
  /** A path in the ACPI namespace follows the rows. */
  readonly named: boolean;
  readonly arrays: readonly IortArray[];
}

/** A node as values; 0 for what is not given. Counts are those of the arrays. */
export interface IortNode {
  readonly type: number;
  readonly revision: number;
  readonly identifier: number;
  readonly values: AcpiValues;
  readonly arrays: Readonly<Partial<Record<ArrayName, readonly AcpiValues[]>>>;
  /** Named component: path in the ACPI namespace. */
  readonly object?: string;
  /** Where arrays begin in the node, when not one behind the other. */
  readonly offsets?: Readonly<Partial<Record<ArrayName, number>>>;
  /** Bytes of the node, when there are more than it needs. */
  readonly length?: number;
  /** A node of a type that is not known: everything behind type and length. */
  readonly raw?: Uint8Array;
}

export interface IortTable {
  readonly revision: number;
  /** Where the nodes begin. */
  readonly nodeOffset: number;
  readonly nodes: readonly IortNode[];
  /** Ours unless given. */
  readonly identity?: AcpiIdentity;
}

/** Of DEN0049E.f. */
export const IORT_REVISION = 6;
/** Behind the ACPI header: number of nodes, offset of the first, 4 reserved bytes. */
export const IORT_HEADER_ROWS: readonly AcpiRow[] = [{ name: "nodes", size: 4 }, { name: "node offset", size: 4 }, { name: "", size: 4 }];
export const IORT_HEADER_BYTES = 48;

export const NodeType = { ITS: 0, NAMED: 1, ROOT_COMPLEX: 2, SMMU: 3, SMMUV3: 4, PMCG: 5, RMR: 6 } as const;

/** Rows that every node begins with. */
export const NODE_HEADER_ROWS: readonly AcpiRow[] = [
  { name: "type", size: 1 }, { name: "length", size: 2 }, { name: "revision", size: 1 }, { name: "identifier", size: 4 }, { name: "mapping count", size: 4 }, { name: "mapping offset", size: 4 },
];
export const NODE_HEADER_BYTES = 16;
/** Type and length. */
export const NODE_PREFIX_BYTES = 3;

const bits = (name: string, size: number, rows: readonly FieldRow[]): FieldTable => defineFields(name, "DEN0049E", 8 * size, rows);
const reserved = (size: number): IortRow => ({ name: "", size });
const word = (name: string, meaning?: AcpiRow["meaning"]): IortRow => ({ name, size: 4, ...(meaning === undefined ? {} : { meaning }) });
const address = (name: string): IortRow => ({ name, size: 8 });
const flags = (name: string, size: number, rows: readonly FieldRow[]): IortRow => ({ name, size, bits: bits(name, size, rows) });

const MAPPING: readonly AcpiRow[] = [word("input base"), word("IDs minus 1", (value) => `${value + 1n} IDs`), word("output base"), word("output"), flags("flags", 4, [[1, "SINGLE"], [31, ""]])];
const INTERRUPT: readonly AcpiRow[] = [word("GSIV"), flags("flags", 4, [[1, "edge"], [31, ""]])];

/** Memory access properties. CANWBS is of E.f. */
const MEMORY: readonly IortRow[] = [
  flags("coherency", 4, [[1, "CCA"], [31, ""]]),
  flags("hints", 1, [[1, "TR"], [1, "WA"], [1, "RA"], [1, "AHO"], [4, ""]]),
  reserved(2),
  flags("memory flags", 1, [[1, "CPM"], [1, "DACS"], [1, "CANWBS"], [5, ""]]),
];
const ADDRESS_BITS: IortRow = { name: "address bits", size: 1 };
const HTTU = oneOf("none", "access flag", "access flag and dirty state", "reserved");
const SMMUV3_FLAGS: readonly FieldRow[] = [[1, "COHACC"], [2, "HTTU", HTTU], [1, "proximity valid"]];

const mappings: IortArray = { name: "mappings", element: "ID mapping", rows: MAPPING, count: "mapping count", offset: "mapping offset" };

export const SMMU_MODELS: readonly string[] = ["SMMUv1", "SMMUv2", "MMU-400", "MMU-500", "MMU-401", "ThunderX SMMUv2"];
export const SMMUV3_MODELS: readonly string[] = ["SMMUv3", "Hi161x SMMUv3", "CN99xx SMMUv3"];
export const RMR_ATTRIBUTES: readonly string[] = ["Device-nGnRnE", "Device-nGnRE", "Device-nGRE", "Device-GRE", "Normal non-cacheable", "Normal write-back"];
const listed = (names: readonly string[]) => (value: bigint): string => names[Number(value)] ?? "reserved";

export const IORT_LAYOUTS: readonly IortLayout[] = [
  {
    type: NodeType.ITS, name: "ITS group", revision: 1, named: false, rows: [word("count")],
    arrays: [{ name: "its", element: "ITS", rows: [word("id")], count: "count" }, mappings],
  },
  {
    type: NodeType.NAMED, name: "named component", revision: 4, named: true, arrays: [mappings],
    rows: [{ ...flags("flags", 4, [[1, "stall"], [5, "SubstreamID bits"], [26, ""]]) }, ...MEMORY, ADDRESS_BITS],
  },
  {
    type: NodeType.ROOT_COMPLEX, name: "root complex", revision: 4, named: false, arrays: [mappings],
    rows: [
      ...MEMORY, flags("ATS", 4, [[1, "ATS"], [1, "PRI"], [1, "PASIDs of translated requests"], [29, ""]]), word("segment"),
      { ...ADDRESS_BITS, since: 1 },
      { ...reserved(3), since: 1, until: 3 },
      { ...flags("PASID capabilities", 2, [[5, "PASID bits"], [11, ""]]), since: 4 },
      { ...reserved(1), since: 4 },
      // Bit 0 by the document; firmware made with EDK2's header sets bit 1.
      { ...flags("flags", 4, [[1, "PASIDs"], [1, "PASIDs (EDK2)"], [30, ""]]), since: 4 },
    ],
  },
  {
    type: NodeType.SMMU, name: "SMMU", revision: 3, named: false,
    rows: [
      address("base"), address("span"), word("model", listed(SMMU_MODELS)), flags("flags", 4, [[1, "DVM"], [1, "coherent walks"], [30, ""]]),
      word("global offset"), word("context count"), word("context offset"), word("PMU count"), word("PMU offset"),
    ],
    arrays: [
      { name: "global", element: "global interrupt", rows: INTERRUPT, count: 2, offset: "global offset" },
      { name: "context", element: "context interrupt", rows: INTERRUPT, count: "context count", offset: "context offset" },
      { name: "pmu", element: "PMU interrupt", rows: INTERRUPT, count: "PMU count", offset: "PMU offset" },
      mappings,
    ],
  },
  {
    type: NodeType.SMMUV3, name: "SMMUv3", revision: 5, named: false, arrays: [mappings],
    rows: [
      address("base"), { ...flags("flags", 4, [...SMMUV3_FLAGS, [28, ""]]), until: 4 }, { ...flags("flags", 4, [...SMMUV3_FLAGS, [1, "DeviceID valid"], [27, ""]]), since: 5 },
      reserved(4), address("VATOS"), word("model", listed(SMMUV3_MODELS)), word("event GSIV"), word("PRI GSIV"), word("GERROR GSIV"), word("sync GSIV"),
      { ...word("proximity"), since: 1 }, { ...word("DeviceID mapping"), since: 1 },
    ],
  },
  {
    type: NodeType.PMCG, name: "PMCG", revision: 2, named: false, arrays: [mappings],
    rows: [address("page 0"), word("overflow GSIV"), word("node"), { ...address("page 1"), since: 1 }],
  },
  {
    type: NodeType.RMR, name: "RMR", revision: 3, named: false,
    rows: [
      flags("flags", 4, [[1, "remapping allowed"], [1, "privileged"], [8, "attributes", listed(RMR_ATTRIBUTES)], [22, ""]]), word("range count"), word("range offset"),
    ],
    arrays: [{ name: "ranges", element: "memory range", rows: [address("base"), address("bytes"), reserved(4)], count: "range count", offset: "range offset" }, mappings],
  },
];

export function rowsOf({ rows }: IortLayout, revision: number): readonly IortRow[] {
  return rows.filter(({ since = 0, until = 255 }) => revision >= since && revision <= until);
}

export const layoutOf = (type: number): IortLayout | undefined => IORT_LAYOUTS.find((layout) => layout.type === type);
