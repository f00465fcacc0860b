/**
 * "How do I cause fault X, and what does it mean?": what `iommu fault` asks of a vendor's package. A demonstration is run, not told.
 */
import type { DecodedField, WalkStep } from "./types.js";

/** One condition under which a unit reports a fault. */
export interface FaultSummary {
  /** The manual's name: "SPT.3", "F_PERMISSION". */
  readonly name: string;
  /** Number that the unit records; several conditions can share one. */
  readonly code: number;
  readonly text: string;
  /** The manual's section. */
  readonly section: string;
  /** Requests that can meet it, by the catalogue's names: "untranslated", "translation with PASID". */
  readonly kinds: readonly string[];
  /** Software can switch the record off (VT-d: FPD). */
  readonly suppressible: boolean;
}

export interface FaultOptions {
  /** One of the summary's `kinds`; the first unless given. */
  readonly kind?: string;
  /** With the structure's switch set that keeps the record off. */
  readonly suppressed?: boolean;
}

/** What was set up, what was asked, and what came of it. */
export interface FaultDemonstration {
  readonly fault: FaultSummary;
  readonly kind: string;
  readonly suppressed: boolean;
  /** Registers that matter, in a line each. */
  readonly unit: readonly string[];
  /** Structures in the order in which the unit reads them; the offending field carries a `violation`. */
  readonly structures: readonly WalkStep[];
  /** What else was prepared: "the page at 0x8000 takes no writes". */
  readonly notes: readonly string[];
  readonly request: string;
  /** How the request ended: "Unsupported Request". */
  readonly response: string;
  /** The unit's record, decoded; absent when it recorded nothing. */
  readonly record?: { readonly words: readonly bigint[]; readonly fields: readonly DecodedField[] };
  readonly why: string;
  readonly cause: string;
  readonly mend: string;
  /** What the manual says came out: code, response, and the record or its absence. */
  readonly asExpected: boolean;
}

/** A vendor's faults, each with a configuration that produces exactly it. */
export interface FaultCatalogue {
  /** "vtd", "smmuv3". */
  readonly iommu: string;
  list(): readonly FaultSummary[];
  /** @throws RangeError for a name that `list` lacks, or a kind that the fault lacks */
  demonstrate(name: string, options?: FaultOptions): FaultDemonstration;
}
