/**
 * One VT-d remapping unit: registers (VT-d 11.4), what writing them does, and
 * the parts behind them. It sees memory, register accesses and DMA requests only.
 */
import { type CachedTranslation, type IommuHardware, type MmioHandler, NO_PASID, type PhysicalMemory, Tracer } from "@iommukit/core";
import { type Capabilities, readCapabilities } from "../spec/capabilities.js";
import { TranslationTableMode } from "../spec/entries.js";
import { EventControl, Fsts, Gcmd, Reg, type Register, REGISTERS } from "../spec/registers.js";
import { type CacheGeometry, Caches } from "./caches.js";
import { FaultRecorder } from "./fault-recorder.js";
import { InvalidationQueue } from "./invalidation-queue.js";
import { isAccess, RegisterBank } from "./register-bank.js";
import { PRIVILEGED_SHIFT, Translator } from "./translator.js";

export interface VtdUnitOptions {
  readonly name?: string;
  readonly version: number;
  readonly cap: bigint;
  readonly ecap: bigint;
  /** Host address width in bits. */
  readonly haw: number;
  readonly caches?: CacheGeometry;
  readonly tracer?: Tracer;
  /** Receives the messages of the fault and invalidation events. */
  readonly onMessage?: (address: bigint, data: number) => void;
}

export const DEFAULT_CACHES: CacheGeometry = { iotlb: { sets: 64, ways: 8 }, configurations: 256 };

/** Bytes of the register set: IRO and FRO can point 16 KiB away. */
export const REGISTER_BYTES = 0x8000;

/** CCMD, IOTLB: granularity in, actual granularity out. */
const ICC = 1n << 63n;

export class VtdUnit implements IommuHardware, MmioHandler {
  readonly name: string;
  readonly capabilities: Capabilities;
  readonly bank: RegisterBank;
  readonly caches: Caches;
  readonly #translator: Translator;
  readonly #faults: FaultRecorder;
  readonly #queue: InvalidationQueue;
  readonly #onMessage: ((address: bigint, data: number) => void) | undefined;
  readonly #iotlbRegister: number;

  constructor(memory: PhysicalMemory, options: VtdUnitOptions) {
    this.name = options.name ?? "vtd";
    this.capabilities = readCapabilities(options.version, options.cap, options.ecap, options.haw);
    const caps = this.capabilities;
    this.#onMessage = options.onMessage;
    this.#iotlbRegister = caps.iotlbOffset + 8;
    this.bank = new RegisterBank([...REGISTERS.filter((row) => hasRegister(row, caps)), ...placedRegisters(caps)]);
    this.bank.set(Reg.VER, BigInt(options.version));
    this.bank.set(Reg.CAP, options.cap);
    this.bank.set(Reg.ECAP, options.ecap);
    this.caches = new Caches(options.caches ?? DEFAULT_CACHES);
    const largest = 31 - Math.clz32(caps.sagaw & 14);
    const addressBits = caps.sagaw === 0 ? caps.mgaw : 30 + 9 * largest;
    const message = (address: bigint, data: number): void => this.message(address, data);
    const records = { base: caps.faultRecordOffset, count: caps.faultRecords, addressBits };
    this.#faults = new FaultRecorder(this.name, this.bank, records, message, options.tracer);
    this.#translator = new Translator(this.name, memory, caps, this.caches, this.#faults, options.tracer);
    this.#queue = new InvalidationQueue(this.name, this, memory, caps, options.tracer);
  }

  /** Latched translation table mode. */
  get mode(): number {
    return this.#translator.mode;
  }

  translate(rid: number, pasid: number, page: number, access: number): number {
    return this.#translator.translate(rid, pasid, page, access);
  }

  *cached(): Generator<CachedTranslation> {
    for (const { tagA: rid, tagB: pasid, page, outPage, data } of this.caches.iotlb.entries()) {
      const user = data & 3;
      const rights = user === 0 ? { rights: (data >> PRIVILEGED_SHIFT) & 3, privileged: true } : { rights: user };
      yield { rid, page, outPage, ...rights, ...(pasid === NO_PASID ? {} : { pasid }) };
    }
  }

  read(offset: number, size: number): bigint {
    return this.bank.read(offset, size);
  }

  write(offset: number, size: number, value: bigint): void {
    if (!isAccess(offset, size)) return;
    const low = this.bank.writeDword(offset, value);
    const high = size === 8 ? this.bank.writeDword(offset + 4, value >> 32n) : undefined;
    if (low && high && low.register === high.register) {
      this.#wrote(low.register, low.written | high.written, true);
      return;
    }
    if (low) this.#wrote(low.register, low.written, low.top);
    if (high) this.#wrote(high.register, high.written, high.top);
  }

  faultEvent(before: number): void {
    this.#faults.event(before);
  }

  message(address: bigint, data: number): void {
    this.#onMessage?.(address, data);
  }

  /** Side effects of a write; `top` when the trigger byte was among the bytes. */
  #wrote(register: Register, written: bigint, top: boolean): void {
    switch (register.offset) {
      case Reg.GCMD:
        this.#command(Number(BigInt.asIntN(32, written)));
        break;
      case Reg.CCMD:
        if (top && (written & ICC) !== 0n) this.#invalidateContext();
        break;
      case Reg.FSTS:
        this.#faults.dropPending();
        if ((Number(written) & (Fsts.IQE | Fsts.ITE)) !== 0) this.#queue.run();
        break;
      case Reg.FECTL:
        this.#faults.deliver();
        break;
      case Reg.ICS:
        if ((this.bank.get(Reg.ICS) & 1n) === 0n) this.#clearPending(Reg.IECTL);
        break;
      case Reg.IECTL:
        this.#queue.deliver();
        break;
      case Reg.IQT:
        this.#queue.run();
        break;
      case this.#iotlbRegister:
        if (top && (written & ICC) !== 0n) this.#invalidateIotlb();
        break;
      default:
        if (this.#isFaultRecord(register.offset)) this.#faults.recompute();
    }
  }

