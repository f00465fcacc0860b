/** Primary fault logging and the fault event (VT-d 7.2.1, 7.3, 11.4.7). */
import { Access, formatRid, NO_PASID, type Tracer } from "@iommukit/core";
import type { FaultCondition } from "../spec/faults.js";
import { EventControl, Fsts, Reg } from "../spec/registers.js";
import type { RegisterBank } from "./register-bank.js";

const F_BIT = 1n << 63n;

export class FaultRecorder {
  readonly #bank: RegisterBank;
  readonly #name: string;
  readonly #tracer: Tracer | undefined;
  readonly #base: number;
  readonly #count: number;
  /** FI bits above the largest supported AGAW read 0 (11.4.7.6). */
  readonly #addressMask: bigint;
  /** Sends the message of FEADDR/FEDATA. */
  readonly #message: (address: bigint, data: number) => void;
  #index = 0;

  constructor(
    name: string,
    bank: RegisterBank,
    records: { readonly base: number; readonly count: number; readonly addressBits: number },
    message: (address: bigint, data: number) => void,
    tracer: Tracer | undefined,
  ) {
    this.#name = name;
    this.#bank = bank;
    this.#base = records.base;
    this.#count = records.count;
    this.#addressMask = (1n << BigInt(records.addressBits)) - 1n;
    this.#message = message;
    this.#tracer = tracer;
  }

  /** Records a fault of a DMA request, unless FSTS.PFO stands or every record is in use. */
  record(condition: FaultCondition, rid: number, pasid: number, page: number, access: number): void {
    const write = (access & Access.WRITE) !== 0;
    const atomic = write && (access & Access.READ) !== 0;
    if (this.#tracer?.listener) this.#trace(condition, rid, pasid, page, access);
    const status = Number(this.#bank.get(Reg.FSTS));
    if ((status & Fsts.PFO) !== 0) return;
    const offset = this.#base + this.#index * 16;
    if ((this.#bank.get(offset + 8) & F_BIT) !== 0n) {
      this.#bank.set(Reg.FSTS, BigInt(status | Fsts.PFO));
      return;
    }
    let high = F_BIT | (BigInt(condition.code) << 32n) | BigInt(rid);
    // T1, T2: 00 write, 10 read, 11 atomic (11.4.7.6).
    if (!write || atomic) high |= 1n << 62n;
    if (atomic) high |= 1n << 28n;
    if (pasid !== NO_PASID) {
      high |= (BigInt(pasid) << 40n) | (1n << 31n);
      if ((access & Access.EXECUTE) !== 0) high |= 1n << 30n;
      if ((access & Access.PRIVILEGED) !== 0) high |= 1n << 29n;
    }
    this.#bank.set(offset, (BigInt(page) << 12n) & this.#addressMask);
    this.#bank.set(offset + 8, high);
    const pending = (status & Fsts.PPF) !== 0;
    const next = pending ? status : (status & 0xff) | Fsts.PPF | (this.#index << 8);
    this.#index = (this.#index + 1) % this.#count;
    this.#bank.set(Reg.FSTS, BigInt(next));
    if (!pending) this.event(status);
  }

  /** Software cleared an F bit: PPF is the OR of all of them. */
  recompute(): void {
    let pending = false;
    for (let i = 0; i < this.#count; i++) pending ||= (this.#bank.get(this.#base + i * 16 + 8) & F_BIT) !== 0n;
    const status = this.#bank.get(Reg.FSTS) & ~BigInt(Fsts.PPF);
    this.#bank.set(Reg.FSTS, pending ? status | BigInt(Fsts.PPF) : status);
    this.dropPending();
  }

  /** A condition of the fault event group came up while `before` was FSTS: message now, or when unmasked (1.11). */
  event(before: number): void {
    if ((before & (Fsts.PPF | Fsts.PFO | Fsts.IQE | Fsts.ICE | Fsts.ITE)) !== 0) return;
    const control = Number(this.#bank.get(Reg.FECTL));
    this.#bank.set(Reg.FECTL, BigInt((control | EventControl.IP) >>> 0));
    this.deliver();
  }

  /** Sends the pending message if the event is not masked. */
  deliver(): void {
    const control = Number(this.#bank.get(Reg.FECTL));
    if ((control & EventControl.IP) === 0 || (control & EventControl.IM) !== 0) return;
    this.#bank.set(Reg.FECTL, BigInt((control & ~EventControl.IP) >>> 0));
    const address = this.#bank.get(Reg.FEADDR) | (this.#bank.get(Reg.FEUADDR) << 32n);
    this.#message(address, Number(this.#bank.get(Reg.FEDATA)));
  }

  /** All status bits clear: a masked pending message is dropped. */
  dropPending(): void {
    const status = Number(this.#bank.get(Reg.FSTS));
    if ((status & (Fsts.PPF | Fsts.PFO | Fsts.IQE | Fsts.ICE | Fsts.ITE)) !== 0) return;
    this.#bank.set(Reg.FECTL, this.#bank.get(Reg.FECTL) & ~BigInt(EventControl.IP));
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
}
