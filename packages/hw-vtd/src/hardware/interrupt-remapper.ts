/** Interrupt remapping and posting (VT-d 5, 9.10 to 9.12): from an interrupt request to the message that leaves the unit, or to nothing. */
import type { InterruptEvent, PhysicalMemory, Tracer } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { FAULTS, faultIndex } from "../spec/faults.js";
import { IRTE_POSTED, IRTE_REMAPPED } from "../spec/interrupts.js";
import { Irta } from "../spec/registers.js";
import type { FaultRecorder } from "./fault-recorder.js";
import { InterruptCache } from "./interrupt-cache.js";
import { PostedResult, postInterrupt } from "./posted-interrupt.js";

const F = {
  REQUEST: faultIndex("IRR.20"), INDEX: faultIndex("IRR.21"), NOT_PRESENT: faultIndex("IRR.22"), FETCH: faultIndex("IRR.23"),
  RESERVED: faultIndex("IRR.24"), COMPATIBILITY: faultIndex("IRR.25"), SOURCE: faultIndex("IRR.26"), POSTED_ACCESS: faultIndex("IRR.27"),
  POSTED_RESERVED: faultIndex("IRR.28"), ILLEGAL: faultIndex("IRR.29"), MODE: faultIndex("IRR.2A"), REQUIRED: faultIndex("IRR.2B"),
} as const;

/** 0xFEExxxxx */
const RANGE = 0xfee00000n >> 20n;
/** Bits of an interrupt request's address (5.1.2.2). */
const REMAPPABLE = 0x10;
const SUBHANDLE_VALID = 8;
const HANDLE_15 = 4;
/** Bits of an entry's first word. */
const P = 1n;
const FPD = 2n;
const IM = 1n << 15n;
const URG = 1n << 14n;
/** DST bits that xAPIC mode does not have: 63:48 and 39:32. */
const WIDE_DESTINATION = 0xffff_00ff_0000_0000n;
/** Delivery modes without a meaning. */
const RESERVED_MODES: ReadonlySet<bigint> = new Set([3n, 6n]);
/** SID bits that SQ leaves out (9.10): bit 2 first. */
const QUALIFIERS = [0, 4, 6, 7] as const;
/** Level-assert in the data of what leaves the unit. */
const ASSERT = 0x4000;

export interface RemapperOptions {
  readonly name: string;
  readonly tracer: Tracer | undefined;
  /** Entries of the interrupt entry cache, a power of two or 0. */
  readonly entries: number;
  /** Reserved bits of an entry are looked at before its source-id check; the manual's wording has the source first (5.1.4). */
  readonly reservedFirst: boolean;
}

export class InterruptRemapper {
  /** GSTS.IRES, GSTS.CFIS */
  enabled = false;
  compatibility = false;
  readonly cache: InterruptCache;
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #faults: FaultRecorder;
  readonly #send: (address: bigint, data: number) => boolean;
  readonly #options: RemapperOptions;
  /** Latched IRTA. */
  #table = 0;
  #entries = 2;
  #extended = false;
  /** The request at hand. */
  #rid = 0;
  #address = 0n;
  #data = 0;
  readonly #entry = new BigUint64Array(2);

  constructor(memory: PhysicalMemory, caps: Capabilities, faults: FaultRecorder, send: (address: bigint, data: number) => boolean, options: RemapperOptions) {
    this.#memory = memory;
    this.#caps = caps;
    this.#faults = faults;
    this.#send = send;
    this.#options = options;
    this.cache = new InterruptCache(options.entries);
  }

