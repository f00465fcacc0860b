/** What a sanitizer finds: a translation that memory does not agree with (any more). */
import type { WalkStep } from "../decode/types.js";

/** A structure in memory that is not what it was when a cache took it in. */
export interface ChangedStructure {
  /** As it was when the translation was cached. */
  readonly before: WalkStep;
  readonly after: readonly bigint[];
}

/** The invalidation that a change calls for, and where the manual says so. */
export interface DueInvalidation {
  readonly text: string;
  readonly section: string;
}

export const FindingKind = {
  /** The device reached an address that the tables do not give it. */
  STALE: "stale translation",
  /** The right address, with a right that the tables no longer grant. */
  OVER_PERMISSIVE: "over-permissive translation",
  /** The request was blocked though the tables allow it. */
  STALE_BLOCK: "stale block",
  /** A call ended while a cache held what memory no longer says; no request has used it yet. */
  MISSING_INVALIDATION: "missing invalidation",
} as const;

export type FindingKind = (typeof FindingKind)[keyof typeof FindingKind];

export interface Finding {
  readonly kind: FindingKind;
  readonly unit: string;
  readonly rid: number;
  readonly pasid?: number;
  readonly iova: bigint;
  /** "read", "write" or "atomic"; absent when no request was made. */
  readonly access?: string;
  /** What the unit answered, or would. */
  readonly served: string;
  /** What the tables in memory say. */
  readonly expected: string;
  /** The first structure on the way that has changed; absent when it was not seen being cached. */
  readonly changed?: {
    readonly structure: string;
    readonly section: string;
    readonly pa: number;
    readonly before: readonly bigint[];
    readonly after: readonly bigint[];
    /** Who wrote it, and when: "vtd0's driver in IOMMU_IOAS_UNMAP (call 12)". */
    readonly writer: string;
  };
  readonly due?: DueInvalidation;
  /** Invalidations that came after the change, and did not do. */
  readonly issued: readonly string[];
}
