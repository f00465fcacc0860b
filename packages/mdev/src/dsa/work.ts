/** A descriptor in an engine: what it asks for, with whose rights, and how far it has come. */
import { Access, NO_PASID } from "@iommukit/core";
import type { PageAccess } from "@iommukit/core/devices";
import { Address } from "./address.js";
import type { Batch } from "./batch.js";
import { RECORD_BYTES, RecordByte, Status } from "./spec/completion.js";
import { DESCRIPTOR_BYTES, Field, Flag } from "./spec/descriptor.js";
import type { WorkQueue } from "./work-queue.js";

export const Stage = { CHECK: 0, RUN: 1, READBACK: 2, RECORD: 3, STATUS: 4, END: 5 } as const;

export class Work {
  readonly bytes: Uint8Array = new Uint8Array(DESCRIPTOR_BYTES);
  readonly words: Uint32Array = new Uint32Array(this.bytes.buffer);
  readonly view: DataView = new DataView(this.bytes.buffer);
  readonly record: Uint8Array = new Uint8Array(RECORD_BYTES);
  readonly recordView: DataView = new DataView(this.record.buffer);
  /** The record's status, and what comes behind it. */
  readonly recordStatus: Uint8Array = this.record.subarray(0, 1);
  readonly recordRest: Uint8Array = this.record.subarray(1);
  readonly access: PageAccess = { kind: Access.READ, flags: 0, pasid: NO_PASID, options: {}, untranslated: false, page: 0, offset: 0 };
  readonly source: Address = new Address();
  readonly destination: Address = new Address();
  /** Second destination, delta record, or place of a seed. */
  readonly third: Address = new Address();
  readonly completion: Address = new Address();

  /** Counts up with each use: an answer to an earlier one is told apart by it. */
  use = 0;
  queue!: WorkQueue;
  /** Place in the order of submissions to the device. */
  sequence = 0;
  /** Its interrupt handle is one of message storage. */
  ims = false;
  batch: Batch | undefined;
  /** In its batch. */
  index = 0;

  opcode = 0;
  flags = 0;
  size = 0;

  stage = 0;
  /** Waits for a page, or for earlier descriptors. */
  waiting = false;
  /** It was aborted: nothing of it is written any more. */
  discarded = false;
  /** The page it waited for was refused. */
  refused = false;
  /** Page requests for the access at hand. */
  asked = 0;
  status: number = Status.NONE;
  /** Bytes of the source that are done with. */
  done = 0;
  /** What the record says of it. */
  completed = 0;
  result = 0;
  /** Bytes that went to the destination. */
  written = 0;
  /** Readbacks that are done. */
  readbacks = 0;
  /** State of the operation: a CRC, the size of a delta record, counters of tags. */
  value = 0;
  value2 = 0;
  backwards = false;
  faultPage = -1;
  faultWrite = false;
  invalidFlags = 0;

  /** Begins with the bytes that are in place. */
  begin(queue: WorkQueue, sequence: number, ims: boolean): void {
    this.queue = queue;
    this.sequence = sequence;
    this.ims = ims;
    this.batch = undefined;
    this.index = 0;
    this.#decode();
    queue.identify(this.view, this.access);
  }

  /** A descriptor of a batch goes with the batch's rights: PASID and privilege of its own say nothing. */
  beginInBatch(batch: Batch, index: number): void {
    const { queue, sequence, ims, access } = batch.work;
    this.queue = queue;
    this.sequence = sequence;
    this.ims = ims;
    this.batch = batch;
    this.index = index;
    this.#decode();
    this.access.pasid = access.pasid;
    this.access.flags = access.flags;
    this.access.options = access.options;
    this.access.untranslated = access.untranslated;
  }

  #decode(): void {
    const { view } = this;
    this.flags = view.getUint32(Field.FLAGS, true) & 0xff_ffff;
    this.opcode = this.bytes[Field.OPCODE];
    this.size = view.getUint32(Field.SIZE, true);
    this.completion.read(view, Field.COMPLETION);
    this.source.read(view, Field.SOURCE);
    this.destination.read(view, Field.DESTINATION);
    this.stage = Stage.CHECK;
    this.waiting = false;
    this.discarded = false;
    this.refused = false;
    this.asked = 0;
    this.status = Status.SUCCESS;
    this.done = 0;
    this.completed = 0;
    this.result = 0;
    this.written = 0;
    this.readbacks = 0;
    this.value = 0;
    this.value2 = 0;
    this.backwards = false;
    this.faultPage = -1;
    this.faultWrite = false;
    this.invalidFlags = 0;
    this.record.fill(0);
  }

  has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  /** The operation's own flags. */
  get specific(): number {
    return this.bytes[Field.SPECIFIC];
  }

  /** It may wait for pages. */
  get blocks(): boolean {
    return this.has(Flag.BLOCK_ON_FAULT) && this.queue.blocks;
  }

  get privileged(): boolean {
    return (this.access.flags & Access.PRIVILEGED) !== 0;
  }

  /** Ends the operation where it cannot go on. */
  fail(status: number): void {
    this.status = status;
  }

  /** The record's value, little-endian: 4 bytes at `RecordByte.VALUE`. */
  report(value: number): void {
    this.recordView.setUint32(RecordByte.VALUE, value, true);
  }
}
