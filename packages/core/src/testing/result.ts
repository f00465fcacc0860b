/** What a conformance run found. */

/** One thing that is not as recorded. */
export interface Failure {
  /** Index in the case's steps. */
  readonly step: number;
  /** "write of 0x1000 by 0x18: physical address". */
  readonly what: string;
  readonly expected: string;
  readonly got: string;
}

export interface CaseResult {
  readonly id: string;
  /** Empty when everything is as recorded. */
  readonly failures: readonly Failure[];
}
