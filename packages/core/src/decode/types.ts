/**
 * Reading somebody else's tables: what `iommu walk` and `iommu dump` ask of a
 * vendor's package, over memory that came from a file.
 */

/** Memory and registers of a machine, from a dump. */
export interface TableSource {
  /** "vtd", "smmuv3". */
  readonly iommu: string;
  /** Register values by the manual's name: RTADDR, CAP, ECAP. */
  readonly registers: Readonly<Record<string, bigint>>;
  /** Fills `target`; false when the dump does not hold all of it. */
  read(pa: number, target: Uint8Array): boolean;
}

/** One field of a structure, for printing. */
export interface DecodedField {
  readonly name: string;
  /** "63:12". */
  readonly bits: string;
  readonly value: bigint;
  /** In words, where the number alone says little. */
  readonly meaning?: string;
  /** The rule that this value breaks. */
  readonly violation?: string;
}

/** One structure that a walk read. */
export interface WalkStep {
  /** What it was read for, when that is another structure: 1 for the second stage's walk to a first-stage table. 0 unless given. */
  readonly depth?: number;
  /** "guest-physical 0x5008", "for FS-PDE". */
  readonly purpose?: string;
  /** The manual's name: "Scalable-mode context entry". */
  readonly structure: string;
  /** "VT-d 9.4". */
  readonly section: string;
  /** Where it was read. */
  readonly pa: number;
  /** Index into its table, and the input bits it came from. */
  readonly index?: { readonly value: number; readonly from: string };
  /** Little-endian 64-bit words. */
  readonly words: readonly bigint[];
  readonly fields: readonly DecodedField[];
}

export interface WalkRequest {
  readonly rid: number;
  /** PASID that the request carries; undefined: none. */
  readonly pasid?: number;
  readonly iova: bigint;
  readonly access: WalkAccess;
  /** A request with PASID that asks for privilege. */
  readonly privileged?: boolean;
  /** A read with PASID that says it is for execution. */
  readonly execute?: boolean;
}

/** An atomic operation reads and writes. */
export type WalkAccess = "read" | "write" | "atomic";

/** Everything a walk met, and the verdict. */
export interface WalkReport {
  readonly steps: readonly WalkStep[];
  /** `attributes`: of the memory access that comes out, where the tables have a say. */
  readonly verdict:
    | { readonly ok: true; readonly pa: number; readonly pageSize: number; readonly permissions: string; readonly attributes?: string; readonly note?: string }
    | { readonly ok: false; readonly code: string; readonly reason: string; readonly section: string; readonly note?: string };
}

/** A leaf, as it stands in a table. Addresses in bytes. */
export interface MappedLeaf {
  readonly iova: bigint;
  readonly pa: number;
  readonly size: number;
  /** Letters of "rw". */
  readonly permissions: string;
  readonly entry: bigint;
}

/** What one requester (and PASID) can reach. */
export interface AddressSpaceDump {
  readonly rid: number;
  /** undefined: requests without PASID. */
  readonly pasid?: number;
  /** "first-stage", "second-stage", "nested", "pass-through", "blocked". */
  readonly type: string;
  /** Vendor's ids: { domain: 3 }. */
  readonly ids: Readonly<Record<string, number>>;
  /** In walk order; lazily produced. */
  leaves(): Iterable<MappedLeaf>;
  /** Why it could not be read to the end, if so. */
  readonly problem?: string;
}

export interface TableDecoder {
  readonly iommu: string;
  /** Names of the registers that it needs. */
  readonly registers: readonly string[];
  /** The unit's state in a line each, from its registers: what holds for every requester. */
  summary?(source: TableSource): readonly string[];
  walk(source: TableSource, request: WalkRequest): WalkReport;
  /** Every requester that the tables name. */
  dump(source: TableSource): Iterable<AddressSpaceDump>;
}
