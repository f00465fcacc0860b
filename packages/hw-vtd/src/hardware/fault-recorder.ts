/** Primary fault logging and the fault event (VT-d 7.2.1, 7.3, 11.4.7). DMA and interrupt faults share the records. */
import { Access, formatRid, NO_PASID, type RegisterBank, type Tracer } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import type { FaultCondition } from "../spec/faults.js";
import { Fsts, Reg } from "../spec/registers.js";
import type { EventMessage } from "./event-message.js";
import { RequestKind } from "./request.js";

const F_BIT = 1n << 63n;
const T1_BIT = 1n << 62n;
const T2_BIT = 1n << 28n;
const PP_BIT = 1n << 31n;
const EXE_BIT = 1n << 30n;
const PRIV_BIT = 1n << 29n;
/** Bits that make a fault event; PFO makes none, but holds the others back. */
const GROUP = Fsts.PPF | Fsts.PFO | Fsts.IQE | Fsts.ICE | Fsts.ITE;

export class FaultRecorder {
  readonly #bank: RegisterBank;
  readonly #name: string;
  readonly #caps: Capabilities;
  readonly #event: EventMessage;
  /** A source with a record that stands gets no second one (7.2.1 allows it). */
  readonly #compress: boolean;
  readonly #tracer: Tracer | undefined;
  /** FI bits above the largest supported AGAW read 0 (11.4.7.6). */
  readonly #addressMask: bigint;
  #index = 0;

  constructor(name: string, bank: RegisterBank, caps: Capabilities, event: EventMessage, compress: boolean, tracer: Tracer | undefined) {
    this.#name = name;
    this.#bank = bank;
    this.#caps = caps;
    this.#event = event;
    this.#compress = compress;
    this.#tracer = tracer;
    const largest = 31 - Math.clz32(caps.sagaw & 14);
    this.#addressMask = (1n << BigInt(caps.sagaw === 0 ? caps.mgaw : 30 + 9 * largest)) - 1n;
  }

  /** Records a fault of a request to memory, unless FSTS.PFO stands or every record is in use. */
  record(condition: FaultCondition, rid: number, pasid: number, page: number, access: number, kind: number = RequestKind.UNTRANSLATED): void {
    if (this.#tracer?.listener) this.#trace(condition, rid, pasid, page, access);
    // A translation request is a read on the wire, whatever permissions it asks for (4.2.1).
    const write = (access & Access.WRITE) !== 0 && kind !== RequestKind.TRANSLATION;
    const atomic = write && (access & Access.READ) !== 0;
    let high = 0n;
    // T1, T2: 00 write, 01 page request, 10 read, 11 atomic (11.4.7.6).
    if (kind === RequestKind.PAGE) high |= T2_BIT;
    else {
      if (!write || atomic) high |= T1_BIT;
      if (atomic) high |= T2_BIT;
      if (this.#caps.deviceTlb) high |= BigInt(kind) << 60n;
    }
    if (pasid !== NO_PASID && this.#caps.pasid) {
      high |= (BigInt(pasid) << 40n) | PP_BIT;
      if ((access & Access.EXECUTE) !== 0 && !write) high |= EXE_BIT;
      if ((access & Access.PRIVILEGED) !== 0) high |= PRIV_BIT;
    }
    this.#store(condition, rid, (BigInt(page) << 12n) & this.#addressMask, high);
  }

  /** Records a fault of an interrupt request. @param index in the interrupt remapping table; undefined where there is none (5.1.4.1) */
  recordInterrupt(condition: FaultCondition, rid: number, index: number | undefined): void {
    if (this.#tracer?.listener) this.#traceInterrupt(condition, rid, index);
    this.#store(condition, rid, BigInt((index ?? 0) & 0xffff) << 48n, 0n);
  }

  #store(condition: FaultCondition, rid: number, low: bigint, bits: bigint): void {
    const status = Number(this.#bank.get(Reg.FSTS));
    if ((status & Fsts.PFO) !== 0 || (this.#compress && this.#isRecorded(rid))) return;
    const offset = this.#offset(this.#index);
    if ((this.#bank.get(offset + 8) & F_BIT) !== 0n) {
      this.#bank.set(Reg.FSTS, BigInt(status | Fsts.PFO));
      return;
    }
    this.#bank.set(offset, low);
    this.#bank.set(offset + 8, F_BIT | bits | (BigInt(condition.code) << 32n) | BigInt(rid));
    const pending = (status & Fsts.PPF) !== 0;
    if (!pending) this.#bank.set(Reg.FSTS, BigInt((status & 0xff) | Fsts.PPF | (this.#index << 8)));
    this.#index = (this.#index + 1) % this.#caps.faultRecords;
    if (!pending) this.event(status);
  }

  #offset(index: number): number {
    return this.#caps.faultRecordOffset + index * 16;
  }

  #isRecorded(rid: number): boolean {
    for (let i = 0; i < this.#caps.faultRecords; i++) {
      const high = this.#bank.get(this.#offset(i) + 8);
      if ((high & F_BIT) !== 0n && Number(high & 0xffffn) === rid) return true;
    }
    return false;
  }

  /** Software cleared an F bit: PPF is the OR of all of them. */
  recompute(): void {
    let pending = false;
    for (let i = 0; i < this.#caps.faultRecords; i++) pending ||= (this.#bank.get(this.#offset(i) + 8) & F_BIT) !== 0n;
    const status = this.#bank.get(Reg.FSTS) & ~BigInt(Fsts.PPF);
    this.#bank.set(Reg.FSTS, pending ? status | BigInt(Fsts.PPF) : status);
    this.dropPending();
  }

  /** A condition of the fault event group came up while `before` was FSTS. */
  event(before: number): void {
    if ((before & GROUP) === 0) this.#event.raise();
  }

  /** FECTL was written. */
  deliver(): void {
    this.#event.deliver();
  }

  /** All status bits clear: a masked pending message is dropped. */
  dropPending(): void {
    if ((Number(this.#bank.get(Reg.FSTS)) & GROUP) === 0) this.#event.drop();
  }

  /** The index restarts when neither DMA nor interrupt remapping is on. */
  restart(): void {
    this.#index = 0;
  }

  #trace(condition: FaultCondition, rid: number, pasid: number, page: number, access: number): void {
    const address = `0x${(BigInt(page) << 12n).toString(16)}`;
    const operation = (access & Access.WRITE) !== 0 ? "write" : "read";
    const fields: Record<string, string | number | boolean> = { reason: condition.code, condition: condition.name, rid, address, operation };
    if (pasid !== NO_PASID) fields.pasid = pasid;
    const who = `${formatRid(rid)}${pasid === NO_PASID ? "" : ` PASID ${pasid}`}`;
    const reason = `0x${condition.code.toString(16)} (${condition.name})`;
    this.#tracer?.listener?.({
      kind: "fault",
      unit: this.#name,
      record: `${who} ${operation} ${address}: reason ${reason}: ${condition.text}`,
      fields,
    });
  }

  #traceInterrupt(condition: FaultCondition, rid: number, index: number | undefined): void {
    const what = index === undefined ? "interrupt" : `interrupt ${index}`;
    this.#tracer?.listener?.({
      kind: "fault",
      unit: this.#name,
      record: `${formatRid(rid)} ${what}: reason 0x${condition.code.toString(16)} (${condition.name}): ${condition.text}`,
      fields: { reason: condition.code, condition: condition.name, rid, operation: "interrupt", ...(index === undefined ? {} : { index }) },
    });
  }
}
