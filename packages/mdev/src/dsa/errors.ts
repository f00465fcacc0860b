/** How errors come to software that no completion record tells it of: an error sink, the event log, or SWERR (341204, 5.8 and 9.2.15). */
import type { EventLog } from "./event-log.js";
import { SWERR_PASID_SHIFT, SwErr } from "./spec/errors.js";
import { IntCause, Register } from "./spec/registers.js";
import { writePageAddress } from "./address.js";

export interface DeviceErrorRecord {
  readonly error: number;
  /** Absent for an error that belongs to no queue. */
  readonly queue?: number;
  readonly pasid?: number;
  readonly privileged?: boolean;
  /** Of the descriptor, if the error is one of a descriptor. */
  readonly operation?: number;
  /** Index in its batch. */
  readonly batchIndex?: number;
  readonly batchIdentifier?: number;
  readonly firstInBatch?: boolean;
  readonly write?: boolean;
  /** Page that was at fault. */
  readonly faultPage?: number;
  /** Offset in it: of a completion record, whose whole address software needs. */
  readonly faultOffset?: number;
  readonly invalidFlags?: number;
  readonly handle?: number;
  readonly ims?: boolean;
  readonly wantsInterrupt?: boolean;
  readonly wantsRecord?: boolean;
  /** What could not be stored. */
  readonly record?: Uint8Array;
}

/** Takes an error of a queue and a PASID. */
export type ErrorSink = (error: DeviceErrorRecord) => void;

interface Subscription {
  readonly queue: number;
  readonly pasid: number | undefined;
  readonly sink: ErrorSink;
}

export class Errors {
  readonly #view: DataView;
  readonly #log: EventLog;
  readonly #cause: (bits: number) => void;
  readonly #sinks = new Set<Subscription>();

  /** @param registers BAR 0's first bytes, which hold SWERR @param cause sets bits of INTCAUSE, and interrupts where that is on */
  constructor(registers: DataView, log: EventLog, cause: (bits: number) => void) {
    this.#view = registers;
    this.#log = log;
    this.#cause = cause;
  }

  subscribe(queue: number, pasid: number | undefined, sink: ErrorSink): () => void {
    const subscription = { queue, pasid, sink };
    this.#sinks.add(subscription);
    return () => void this.#sinks.delete(subscription);
  }

  report(error: DeviceErrorRecord): void {
    for (const { queue, pasid, sink } of this.#sinks) if (queue === error.queue && pasid === error.pasid) return sink(error);
    if (this.#log.enabled && this.#log.append(error)) return this.#cause(IntCause.EVENT_LOG);
    this.#toRegister(error);
  }

  /** Keeps the first error; those after it only leave the overflow bit. */
  #toRegister(error: DeviceErrorRecord): void {
    const first = this.#view.getUint32(Register.SWERR, true);
    if ((first & SwErr.VALID) !== 0) this.#view.setUint32(Register.SWERR, first | SwErr.OVERFLOW, true);
    else storeError(this.#view, error);
    this.#cause(IntCause.ERROR);
  }
}

/** Fills an empty SWERR. */
export function storeError(view: DataView, error: DeviceErrorRecord): void {
  const { queue, operation, batchIndex, pasid = 0 } = error;
  let word = SwErr.VALID | (error.error << SwErr.ERROR_SHIFT);
  if (operation !== undefined) word |= SwErr.DESCRIPTOR;
  if (queue !== undefined) word |= SwErr.QUEUE | (queue << SwErr.QUEUE_SHIFT);
  if (batchIndex !== undefined) word |= SwErr.BATCH;
  if (error.write) word |= SwErr.WRITE;
  if (error.privileged) word |= SwErr.PRIVILEGED;
  view.setUint32(Register.SWERR, word, true);
  view.setUint32(Register.SWERR + 4, (operation ?? 0) | (pasid << SWERR_PASID_SHIFT), true);
  view.setUint32(Register.SWERR + 8, batchIndex ?? 0, true);
  view.setUint32(Register.SWERR + 12, error.invalidFlags ?? 0, true);
  writePageAddress(view, Register.SWERR + 16, error.faultPage ?? 0);
  view.setUint32(Register.SWERR + 16, view.getUint32(Register.SWERR + 16, true) | (error.faultOffset ?? 0), true);
}
