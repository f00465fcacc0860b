/**
 * "How do I cause fault X, and what does it mean?": what `iommu fault` asks of a vendor's package. A demonstration is run, not told.
 */
import type { DecodedField, WalkStep } from "./types.js";

/** One condition under which a unit reports a fault. */
export interface FaultSummary {
  /** The manual's name: "SPT.3", "F_PERMISSION". What follows a colon tells variants of a fault apart: "C_BAD_STE:S2TG". */
  readonly name: string;
  /** Number that the unit records; several conditions can share one. Absent where it sets a register instead. */
  readonly code?: number;
  readonly text: string;
  /** The manual's section. */
  readonly section: string;
  /** Requests that can meet it, by the catalogue's names: "untranslated", "translation with PASID". */
  readonly kinds: readonly string[];
  /** What keeps the record off, as the manual writes it: "FPD=1". Absent: it is always recorded. */
  readonly suppressedBy?: string;
  /** Why nothing here causes it, for a fault that the manual has and the model has not: there are no `kinds` then. */
  readonly uncaused?: string;
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
  /** What kept the record off; absent where it was made all the same. */
  readonly suppressedBy?: string;
  /** Registers that matter, in a line each. */
  readonly unit: readonly string[];
  /** Structures in the order in which the unit reads them; the offending field carries a `violation`. */
  readonly structures: readonly WalkStep[];
  /** What else was prepared: "the page at 0x8000 takes no writes". */
  readonly notes: readonly string[];
  readonly request: string;
  /** How the request ended: "Unsupported Request". */
  readonly response: string;
  /** The unit's record, or the register that tells of the fault; absent when there is none. */
  readonly record?: { readonly structure: string; readonly words: readonly bigint[]; readonly fields: readonly DecodedField[] };
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
  /** What the manual calls a `code`: "reason", "event". */
  readonly codeName: string;
  list(): readonly FaultSummary[];
  /** @throws RangeError for a name that `list` lacks, a kind that the fault lacks, or a fault that nothing causes */
  demonstrate(name: string, options?: FaultOptions): FaultDemonstration;
}