  /** SIRTP: IRTA takes effect now. */
  latchTable(value: bigint): void {
    this.#table = Number(value >> 12n) * 4096;
    this.#entries = 2 ** (Number(value & 15n) + 1);
    this.#extended = (Number(value & 0xfffn) & Irta.EIME) !== 0;
    if (this.#caps.sirtpFlushes) this.cache.remove(true, 0, 0);
  }

  /** GCMD.IRE changed. */
  enable(enabled: boolean): void {
    this.enabled = enabled;
    if (!enabled && this.#caps.sirtpFlushes) this.cache.remove(true, 0, 0);
  }

  /**
   * A write of `length` bytes without PASID into 0xFEExxxxx.
   * @param reporting some remapping is on: faults are recorded
   * @returns false when it was blocked, or nobody waits for the message
   */
  request(rid: number, address: bigint, data: number, length: number, reporting: boolean): boolean {
    if (address >> 20n !== RANGE) return false;
    this.#rid = rid;
    this.#address = address;
    this.#data = data;
    const low = Number(address & 0xf_ffffn);
    if (length !== 4 || (low & 3) !== 0) {
      if (reporting) this.#block(F.ILLEGAL);
      else this.#trace("blocked");
      return false;
    }
    if (!this.enabled) return this.#caps.remappingRequired ? this.#block(F.REQUIRED) : this.#pass(address, data);
    if (this.#caps.extendedModeRequired && !this.#extended) return this.#block(F.MODE);
    if ((low & REMAPPABLE) === 0) return this.compatibility && !this.#extended ? this.#pass(address, data) : this.#block(F.COMPATIBILITY);
    const subhandle = (low & SUBHANDLE_VALID) !== 0;
    if (subhandle && data >>> 16 !== 0) return this.#block(F.REQUEST);
    const handle = ((low >> 5) & 0x7fff) | ((low & HANDLE_15) << 13);
    return this.#remap(handle + (subhandle ? data & 0xffff : 0));
  }

  /** Before what follows from it. */
  #trace(result: InterruptEvent["result"]): void {
    const { listener } = this.#options.tracer ?? {};
    listener?.({ kind: "interrupt", unit: this.#options.name, rid: this.#rid, address: this.#address, data: this.#data >>> 0, result });
  }

  #pass(address: bigint, data: number): boolean {
    this.#trace("passed");
    return this.#send(address, data);
  }

  #block(condition: number, index?: number): false {
    this.#trace("blocked");
    this.#faults.recordInterrupt(FAULTS[condition], this.#rid, index);
    return false;
  }

  #remap(index: number): boolean {
    if (index >= this.#entries) return this.#block(F.INDEX, index);
    const cached = this.cache.lookup(index, this.#entry);
    const unread = cached ? undefined : this.#fetch(index);
    if (unread !== undefined) return this.#block(unread, index);
    const condition = this.#check(cached);
    if (condition !== undefined) return this.#qualified(condition, index);
    if (!cached) this.cache.insert(index, this.#entry);
    return (this.#entry[0] & IM) === 0n ? this.#sendRemapped(this.#entry[0]) : this.#post(index);
  }

  /** Reads an entry of the table; returns the condition that forbids it. */
  #fetch(index: number): number | undefined {
    const at = this.#table + index * 16;
    if (at >= 2 ** this.#caps.haw) return F.INDEX;
    const [low, high] = [this.#memory.readU64(at), this.#memory.readU64(at + 8)];
    if (low === undefined || high === undefined) return F.FETCH;
    this.#entry[0] = low;
    this.#entry[1] = high;
    return undefined;
  }

  #check(cached: boolean): number | undefined {
    const [low, high] = this.#entry;
    if ((low & P) === 0n) return F.NOT_PRESENT;
    const reserved = !cached && this.#isReserved(low, high);
    if (reserved && this.#options.reservedFirst) return F.RESERVED;
    if (!this.#allows(high, this.#rid)) return F.SOURCE;
    return reserved ? F.RESERVED : undefined;
  }

  /** FPD counts in entries that are not present, too (5.1.4.1). */
  #qualified(condition: number, index: number): false {
    if ((this.#entry[0] & FPD) === 0n) return this.#block(condition, index);
    this.#trace("blocked");
    return false;
  }

  /** SVT (9.10): no check, the requester's id as SQ says, or its bus in a range. The reserved value allows nothing. */
  #allows(high: bigint, rid: number): boolean {
    const source = Number(high & 0xffffn);
    const qualifier = QUALIFIERS[Number((high >> 16n) & 3n)];
    const type = Number((high >> 18n) & 3n);
    if (type === 0) return true;
    if (type === 1) return (rid & ~qualifier) === (source & ~qualifier);
    return type === 2 && rid >> 8 >= source >> 8 && rid >> 8 <= (source & 0xff);
  }

  #isReserved(low: bigint, high: bigint): boolean {
    const posted = (low & IM) !== 0n;
    if (posted && !this.#caps.postedInterrupts) return true;
    const [lowMask, highMask] = (posted ? IRTE_POSTED : IRTE_REMAPPED).reserved;
    if ((low & lowMask) !== 0n || (high & highMask) !== 0n || ((high >> 18n) & 3n) === 3n) return true;
    if (posted) return descriptorAddress(low, high) >> BigInt(this.#caps.haw) !== 0n;
    return RESERVED_MODES.has((low >> 5n) & 7n) || (!this.#extended && (low & WIDE_DESTINATION) !== 0n);
  }

  #sendRemapped(low: bigint): boolean {
    this.#trace("remapped");
    const bit = (at: bigint): number => Number((low >> at) & 1n);
    const hints = (bit(3n) << 3) | (bit(2n) << 2);
    const data = Number((low >> 16n) & 0xffn) | (Number((low >> 5n) & 7n) << 8) | ASSERT | (bit(4n) << 15);
    return this.#send(this.#destination(low >> 32n) | BigInt(hints), data);
  }

  /** Address of a message for DST or NDST: 8 bits in xAPIC mode, 32 in x2APIC mode (5.1.2). */
  #destination(field: bigint): bigint {
    if (!this.#extended) return 0xfee0_0000n | (((field >> 8n) & 0xffn) << 12n);
    return 0xfee0_0000n | ((field & 0xffn) << 12n) | ((field & 0xffff_ff00n) << 32n);
  }

  #post(index: number): boolean {
    const [low, high] = this.#entry;
    const vector = Number((low >> 16n) & 0xffn);
    const posted = postInterrupt(this.#memory, Number(descriptorAddress(low, high)), vector, (low & URG) !== 0n, this.#extended);
    if (posted.result === PostedResult.UNREACHABLE) return this.#qualified(F.POSTED_ACCESS, index);
    if (posted.result === PostedResult.RESERVED) return this.#qualified(F.POSTED_RESERVED, index);
    this.#trace("posted");
    if (posted.result === PostedResult.NOTIFY) this.#send(this.#destination(posted.destination), posted.vector | ASSERT);
    return true;
  }
}

/** PDAH and PDAL (9.11). */
function descriptorAddress(low: bigint, high: bigint): bigint {
  return ((high >> 32n) << 32n) | ((low >> 32n) & 0xffff_ffc0n);
}
