/** Where the manual leaves a choice, or does not say: one option a choice, with the value that is taken when nothing is said. */
export interface VtdPolicies {
  /** Accessed flags of a walk that faults: left alone, or set in every entry that the walk passed (3.10.1 allows both). */
  readonly accessed: "success" | "walked";
  /** U/S=0 above an entry that faults for another reason: the denial is reported, or the other fault (7.1: neither is told to win). */
  readonly userDenial: "first" | "last";
  /** Reserved bits in the half of a scalable-mode root entry that the request does not use (SRT.3). */
  readonly rootHalves: "used" | "both";
  /** AW of a first-stage or pass-through PASID entry on a unit without second stage is reserved; Linux sets it. */
  readonly firstStageWidth: "reserved" | "ignored";
  /** With CM=1, absent and faulty PASID entries are cached under DID 0 (6.1), or so that any DID reaches them (Linux invalidates by the new one), or not at all. */
  readonly absentPasids: "did0" | "wildcard" | "uncached";
  /** A nested walk with SSADE=1 may read a first-stage entry only where the second stage lets it write (3.8.1): the code when only W lacks. */
  readonly unwritableTable: "SFS.6" | "SFS.8";
  /** The second-stage dirty flag of a page that holds first-stage entries: set when a flag in such an entry is set, or at any read of one. */
  readonly dirtyTables: "updates" | "reads";
  /** The largest page that one IOTLB entry holds, as log2 of its bytes; larger ones are cached in pieces (6.2.5.2: fractured). */
  readonly largestCached: 12 | 21 | 30;
}

/** Every value of every policy; the first is taken when nothing is said. */
export const POLICY_VALUES: { readonly [Name in keyof VtdPolicies]: readonly VtdPolicies[Name][] } = {
  accessed: ["success", "walked"],
  userDenial: ["first", "last"],
  rootHalves: ["used", "both"],
  firstStageWidth: ["reserved", "ignored"],
  absentPasids: ["wildcard", "did0", "uncached"],
  unwritableTable: ["SFS.6", "SFS.8"],
  dirtyTables: ["updates", "reads"],
  largestCached: [30, 21, 12],
};

export const DEFAULT_POLICIES: VtdPolicies = Object.fromEntries(Object.entries(POLICY_VALUES).map(([name, [first]]) => [name, first])) as unknown as VtdPolicies;
