/**
 * What software orders of a unit, for whoever carries it out elsewhere: a unit that stands for another one in front of a guest (SMMU 4, 6.3).
 * Nothing here is asked of the unit's own translation.
 */
import type { Fields } from "./words.js";

/** A command that ends in an error, `back` places before the one that is told now: 0 is this one. */
export interface CommandRefusal {
  /** A `CommandError`. */
  readonly error: number;
  readonly back: number;
}

export interface UnitObserver {
  /**
   * A command that is legal, before it does anything and is consumed. A refusal takes the queue back to the command that it names, where it
   * stops, as on any error (7.1).
   */
  command(opcode: number, fields: Fields, words: readonly [bigint, bigint]): CommandRefusal | undefined;
  /** The queue is empty or has stopped: `back` of a refusal counts from the next command on, 1 is the last one. */
  idle(): CommandRefusal | undefined;
  /** CR0 has taken effect, or GBPA was written. */
  control(): void;
}

/** What memory says of a stream now; undefined: it would be an error to use it (C_BAD_STREAMID, F_STE_FETCH, C_BAD_STE). */
export type StreamView = Fields | undefined;
