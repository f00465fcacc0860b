/** The silicon: registers and memory in, translations and a fault record out. It knows no driver. */
import {
  Access, type CachedTranslation, type IommuHardware, Iotlb, levelShift, type MmioHandler, NO_PASID, type PhysicalMemory, type Tracer, WalkResult, WalkStatus, walk,
} from "@iommukit/core";
import { ADDRESS_BITS, ENABLE, Entry, EVERYTHING, FAULT_TEXT, FaultCode, FORMAT, ID, Register, TOP_LEVEL, VALID } from "./spec.js";

const PAGES = 2 ** (ADDRESS_BITS - 12);
const REASONS = [0, FaultCode.NOT_PRESENT, FaultCode.RESERVED, FaultCode.BUS_ERROR];

export class AcmeUnit implements IommuHardware, MmioHandler {
  readonly name: string;
  readonly #memory: PhysicalMemory;
  readonly #tracer: Tracer;
  readonly #iotlb: Iotlb;
  readonly #walk = new WalkResult();
  #directory = 0;
  #enabled = false;
  #table = 0n;
  #fault = 0n;
  #address = 0n;

  constructor(name: string, memory: PhysicalMemory, tracer: Tracer, entries: number) {
    this.name = name;
    this.#memory = memory;
    this.#tracer = tracer;
    this.#iotlb = new Iotlb({ sets: entries === 0 ? 0 : entries / 4, ways: 4 });
  }

  translate(rid: number, pasid: number, page: number, access: number): number {
    const write = (access & Access.WRITE) !== 0;
    const slot = pasid === NO_PASID ? this.#iotlb.lookup(rid, 0, page) : -1;
    if (slot !== -1 && (!write || (this.#iotlb.data(slot) & Access.WRITE) !== 0)) {
      const out = this.#iotlb.output(slot, page);
      this.#trace(rid, page, access, "iotlb", out);
      return out;
    }
    const code = this.#resolve(rid, pasid, page, write);
    if (code !== 0) return this.#block(code, rid, page, access);
    this.#trace(rid, page, access, "walk", this.#walk.outPage);
    return this.#walk.outPage;
  }

  #resolve(rid: number, pasid: number, page: number, write: boolean): number {
    if (!this.#enabled) return FaultCode.OFF;
    if (pasid !== NO_PASID) return FaultCode.PASID;
    const table = this.#pointer(this.#directory + (rid >> 8) * 8);
    const root = table === 0 ? 0 : this.#pointer(table + (rid & 0xff) * 8);
    if (root === 0) return FaultCode.NO_DEVICE;
    if (page >= PAGES) return FaultCode.RANGE;
    const w = this.#walk;
    const status = walk(this.#memory, FORMAT, root, TOP_LEVEL, page, w);
    if (status !== WalkStatus.OK) return REASONS[status];
    const writable = (w.entryLo & Entry.W) !== 0;
    if (write && !writable) return FaultCode.READ_ONLY;
    this.#iotlb.insert(rid, 0, page, levelShift(FORMAT, w.level), w.outPage, Access.READ | (writable ? Access.WRITE : 0), rid, 0);
    return 0;
  }

  /** Bits 47:12 of a valid entry; 0 for another. */
  #pointer(pa: number): number {
    if (!this.#memory.load64(pa)) return 0;
    const { lo, hi } = this.#memory;
    return (lo & Entry.V) === 0 ? 0 : (hi & 0xffff) * 2 ** 32 + ((lo & ~0xfff) >>> 0);
  }

  #block(code: number, rid: number, page: number, access: number): number {
    if ((this.#fault & VALID) === 0n) {
      this.#fault = VALID | (BigInt(code) << 16n) | BigInt(rid);
      this.#address = BigInt(page) << 12n;
    }
    this.#trace(rid, page, access, "walk", -1);
    this.#tracer.listener?.({ kind: "fault", unit: this.name, record: `${rid.toString(16)}: ${FAULT_TEXT[code]}`, fields: { code, rid } });
    return -1;
  }

  #trace(rid: number, page: number, access: number, source: "iotlb" | "walk", out: number): void {
    if (this.#tracer.listener === undefined) return;
    const what = (access & Access.WRITE) === 0 ? "read" : (access & Access.READ) === 0 ? "write" : "atomic";
    this.#tracer.listener({ kind: "translation", unit: this.name, rid, iova: BigInt(page) << 12n, access: what, source, ...(out === -1 ? {} : { pa: out * 4096 }) });
  }

  *cached(): Generator<CachedTranslation> {
    for (const { tagA, page, outPage, data } of this.#iotlb.entries()) yield { rid: tagA, page, outPage, rights: data };
  }

  read(offset: number, size: number): bigint {
    if (size !== 8) return 0n;
    switch (offset) {
      case Register.ID: return ID;
      case Register.TABLE: return this.#table;
      case Register.FAULT: return this.#fault;
      case Register.ADDRESS: return this.#address;
      default: return 0n;
    }
  }

  write(offset: number, size: number, value: bigint): void {
    if (size !== 8) return;
    if (offset === Register.TABLE) {
      this.#table = value & 0x0000_ffff_ffff_f001n;
      this.#directory = Number(this.#table & ~ENABLE);
      this.#enabled = (value & ENABLE) !== 0n;
    } else if (offset === Register.FLUSH) {
      const removed = (value & EVERYTHING) === 0n ? this.#iotlb.removeWhere(0xffff, Number(value & 0xffffn), 0, 0, 0, Infinity) : this.#iotlb.removeAll();
      this.#tracer.listener?.({ kind: "invalidation", unit: this.name, descriptor: `FLUSH 0x${value.toString(16)}`, removed });
    } else if (offset === Register.FAULT && (value & VALID) !== 0n) this.#fault = 0n;
  }
}
