/** Completion records: whether one is due, what it says, and what becomes of one that cannot be stored (341204, 3.6 and 8.2). */
import type { DeviceErrorRecord, Errors } from "./errors.js";
import type { EventLog } from "./event-log.js";
import type { Interrupts } from "./interrupts.js";
import { OPERATION_BY_OPCODE } from "./operations/index.js";
import type { PageMover } from "./page-mover.js";
import { RecordByte, Status, STATUS_WRITE } from "./spec/completion.js";
import { Field, Flag, Opcode } from "./spec/descriptor.js";
import { writePageAddress } from "./address.js";
import { BATCH_IDENTIFIERS } from "./spec/errors.js";
import type { Work } from "./work.js";

export class Completions {
  readonly #errors: Errors;
  readonly #log: EventLog;
  readonly #interrupts: Interrupts;
  #identifiers = 0;

  constructor(errors: Errors, log: EventLog, interrupts: Interrupts) {
    this.#errors = errors;
    this.#log = log;
    this.#interrupts = interrupts;
  }

  /** Fills in the record. False when none is to be stored: then what there is to say has been said. */
  prepare(work: Work): boolean {
    const failed = work.status !== Status.SUCCESS;
    this.#fill(work);
    const valid = work.has(Flag.COMPLETION_VALID) && work.status !== Status.COMPLETION_ALIGNMENT;
    if (failed && !valid) this.#errors.report(this.#describe(work, work.status));
    if (!valid || !(failed || work.has(Flag.REQUEST_COMPLETION))) {
      this.interrupt(work);
      return false;
    }
    const instead = this.#loggedInstead(work);
    if (instead === Status.NONE) return true;
    this.#errors.report(this.#describe(work, instead));
    this.interrupt(work);
    return false;
  }

  #fill(work: Work): void {
    OPERATION_BY_OPCODE.get(work.opcode)?.report?.(work);
    const { record, recordView } = work;
    record[RecordByte.STATUS] = work.status | (work.faultWrite ? STATUS_WRITE : 0);
    record[RecordByte.RESULT] = work.result;
    recordView.setUint32(RecordByte.COMPLETED, work.completed, true);
    if (work.faultPage !== -1) writePageAddress(recordView, RecordByte.FAULT_ADDRESS, work.faultPage);
    if (work.status === Status.FLAGS) work.report(work.invalidFlags);
  }

  /** Software finds records in the log first, so what stands for several of them goes there too, behind them. */
  #loggedInstead(work: Work): number {
    if (!this.#log.enabled) return Status.NONE;
    if (work.opcode === Opcode.BATCH && work.value !== 0) return Status.BATCH_LOGGED;
    return work.opcode === Opcode.DRAIN && this.#log.holdsRecord(work.queue.index, work.access.pasid) ? Status.DRAIN_LOGGED : Status.NONE;
  }

  /** The status goes last: software that polls it finds the rest in place. */
  store(work: Work, mover: PageMover): boolean {
    return mover.write(work, work.completion, 1, work.recordRest) && mover.write(work, work.completion, 0, work.recordStatus);
  }

  /** The record's page cannot be written. */
  lost(work: Work): void {
    const { batch } = work;
    const first = batch !== undefined && batch.identifier === -1;
    if (batch && first) {
      batch.identifier = this.#identifiers++ % BATCH_IDENTIFIERS;
      batch.work.value = 1;
      batch.work.value2 = batch.identifier;
    }
    this.#errors.report({ ...this.#describe(work, Status.COMPLETION_FAULT), write: true, firstInBatch: first });
    this.interrupt(work);
  }

  interrupt(work: Work): void {
    if (work.has(Flag.REQUEST_INTERRUPT) && work.status !== Status.INTERRUPT_HANDLE) this.#interrupts.raise(work.view.getUint16(Field.HANDLE, true), work.ims);
  }

  #describe(work: Work, error: number): DeviceErrorRecord {
    const { queue, access, batch, completion } = work;
    const ofRecord = error === Status.COMPLETION_FAULT || error === Status.DRAIN_LOGGED || error === Status.BATCH_LOGGED;
    return {
      error,
      queue: queue.index,
      ...(access.pasid >= 0 && { pasid: access.pasid }),
      privileged: work.privileged,
      operation: work.opcode,
      ...(batch && { batchIndex: work.index, batchIdentifier: Math.max(batch.identifier, 0) }),
      ...(error === Status.BATCH_LOGGED && { batchIdentifier: work.value2 }),
      write: work.faultWrite,
      ...(ofRecord ? { faultPage: completion.page, faultOffset: completion.offset } : work.faultPage !== -1 && { faultPage: work.faultPage }),
      ...(error === Status.FLAGS && { invalidFlags: work.invalidFlags }),
      handle: work.view.getUint16(Field.HANDLE, true),
      ims: work.ims,
      wantsInterrupt: work.has(Flag.REQUEST_INTERRUPT),
      wantsRecord: work.has(Flag.REQUEST_COMPLETION),
      ...(ofRecord && { record: work.record.slice() }),
    };
  }
}
