/** The event log: a ring in memory of errors that no completion record tells of (341204 revision 2, 5.9). */
import { Access, NO_PASID } from "@iommukit/core";
import { type DeviceTlb, type PageAccess, PageOutcome } from "@iommukit/core/devices";
import { writePageAddress } from "./address.js";
import type { DeviceErrorRecord } from "./errors.js";
import { Status } from "./spec/completion.js";
import { PASID_MASK } from "./spec/descriptor.js";
import { Event, EVENT_BYTES, EVENT_LOG_MIN, EVENT_RECORD, EventByte, EventInfo, WITH_RECORD } from "./spec/errors.js";
import { GENCFG_EVENT_LOG, Register } from "./spec/registers.js";

const PASID_ENABLE = 1;
const PRIVILEGED = 2;
const HEAD = Register.EVLSTATUS;
const TAIL = Register.EVLSTATUS + 4;
const INTERRUPT_PENDING = 0x4000_0000;
const PAGE = 4096;
/** Not a completion record's error. */
const OTHER = -2;

export class EventLog {
  readonly #view: DataView;
  readonly #tlb: DeviceTlb;
  readonly #bytes = new Uint8Array(EVENT_BYTES);
  readonly #event = new DataView(this.#bytes.buffer);
  readonly #access: PageAccess = { kind: Access.WRITE, flags: 0, pasid: NO_PASID, options: {}, untranslated: false, page: 0, offset: 0 };
  /** By place in the ring: queue and PASID of a completion record that waits there, or `OTHER`. */
  #queues: Int32Array = new Int32Array(0);
  #pasids: Int32Array = new Int32Array(0);

  constructor(registers: DataView, tlb: DeviceTlb) {
    this.#view = registers;
    this.#tlb = tlb;
  }

  get enabled(): boolean {
    return (this.#view.getUint32(Register.GENCFG, true) & GENCFG_EVENT_LOG) !== 0;
  }

  get #size(): number {
    return this.#view.getUint16(Register.EVLCFG + 8, true);
  }

  /** The configuration can be used. */
  isValid(pasids: boolean): boolean {
    return this.#size >= EVENT_LOG_MIN && (pasids || (this.#view.getUint32(Register.EVLCFG, true) & PASID_ENABLE) === 0);
  }

  /** Begins empty, with the configuration that the registers hold. */
  start(): void {
    const low = this.#view.getUint32(Register.EVLCFG, true);
    const pasid = ((this.#view.getUint32(Register.EVLCFG + 8, true) >>> 16) | (this.#view.getUint32(Register.EVLCFG + 12, true) << 16)) & PASID_MASK;
    const privileged = (low & PRIVILEGED) !== 0;
    this.#access.pasid = (low & PASID_ENABLE) !== 0 ? pasid : NO_PASID;
    this.#access.options = this.#access.pasid === NO_PASID ? {} : { pasid, privileged };
    this.#access.flags = this.#access.pasid !== NO_PASID && privileged ? Access.PRIVILEGED : 0;
    this.#view.setUint32(HEAD, 0, true);
    this.#view.setUint32(TAIL, 0, true);
    this.#queues = new Int32Array(this.enabled ? this.#size : 0);
    this.#pasids = new Int32Array(this.#queues.length);
  }

  /** Software has taken events out. A head behind the ring is ignored. */
  moveHead(head: number): void {
    if (head < this.#queues.length) this.#view.setUint32(HEAD, head, true);
  }

  /** False when it is full, or the event cannot be written. */
  append(error: DeviceErrorRecord): boolean {
    const size = this.#queues.length;
    const tail = this.#view.getUint16(TAIL, true);
    const next = tail + 1 === size ? 0 : tail + 1;
    if (size === 0 || next === this.#view.getUint16(HEAD, true)) return false;
    this.#encode(error);
    const low = this.#view.getUint32(Register.EVLCFG, true);
    const first = this.#view.getUint32(Register.EVLCFG + 4, true) * 0x10_0000 + (low >>> 12);
    this.#access.page = first + Math.floor((tail * EVENT_BYTES) / PAGE);
    this.#access.offset = (tail * EVENT_BYTES) % PAGE;
    if (this.#tlb.attempt(this.#access, this.#bytes) !== PageOutcome.MOVED) return false;
    this.#queues[tail] = error.error === Status.COMPLETION_FAULT ? (error.queue ?? OTHER) : OTHER;
    this.#pasids[tail] = error.pasid ?? NO_PASID;
    this.#view.setUint32(TAIL, next | INTERRUPT_PENDING, true);
    return true;
  }

  /** A completion record of the queue and PASID waits here for software to store it. */
  holdsRecord(queue: number, pasid: number): boolean {
    const [head, tail] = [this.#view.getUint16(HEAD, true), this.#view.getUint16(TAIL, true)];
    return this.#queues.some((owner, at) => {
      const waits = head <= tail ? at >= head && at < tail : at >= head || at < tail;
      return waits && owner === queue && this.#pasids[at] === pasid;
    });
  }

  #encode(error: DeviceErrorRecord): void {
    const event = this.#event;
    this.#bytes.fill(0);
    const withRecord = WITH_RECORD.has(error.error);
    let word = error.error << Event.ERROR_SHIFT;
    if (error.operation !== undefined) word |= Event.DESCRIPTOR;
    if (error.queue !== undefined) word |= Event.QUEUE | (error.queue << Event.QUEUE_SHIFT);
    if (error.batchIndex !== undefined) word |= Event.BATCH;
    if (error.write) word |= Event.WRITE;
    if (error.privileged) word |= Event.PRIVILEGED;
    if (withRecord || error.invalidFlags || error.handle !== undefined) word |= Event.INFO;
    event.setUint32(0, word | ((error.batchIdentifier ?? 0) << Event.BATCH_SHIFT), true);
    event.setUint32(EventByte.OPERATION, (error.operation ?? 0) | ((error.pasid ?? 0) << 8), true);
    event.setUint16(EventByte.BATCH_INDEX, error.batchIndex ?? 0, true);
    if (error.invalidFlags) event.setUint32(EventByte.INFO, error.invalidFlags, true);
    else {
      event.setUint16(EventByte.INFO, error.handle ?? 0, true);
      event.setUint16(EventByte.INFO_FLAGS, infoFlags(error), true);
    }
    writePageAddress(event, EventByte.ADDRESS, error.faultPage ?? 0);
    event.setUint32(EventByte.ADDRESS, event.getUint32(EventByte.ADDRESS, true) | (error.faultOffset ?? 0), true);
    if (withRecord && error.record) this.#bytes.set(error.record, EVENT_RECORD);
  }
}

function infoFlags({ wantsInterrupt, ims, wantsRecord, firstInBatch }: DeviceErrorRecord): number {
  return (wantsInterrupt ? EventInfo.INTERRUPT : 0) | (ims ? EventInfo.IMS : 0) | (wantsRecord ? EventInfo.RECORD : 0) | (firstInBatch ? EventInfo.FIRST_IN_BATCH : 0);
}
