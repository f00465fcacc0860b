/** Queued invalidation (VT-d 6.5.2): fetch, check, execute; errors stop the queue at the bad descriptor. */
import { decodeFields, extractBits, type FieldTable, type PhysicalMemory, type Tracer } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { DESCRIPTORS, DescriptorType, QueueError } from "../spec/descriptors.js";
import { TranslationTableMode } from "../spec/entries.js";
import { EventControl, Fsts, Gcmd, Reg } from "../spec/registers.js";
import type { Caches } from "./caches.js";
import type { RegisterBank } from "./register-bank.js";

/** What the queue needs of its unit. */
export interface QueueHost {
  readonly bank: RegisterBank;
  readonly caches: Caches;
  /** Latched translation table mode. */
  readonly mode: number;
  /** FSTS.IQE was set while FSTS was `before`. */
  faultEvent(before: number): void;
  message(address: bigint, data: number): void;
}

/** Fields of a descriptor as numbers. */
type Fields = Readonly<Record<string, number>>;

export class InvalidationQueue {
  readonly #host: QueueHost;
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #name: string;
  readonly #tracer: Tracer | undefined;
  #running = false;

  constructor(name: string, host: QueueHost, memory: PhysicalMemory, caps: Capabilities, tracer: Tracer | undefined) {
    this.#name = name;
    this.#host = host;
    this.#memory = memory;
    this.#caps = caps;
    this.#tracer = tracer;
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
    } finally {
      this.#running = false;
    }
  }

  #lap(): void {
    const { bank } = this.#host;
    const address = bank.get(Reg.IQA);
    const wide = (address & 0x800n) !== 0n;
    const bytes = 2 ** (12 + Number(address & 7n));
    const base = Number(address >> 12n) * 4096;
    const step = wide ? 32 : 16;
    for (let left = bytes / step; left > 0 && (Number(bank.get(Reg.GSTS)) & Gcmd.QIE) !== 0 && !this.#stopped(); left--) {
      const head = Number(bank.get(Reg.IQH));
      const tail = Number(bank.get(Reg.IQT));
      if (head === tail) return;
      const error = this.#setupError(wide, tail, bytes) || this.#execute(base + head, wide);
      if (error !== QueueError.NONE) {
        this.#fail(error);
        return;
      }
      bank.set(Reg.IQH, BigInt((head + step) % bytes));
    }
  }

  #stopped(): boolean {
    return (Number(this.#host.bank.get(Reg.FSTS)) & (Fsts.IQE | Fsts.ITE)) !== 0;
  }

  #fail(error: number): void {
    const { bank } = this.#host;
    const before = Number(bank.get(Reg.FSTS));
    bank.set(Reg.IQERCD, (bank.get(Reg.IQERCD) & ~15n) | BigInt(error));
    bank.set(Reg.FSTS, BigInt(before | Fsts.IQE));
    this.#host.faultEvent(before);
  }

  /** Tail range and alignment, then mode, then width. */
  #setupError(wide: boolean, tail: number, bytes: number): number {
    if (tail >= bytes) return QueueError.INVALID_TAIL;
    if (wide && (tail & 16) !== 0) return QueueError.TAIL_ALIGNMENT;
    const { mode } = this.#host;
    if (mode === TranslationTableMode.RESERVED) return QueueError.RESERVED_MODE;
    if (!wide && mode !== TranslationTableMode.LEGACY) return QueueError.INVALID_WIDTH;
    if (wide && !this.#caps.scalableMode && !this.#caps.abortMode) return QueueError.INVALID_WIDTH;
    return QueueError.NONE;
  }

  #execute(pa: number, wide: boolean): number {
    const words: bigint[] = [];
    for (let offset = 0; offset < (wide ? 32 : 16); offset += 8) {
      const word = this.#memory.readU64(pa + offset);
      if (word === undefined) return QueueError.FETCH;
      words.push(word);
    }
    const type = Number(((words[0] >> 5n) & 0x70n) | (words[0] & 15n));
    const table = DESCRIPTORS.get(type);
    if (table === undefined || !this.#typeAllowed(type)) return QueueError.INVALID_TYPE;
    if (this.#hasReserved(table, words)) return QueueError.RESERVED_FIELD;
    const fields: Record<string, number> = {};
    for (const field of table.fields) {
      if (field.name !== "") fields[field.name] = Number(extractBits(words, field.low, field.width));
    }
    const removed = this.#invalidate(type, fields);
    if (removed < 0) return QueueError.RESERVED_FIELD;
    if (this.#tracer?.listener) this.#trace(table, words, removed);
    return QueueError.NONE;
  }

  #typeAllowed(type: number): boolean {
    if (type === DescriptorType.IEC) return this.#caps.interruptRemapping;
    if (type === DescriptorType.P_IOTLB || type === DescriptorType.PC) return this.#host.mode !== TranslationTableMode.LEGACY;
    return true;
  }

  #hasReserved(table: FieldTable, words: readonly bigint[]): boolean {
    const masks = table.reserved;
    if (words.some((word, i) => (word & (masks[i] ?? 0xffff_ffff_ffff_ffffn)) !== 0n)) return true;
    return table === DESCRIPTORS.get(DescriptorType.WAIT) && !this.#caps.pageRequestDrain && (words[0] & 0x80n) !== 0n;
  }

  /** Returns how many cache entries went; -1 for a granularity or mask that is not allowed. */
  #invalidate(type: number, f: Fields): number {
    const { caches } = this.#host;
    // Descriptors ignore DID bits above the unit's width (8.4), table entries do not.
    const domain = (f.DID ?? 0) & (2 ** this.#caps.domainIdBits - 1);
    switch (type) {
      case DescriptorType.CC:
        return f.G === 0 ? -1 : caches.context(f.G, domain, f.SID, f.FM);
      case DescriptorType.PC:
        return f.G === 2 ? -1 : caches.pasid(f.G, domain, f.PASID);
      case DescriptorType.IOTLB:
        if (f.G === 0 || (f.G === 3 && (!this.#caps.pageSelective || f.AM > this.#caps.maxAddressMask))) return -1;
        return caches.iotlbDomain(f.G, domain, f.ADDR, f.AM);
      case DescriptorType.P_IOTLB:
        return f.G < 2 ? -1 : caches.iotlbPasid(f.G, domain, f.PASID, f.ADDR, f.AM);
      case DescriptorType.IEC:
        return 0; // interrupt entries are not cached
      default:
        this.#wait(f);
        return 0;
    }
  }

  /** Everything before has completed, since execution is in order: status write, then interrupt. */
  #wait(f: Fields): void {
    if (f.SW === 1) {
      const statusMask = (1n << BigInt(this.#caps.haw)) - 1n;
      this.#memory.store32(Number((BigInt(f.STATUS_ADDR) << 2n) & statusMask), f.DATA | 0);
    }
    if (f.IF === 1) this.#completionEvent();
  }

  #completionEvent(): void {
    const { bank } = this.#host;
    if ((bank.get(Reg.ICS) & 1n) !== 0n) return;
    bank.set(Reg.ICS, 1n);
    bank.set(Reg.IECTL, bank.get(Reg.IECTL) | BigInt(EventControl.IP));
    this.deliver();
  }

  /** Sends the pending completion message if it is not masked. */
  deliver(): void {
    const { bank } = this.#host;
    const control = Number(bank.get(Reg.IECTL));
    if ((control & EventControl.IP) === 0 || (control & EventControl.IM) !== 0) return;
    bank.set(Reg.IECTL, bank.get(Reg.IECTL) & ~BigInt(EventControl.IP));
    this.#host.message(bank.get(Reg.IEADDR) | (bank.get(Reg.IEUADDR) << 32n), Number(bank.get(Reg.IEDATA)));
  }

  #trace(table: FieldTable, words: readonly bigint[], removed: number): void {
    const shown = decodeFields(table, words)
      .filter((field) => !field.name.startsWith("type") && field.value !== 0n)
      .map((field) => `${field.name}=${field.meaning ?? `0x${field.value.toString(16)}`}`);
    this.#tracer?.listener?.({
      kind: "invalidation",
      unit: this.#name,
      descriptor: `${table.structure}: ${shown.join(" ")}`,
      removed,
    });
  }
}