  #isFaultRecord(offset: number): boolean {
    const { faultRecordOffset, faultRecords } = this.capabilities;
    return offset >= faultRecordOffset && offset < faultRecordOffset + faultRecords * 16;
  }

  #clearPending(control: number): void {
    this.bank.set(control, this.bank.get(control) & ~BigInt(EventControl.IP));
  }

  /** GCMD (11.4.4.1): level bits take effect when they change, one-shots when written as 1. */
  #command(value: number): void {
    const before = Number(BigInt.asIntN(32, this.bank.get(Reg.GSTS)));
    let status = before;
    const change = (bit: number): boolean => ((value ^ before) & bit) !== 0;
    if ((value & Gcmd.SRTP) !== 0) {
      this.#translator.latchRootTable(this.bank.get(Reg.RTADDR));
      if (this.capabilities.srtpFlushes) this.caches.removeAll();
      status |= Gcmd.SRTP;
    }
    if (change(Gcmd.TE)) {
      status ^= Gcmd.TE;
      const enabled = (value & Gcmd.TE) !== 0;
      this.#translator.enabled = enabled;
      // Turning translation off flushes every DMA cache of a scalable-mode unit (11.4.4.1).
      if (!enabled && this.capabilities.scalableMode) this.caches.removeAll();
    }
    if (this.capabilities.queuedInvalidation && change(Gcmd.QIE)) {
      status ^= Gcmd.QIE;
      if ((value & Gcmd.QIE) === 0) this.bank.set(Reg.IQH, 0n);
    }
    if (this.capabilities.interruptRemapping) {
      if ((value & Gcmd.SIRTP) !== 0) status |= Gcmd.SIRTP;
      if (change(Gcmd.IRE)) status ^= Gcmd.IRE;
      if (change(Gcmd.CFI)) status ^= Gcmd.CFI;
    }
    this.bank.set(Reg.GCMD, 0n);
    this.bank.set(Reg.GSTS, BigInt(status >>> 0));
    if ((status & (Gcmd.TE | Gcmd.IRE)) === 0) this.#faults.restart();
    this.#queue.run();
  }

  /** True when register-based invalidation is refused (VT-d 6.5.1): actual granularity 0. */
  #registerInvalidationRefused(): boolean {
    const queued = (Number(this.bank.get(Reg.GSTS)) & Gcmd.QIE) !== 0;
    return this.mode !== TranslationTableMode.LEGACY || this.capabilities.majorVersion >= 6 || queued;
  }

  #invalidateContext(): void {
    const value = this.bank.get(Reg.CCMD);
    const granularity = Number((value >> 61n) & 3n);
    const refused = granularity === 0 || this.#registerInvalidationRefused();
    if (!refused) {
      this.caches.context(granularity, this.#domain(value), Number((value >> 16n) & 0xffffn), Number((value >> 32n) & 3n));
    }
    const kept = value & ~(ICC | (3n << 59n) | 0x3_ffff_0000n); // FM and SID are write-only
    this.bank.set(Reg.CCMD, kept | (refused ? 0n : BigInt(granularity) << 59n));
  }

  #invalidateIotlb(): void {
    const value = this.bank.get(this.#iotlbRegister);
    const address = this.bank.get(this.#iotlbRegister - 8);
    const granularity = Number((value >> 60n) & 3n);
    const mask = Number(address & 63n);
    const badPage = granularity === 3 && (!this.capabilities.pageSelective || mask > this.capabilities.maxAddressMask);
    const refused = granularity === 0 || badPage || this.#registerInvalidationRefused();
    if (!refused) this.caches.iotlbDomain(granularity, this.#domain(value >> 32n), Number(address >> 12n), mask);
    const kept = value & ~(ICC | (3n << 57n));
    this.bank.set(this.#iotlbRegister, kept | (refused ? 0n : BigInt(granularity) << 57n));
  }

  #domain(value: bigint): number {
    return Number(value & 0xffffn) & (2 ** this.capabilities.domainIdBits - 1);
  }
}

function hasRegister(row: Register, caps: Capabilities): boolean {
  if (row.needs === "QI") return caps.queuedInvalidation;
  if (row.needs === "IR") return caps.interruptRemapping;
  return true;
}

/** IVA, IOTLB and the fault records, where ECAP.IRO and CAP.FRO put them. */
function placedRegisters(caps: Capabilities): Register[] {
  const all = 0xffff_ffff_ffff_ffffn;
  const placed: Register[] = [
    { name: "IVA", offset: caps.iotlbOffset, width: 8, writable: all, clear: 0n, reset: 0n, section: "11.4.6.2" },
    { name: "IOTLB", offset: caps.iotlbOffset + 8, width: 8, writable: 0xb003_ffff_0000_0000n, clear: 0n, reset: 0n, section: "11.4.6.3" },
  ];
  for (let i = 0; i < caps.faultRecords; i++) {
    const offset = caps.faultRecordOffset + i * 16;
    placed.push({ name: `FRCD${i}L`, offset, width: 8, writable: 0n, clear: 0n, reset: 0n, section: "11.4.7.6" });
    placed.push({ name: `FRCD${i}H`, offset: offset + 8, width: 8, writable: 0n, clear: 1n << 63n, reset: 0n, section: "11.4.7.6" });
  }
  return placed;
}
