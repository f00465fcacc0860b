/** What goes into the reference and comes out of it, and what it knows on the way. */
import type { Attributes } from "./attributes.js";

export interface Identification {
  readonly idr0: number;
  readonly idr1: number;
  readonly idr3: number;
  readonly idr5: number;
  readonly aidr: number;
}

export interface Registers {
  readonly strtabBase: bigint;
  readonly strtabCfg: number;
  readonly cr2: number;
}

/** 64-bit words of memory; `read` gives undefined where there is none. */
export interface Memory {
  read(address: bigint): bigint | undefined;
  write(address: bigint, value: bigint): void;
}

export interface Request {
  readonly stream: number;
  readonly substream: number | undefined;
  readonly address: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly fetch: boolean;
  readonly privileged: boolean;
}

export interface Record {
  readonly words: bigint[];
  /** Bits that the manual does not leave UNKNOWN. */
  readonly known: bigint[];
  readonly stalled: boolean;
  /** 7.3.1: the unit may leave it out when it says the same as one shortly before. */
  readonly merges: boolean;
}

/** An access that passes has its memory attributes with it, in the manual's notation. */
export type Answer = { readonly address: bigint; readonly attributes: string } | { readonly record?: Record; readonly zero?: boolean };

export type Need = { readonly read: boolean; readonly write: boolean; readonly fetch: boolean; readonly privileged: boolean };
export type Cause = "CD" | "TT" | "IN";

/** A request that goes no further. */
export class Stop extends Error {
  constructor(readonly type: number, readonly more: { stage2?: boolean; cause?: Cause; ipa?: bigint; fetch?: bigint; controlled?: boolean; tableWrite?: boolean; readAlone?: boolean } = {}) {
    super(`event ${type}`);
  }
}

/** Events by number (7.3). */
export const E = {
  BAD_STREAMID: 2, STE_FETCH: 3, BAD_STE: 4, STREAM_DISABLED: 6, BAD_SUBSTREAMID: 8, CD_FETCH: 9, BAD_CD: 0xa, WALK_EABT: 0xb, TRANSLATION: 0x10,
  ADDR_SIZE: 0x11, ACCESS: 0x12, PERMISSION: 0x13,
};

/** One request on its way. */
export interface State {
  readonly id: Identification;
  /** Bits of an output address. */
  readonly oas: number;
  readonly minor: number;
  readonly memory: Memory;
  readonly registers: Registers;
  /** 512 bits each; 0 while they are not known. */
  ste: bigint;
  cd: bigint;
  need: Need;
  attributes: Attributes;
  /** Stages that the request goes through. */
  stage1: boolean;
  stage2: boolean;
}
