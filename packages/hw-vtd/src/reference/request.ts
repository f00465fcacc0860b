/** Questions and answers of the naive translator. */
import type { ReferenceUnit } from "./unit.js";
import type { ReferenceMemory } from "./trail.js";

/** Latched state of the unit. */
export interface ReferenceState {
  readonly unit: ReferenceUnit;
  readonly memory: ReferenceMemory;
  /** GSTS.TES */
  readonly enabled: boolean;
  /** RTADDR as SRTP latched it. */
  readonly rtaddr: bigint;
}

export type Kind = "untranslated" | "translation" | "translated" | "page";

export interface ReferenceRequest {
  readonly kind: Kind;
  readonly rid: bigint;
  readonly pasid: bigint | undefined;
  readonly address: bigint;
  readonly read: boolean;
  /** Read and write: an AtomicOp. A translation request: its No Write flag is clear. */
  readonly write: boolean;
  readonly execute: boolean;
  readonly privileged: boolean;
  /** A read of no bytes. */
  readonly zeroLength: boolean;
}

/** Fields of a fault record (11.4.7.6). */
export interface ReferenceRecord {
  readonly reason: number;
  readonly sid: bigint;
  readonly pasid: bigint | undefined;
  readonly address: bigint;
  readonly type: "write" | "read" | "atomic" | "page";
  /** AT */
  readonly at: number;
  readonly execute: boolean;
  readonly privileged: boolean;
}

/** A successful translation completion (4.2.3). */
export interface ReferenceCompletion {
  readonly read: boolean;
  readonly write: boolean;
  readonly privileged: boolean;
  readonly untranslatedOnly: boolean;
  readonly noSnoop: boolean;
  /** Output page of the address that was asked for, and log2 of the size of the range around it; mean something when a right is granted. */
  readonly address: bigint;
  readonly size: bigint;
}

export interface Answer {
  /** `done`: the request goes on; UR, CA, IR: it ends. */
  readonly response: "done" | "UR" | "CA" | "IR";
  /** Output address of an untranslated or translated request. */
  readonly address?: bigint;
  readonly completion?: ReferenceCompletion;
  /** The condition that was met, recorded or not. */
  readonly condition?: string;
  readonly record?: ReferenceRecord;
  /** Flags that are set now, by address, and flags that may be. */
  readonly set: ReadonlyMap<bigint, bigint>;
  readonly mayBeSet: ReadonlyMap<bigint, bigint>;
}
