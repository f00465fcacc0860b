/** Queued invalidation (VT-d 6.5.2): fetch, check, execute; errors stop the queue at the bad descriptor. */
import { decodeFields, type FieldTable, NO_PASID, type PhysicalMemory, type RegisterBank, type Tracer } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { DescriptorType, QueueError } from "../spec/descriptors.js";
import { TranslationTableMode } from "../spec/entries.js";
import type { UnitOrder } from "../spec/orders.js";
import { Fsts, Gcmd, Iqa, Reg } from "../spec/registers.js";
import type { Caches } from "./caches.js";
import { type DescriptorLayout, descriptorLayouts } from "./descriptor-layout.js";
import { type DeviceTlbs, invalidationRange } from "./device-tlbs.js";
import type { EventMessage } from "./event-message.js";
import type { FaultRecorder } from "./fault-recorder.js";

/** What the queue works on. */
export interface QueueParts {
  readonly bank: RegisterBank;
  readonly memory: PhysicalMemory;
  readonly caps: Capabilities;
  readonly caches: Caches;
  readonly faults: FaultRecorder;
  readonly deviceTlbs: DeviceTlbs;
  /** Sends the message of a completed wait descriptor. */
  readonly completion: EventMessage;
  /** Latched translation table mode. */
  mode(): number;
  invalidateInterrupts(global: boolean, index: number, mask: number): number;
  /** Tells whoever stands behind the unit. */
  tell(order: UnitOrder): void;
  readonly name: string;
  readonly tracer: Tracer | undefined;
}

/** Fields of the descriptor at hand, by the manual's names. */
type Fields = (name: string) => number;

/** How executing a descriptor ended, beside the errors of `QueueError`. */
const STALLED = -1;
const BAD_FIELD = -2;
/** Outstanding invalidations of a device when MIP is 0. */
const MAX_INVALIDATIONS = 32;
/** Wait descriptors that may be unfinished at a time; the queue does not go on until there is room. */
const MAX_WAITS = 256;

/** A wait descriptor whose device-TLB invalidations are not completed. */
interface Wait {
  /** Byte address of its status word, and what goes there; undefined: nothing. */
  readonly status: number | undefined;
  readonly data: number;
  readonly interrupts: boolean;
  readonly fence: boolean;
  /** Tags that it waits for. */
  tags: number;
}

export class InvalidationQueue {
  readonly #parts: QueueParts;
  readonly #bank: RegisterBank;
  readonly #layouts: ReadonlyMap<number, DescriptorLayout>;
  /** The descriptor at hand. */
  readonly #words = new Int32Array(8);
  #running = false;
  #waits: Wait[] = [];

  constructor(parts: QueueParts) {
    this.#parts = parts;
    this.#bank = parts.bank;
    this.#layouts = descriptorLayouts(parts.caps);
  }

