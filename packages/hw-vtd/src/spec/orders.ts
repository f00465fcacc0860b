/**
 * What software orders a unit to do with its tables and caches, and what the tables say of a requester: the words between a unit that
 * a guest programs and whoever carries it out on a host. Numbers are the manual's (6.5.2).
 */

/** Granularities of context-cache and IOTLB invalidations, then of PASID-cache ones. */
export const Granularity = { GLOBAL: 1, DOMAIN: 2, SELECTIVE: 3 } as const;
export const PasidGranularity = { DOMAIN: 0, PASID: 1, GLOBAL: 3 } as const;

export type UnitOrder =
  /** SRTP: RTADDR takes effect. */
  | { readonly kind: "root-table" }
  /** GCMD.TE changed. */
  | { readonly kind: "translation"; readonly enabled: boolean }
  | { readonly kind: "contexts"; readonly granularity: number; readonly domain: number; readonly source: number; readonly functionMask: number }
  | { readonly kind: "pasids"; readonly granularity: number; readonly domain: number; readonly pasid: number }
  /** `pasid` absent: by domain alone (descriptor type 2); else type 6, of one PASID. Only a SELECTIVE one has a range. */
  | {
      readonly kind: "translations";
      readonly granularity: number;
      readonly domain: number;
      readonly pasid?: number;
      readonly page: number;
      /** log2 of the pages. */
      readonly addressMask: number;
      readonly leavesOnly: boolean;
    }
  /** What came before is to be done when this returns: software is told so next. */
  | { readonly kind: "barrier" }
  /** The unit has done all that the register access asked for. */
  | { readonly kind: "idle" };

/** Told of each order, in turn, when the unit's own caches have followed it. It must not throw. */
export type UnitObserver = (order: UnitOrder) => void;

/** Who translates for a (requester, PASID), as the tables in memory have it now. */
export type TranslationView =
  | { readonly kind: "blocked" }
  /** Translation is off. */
  | { readonly kind: "untranslated" }
  | (PresentView & { readonly kind: "pass-through" })
  | (PresentView & { readonly kind: "first-stage"; readonly first: FirstStageView })
  | (PresentView & { readonly kind: "second-stage"; readonly second: SecondStageView })
  | (PresentView & { readonly kind: "nested"; readonly first: FirstStageView; readonly second: SecondStageView });

export interface PresentView {
  readonly domain: number;
  /** PASID that was looked up, RID_PASID for requests without one; 0 in legacy mode. */
  readonly pasid: number;
  /** The device may send page requests. */
  readonly pageRequests: boolean;
}

export interface FirstStageView {
  /** Address of the top table. */
  readonly root: number;
  /** Levels of tables: 4 or 5. */
  readonly levels: number;
  readonly supervisor: boolean;
  readonly writeProtect: boolean;
  readonly extendedAccessed: boolean;
}

export interface SecondStageView {
  readonly root: number;
  readonly levels: number;
  /** Input addresses end here, in pages. */
  readonly pages: number;
}
