/** A recipe: the one change that turns a scene into a fault, and what to say about it. */
import type { BaseName, Values } from "./scene.js";

export interface Recipe {
  /** Name in `spec/faults.ts`: "SPT.3". */
  readonly condition: string;
  /** Section of the manual where the rule stands. */
  readonly section: string;
  readonly base: BaseName;
  /** CAP and ECAP fields that differ from the unit that can do everything. */
  readonly cap?: Values;
  readonly ecap?: Values;
  readonly version?: number;
  readonly haw?: number;
  /** TTM, RTA (a page number), SSIRWE of RTADDR; IRTA (a page number). */
  readonly registers?: Values;
  /** Fields that are changed, by part: these are at fault, and are marked. */
  readonly set?: Readonly<Record<string, Values>>;
  /** Reserved bits that are set, by part. */
  readonly bits?: Readonly<Record<string, readonly number[]>>;
  /** The part whose page takes no writes. */
  readonly readOnly?: string;
  readonly request?: {
    readonly address?: bigint;
    /** Address of translated requests, which are host addresses. */
    readonly hostAddress?: bigint;
    readonly pasid?: number;
    readonly write?: boolean;
    readonly execute?: boolean;
    readonly privileged?: boolean;
    readonly zeroLength?: boolean;
    /** Data of an interrupt message. */
    readonly data?: number;
  };
  /** Without a PASID the context entry says it instead. */
  readonly ridPrivilege?: boolean;
  /** Interrupt remapping stays off. */
  readonly interruptsOff?: boolean;
  /** What the hardware saw, in a sentence. */
  readonly why: string;
  /** What usually leads to it. */
  readonly cause: string;
  readonly mend: string;
}