  /**
   * Executes what lies between head and tail, one lap at the most: a wait descriptor whose status write lands in the tail
   * register could go on for ever. That same write may not start the queue inside itself.
   */
  run(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      this.#lap();
      this.#parts.tell({ kind: "idle" });
    } finally {
      this.#running = false;
    }
  }

  /** GCMD.QIE changed. Off: the head goes back to 0, and what is unfinished stays so. */
  enable(enabled: boolean): void {
    if (enabled) return this.run();
    this.#bank.set(Reg.IQH, 0n);
    this.#waits = [];
    this.#parts.deviceTlbs.giveUp(true);
  }

  /** A device completed invalidations. */
  complete(rid: number, tags: number, count: number): void {
    if (!this.#parts.deviceTlbs.complete(rid, tags, count)) this.#raise(Fsts.ICE, 48, rid);
    this.#finishWaits();
    this.run();
  }

  /** Device-TLB invalidations that have waited too long, or every one, have timed out (6.5.2.10): all waits are aborted. */
  timeOut(every: boolean): void {
    if (this.#parts.deviceTlbs.pending === 0) return;
    this.#waits = [];
    this.#raise(Fsts.ITE, 32, this.#parts.deviceTlbs.giveUp(every));
  }

  /** Sets an error of FSTS; IQERCD tells of the first one only. */
  #raise(bit: number, shift: number, value: number): void {
    const before = Number(this.#bank.get(Reg.FSTS));
    if ((before & bit) === 0) {
      const field = (bit === Fsts.IQE ? 15n : 0xffffn) << BigInt(shift);
      this.#bank.set(Reg.IQERCD, (this.#bank.get(Reg.IQERCD) & ~field) | (BigInt(value) << BigInt(shift)));
    }
    this.#bank.set(Reg.FSTS, BigInt(before | bit));
    this.#parts.faults.event(before);
  }

  #lap(): void {
    const address = this.#bank.get(Reg.IQA);
    const wide = (Number(address & 0xfffn) & Iqa.DW) !== 0;
    const bytes = 2 ** (12 + Number(address & 7n));
    const base = Number(address >> 12n) * 4096;
    const step = wide ? 32 : 16;
    for (let left = bytes / step; left > 0 && this.#mayFetch(); left--) {
      const head = Number(this.#bank.get(Reg.IQH));
      const tail = Number(this.#bank.get(Reg.IQT));
      if (head === tail) return;
      const error = this.#setupError(wide, tail, bytes) || this.#execute(base + head, wide);
      if (error === STALLED) return;
      if (error !== QueueError.NONE) return this.#raise(Fsts.IQE, 0, error);
      this.#bank.set(Reg.IQH, BigInt((head + step) % bytes));
    }
  }

  #mayFetch(): boolean {
    const stopped = (Number(this.#bank.get(Reg.FSTS)) & (Fsts.IQE | Fsts.ITE)) !== 0;
    const fenced = this.#waits.length >= MAX_WAITS || this.#waits.some((wait) => wait.fence);
    return (Number(this.#bank.get(Reg.GSTS)) & Gcmd.QIE) !== 0 && !stopped && !fenced;
  }

  /** Tail range and alignment, then mode, then width. */
  #setupError(wide: boolean, tail: number, bytes: number): number {
    const { caps } = this.#parts;
    if (tail >= bytes) return QueueError.INVALID_TAIL;
    if (wide && (tail & 16) !== 0) return QueueError.TAIL_ALIGNMENT;
    const mode = this.#parts.mode();
    if (mode === TranslationTableMode.RESERVED) return QueueError.RESERVED_MODE;
    if (!wide && mode !== TranslationTableMode.LEGACY) return QueueError.INVALID_WIDTH;
    if (wide && !caps.scalableMode && !caps.abortMode) return QueueError.INVALID_WIDTH;
    return QueueError.NONE;
  }

  #execute(pa: number, wide: boolean): number {
    if (!this.#fetch(pa, wide ? 4 : 2)) return QueueError.FETCH;
    const words = this.#words;
    const type = ((words[0] >> 5) & 0x70) | (words[0] & 15);
    const layout = this.#layouts.get(type);
    if (layout === undefined || !this.#typeAllowed(type)) return QueueError.INVALID_TYPE;
    if (layout.hasReserved(words)) return QueueError.RESERVED_FIELD;
    const removed = this.#invalidate(type, layout);
    if (removed === STALLED) return STALLED;
    if (removed === BAD_FIELD) return QueueError.RESERVED_FIELD;
    if (this.#parts.tracer?.listener) this.#trace(layout.table, removed);
    return QueueError.NONE;
  }

  /** Reads `count` words of 64 bits. */
  #fetch(pa: number, count: number): boolean {
    const { memory } = this.#parts;
    this.#words.fill(0);
    for (let i = 0; i < count; i++) {
      if (!memory.load64(pa + 8 * i)) return false;
      this.#words[2 * i] = memory.lo;
      this.#words[2 * i + 1] = memory.hi;
    }
    return true;
  }

  /** Types by mode and capability (6.5.2, table 23): those of 256 bits are not for legacy mode. */
  #typeAllowed(type: number): boolean {
    const { caps } = this.#parts;
    const scalable = this.#parts.mode() !== TranslationTableMode.LEGACY;
    switch (type) {
      case DescriptorType.IEC:
        return caps.interruptRemapping;
      case DescriptorType.DEV_TLB:
        return caps.deviceTlb;
      case DescriptorType.P_IOTLB:
      case DescriptorType.PC:
        return scalable;
      case DescriptorType.P_DEV_TLB:
        return scalable && caps.deviceTlb;
      case DescriptorType.PGR:
        return scalable && caps.pageRequests;
      case DescriptorType.HPT:
        return scalable && caps.hostPermission;
      default:
        return true;
    }
  }

  /** Returns how many cache entries went, or why the descriptor was not executed. */
  #invalidate(type: number, layout: DescriptorLayout): number {
    const { caps } = this.#parts;
    const f = (name: string): number => layout.value(this.#words, name);
    const granularity = f("G");
    // Descriptors ignore DID bits above the unit's width (8.4), table entries do not.
    const domain = f("DID") & (2 ** caps.domainIdBits - 1);
    switch (type) {
      case DescriptorType.CC:
        return granularity === 0 ? BAD_FIELD : this.#contexts(granularity, domain, f("SID"), f("FM"));
      case DescriptorType.PC:
        return granularity === 2 ? BAD_FIELD : this.#pasids(granularity, domain, f("PASID"));
      case DescriptorType.IOTLB:
        if (granularity === 0 || (granularity === 3 && (!caps.pageSelective || f("AM") > caps.maxAddressMask))) return BAD_FIELD;
        return this.#translations(granularity, domain, undefined, f);
      case DescriptorType.P_IOTLB:
        return granularity < 2 ? BAD_FIELD : this.#translations(granularity, domain, f("PASID"), f);
      case DescriptorType.IEC:
        return this.#parts.invalidateInterrupts(granularity === 0, f("IIDX"), f("IM"));
      case DescriptorType.DEV_TLB:
        return this.#deviceTlb(f, NO_PASID);
      case DescriptorType.P_DEV_TLB:
        return this.#deviceTlb(f, f("PASID"));
      case DescriptorType.PGR:
        return this.#respond(f);
      case DescriptorType.HPT:
        return granularity === 0 ? BAD_FIELD : 0; // host permissions are not cached
      default:
        return this.#wait(f);
    }
  }

  #contexts(granularity: number, domain: number, source: number, functionMask: number): number {
    const removed = this.#parts.caches.context(granularity, domain, source, functionMask);
    this.#parts.tell({ kind: "contexts", granularity, domain, source, functionMask });
    return removed;
  }

  #pasids(granularity: number, domain: number, pasid: number): number {
    const removed = this.#parts.caches.pasid(granularity, domain, pasid);
    this.#parts.tell({ kind: "pasids", granularity, domain, pasid });
    return removed;
  }

  #translations(granularity: number, domain: number, pasid: number | undefined, f: Fields): number {
    const { caches } = this.#parts;
    const [page, addressMask, leavesOnly] = [f("ADDR"), f("AM"), f("IH") === 1];
    const removed = pasid === undefined ? caches.iotlbDomain(granularity, domain, page, addressMask, leavesOnly) : caches.iotlbPasid(granularity, domain, pasid, page, addressMask, leavesOnly);
    this.#parts.tell({ kind: "translations", granularity, domain, page, addressMask, leavesOnly, ...(pasid === undefined ? {} : { pasid }) });
    return removed;
  }

  #deviceTlb(f: Fields, pasid: number): number {
    const range = invalidationRange(f("ADDR"), f("S") === 1);
    const throttle = this.#parts.caps.deviceTlbThrottle ? f("PFSID_HIGH") * 16 + f("PFSID_LOW") : f("SID");
    const sent = this.#parts.deviceTlbs.invalidate(f("SID"), throttle, f("MIP") || MAX_INVALIDATIONS, { pasid, allPasids: f("GI") === 1, ...range });
    return sent ? 0 : STALLED;
  }

  /** Page group response (7.7.1). */
  #respond(f: Fields): number {
    const code = f("RC");
    if (code > 1 && code !== 15) return BAD_FIELD;
    this.#parts.deviceTlbs.endpoint(f("RID"))?.respond({ pasid: f("PP") === 1 ? f("PASID") : NO_PASID, group: f("PRGI"), code });
    return 0;
  }

  /**
   * Everything before has completed but device-TLB invalidations. Accepted page requests are in their queue (PD), for
   * they get there at once.
   */
  #wait(f: Fields): number {
    // Status address bits from the host address width on are ignored (6.5.2.8).
    const high = this.#words[3] & (2 ** (this.#parts.caps.haw - 32) - 1);
    this.#parts.tell({ kind: "barrier" });
    const status = f("SW") === 1 ? high * 2 ** 32 + ((this.#words[2] & ~3) >>> 0) : undefined;
    this.#waits.push({ status, data: f("DATA"), interrupts: f("IF") === 1, fence: f("FN") === 1, tags: this.#parts.deviceTlbs.pending });
    this.#finishWaits();
    return 0;
  }

  /** Completes, in order, the waits that nothing holds up. */
  #finishWaits(): void {
    for (const wait of this.#waits) wait.tags &= this.#parts.deviceTlbs.pending;
    while (this.#waits[0]?.tags === 0) {
      const [{ status, data, interrupts }] = this.#waits.splice(0, 1);
      if (status !== undefined) this.#parts.memory.store32(status, data | 0);
      if (interrupts) this.#completionEvent();
    }
  }

  #completionEvent(): void {
    if ((this.#bank.get(Reg.ICS) & 1n) !== 0n) return;
    this.#bank.set(Reg.ICS, 1n);
    this.#parts.completion.raise();
  }

  #trace(table: FieldTable, removed: number): void {
    const words = [...new BigUint64Array(this.#words.slice().buffer)];
    const shown = decodeFields(table, words)
      .filter((field) => !field.name.startsWith("type") && field.value !== 0n)
      .map((field) => `${field.name}=${field.meaning ?? `0x${field.value.toString(16)}`}`);
    this.#parts.tracer?.listener?.({
      kind: "invalidation",
      unit: this.#parts.name,
      descriptor: `${table.structure}: ${shown.join(" ")}`,
      removed,
    });
  }
}
