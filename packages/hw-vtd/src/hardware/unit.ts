/**
 * One VT-d remapping unit: registers (VT-d 11.4), what writing them does, and
 * the parts behind them. It sees memory, register accesses and requests only.
 */
import { Access, type AtsHardware, type CachedTranslation, type IommuHardware, isRegisterAccess, type MmioHandler, NO_PASID, type PhysicalMemory, RegisterBank, Tracer } from "@iommukit/core";
import { type Capabilities, readCapabilities } from "../spec/capabilities.js";
import { TranslationTableMode } from "../spec/entries.js";
import { faultIndex } from "../spec/faults.js";
import type { TranslationView, UnitObserver, UnitOrder } from "../spec/orders.js";
import { Fsts, Reg, type Register } from "../spec/registers.js";
import { ANY_RIGHTS, PRIVILEGED_SHIFT } from "./cached-rights.js";
import { type CacheGeometry, Caches } from "./caches.js";
import { DeviceTlbs } from "./device-tlbs.js";
import { EventMessage } from "./event-message.js";
import { FaultRecorder } from "./fault-recorder.js";
import { globalCommand } from "./global-command.js";
import { isInterruptPage } from "./interrupt-range.js";
import { InterruptRemapper } from "./interrupt-remapper.js";
import { InvalidationQueue } from "./invalidation-queue.js";
import { Locator } from "./locator.js";
import { PageRequests } from "./page-requests.js";
import { DEFAULT_POLICIES, type VtdPolicies } from "./policies.js";
import { ProtectedMemory } from "./protected-memory.js";
import { registersOf } from "./registers.js";
import { RequestKind } from "./request.js";
import { Resolver } from "./resolver.js";
import { RegisterInvalidation, TRIGGER } from "./register-invalidation.js";
import { TableView } from "./table-view.js";
import { TranslationRequests } from "./translation-requests.js";
import { TranslationTrace } from "./translation-trace.js";
import { Translator } from "./translator.js";

export interface VtdUnitOptions {
  readonly name?: string;
  readonly version: number;
  readonly cap: bigint;
  readonly ecap: bigint;
  /** Host address width in bits. */
  readonly haw: number;
  readonly caches?: CacheGeometry;
  /** What the manual leaves open in translation; what is not given is as in `DEFAULT_POLICIES`. */
  readonly policies?: Partial<VtdPolicies>;
  /** Entries of the interrupt entry cache, a power of two or 0. */
  readonly interruptEntries?: number;
  /** A source with a fault record that stands gets no second one (7.2.1). */
  readonly compressFaults?: boolean;
  /** Reserved bits of an interrupt remapping table entry come before its source-id check. */
  readonly reservedBeforeSource?: boolean;
  /** Register reads after which a device-TLB invalidation has timed out. */
  readonly deviceTlbTimeout?: number;
  readonly tracer?: Tracer;
  /** Takes the messages that leave the unit: its own events', and devices' once they are remapped. False when nobody waits for one. */
  readonly onMessage?: (address: bigint, data: number) => boolean;
  /** Carries out what software orders, where the unit stands for another one: see `spec/orders.ts`. */
  readonly observer?: UnitObserver;
}

export const DEFAULT_INTERRUPT_ENTRIES = 256;
export const DEFAULT_DEVICE_TLB_TIMEOUT = 512;

/** Bytes of the register set: IRO and FRO can point 16 KiB away. */
export const REGISTER_BYTES = 0x8000;

const NO_INTERRUPT = faultIndex("IRR.29");
/** "Not supported" is the nearest that the manual has to "refused by who carries it out" (PGTT, TT). */
const REFUSED_PASID = faultIndex("SPT.4.2");
const REFUSED_CONTEXT = faultIndex("LCT.4.2");

/** TTM and SSIRWE of RTADDR (11.4.5). */
const MODE_BITS = 0xc80n;

export class VtdUnit implements IommuHardware, MmioHandler {
  readonly name: string;
  readonly capabilities: Capabilities;
  readonly bank: RegisterBank<Register>;
  readonly caches: Caches;
  /** Present when ECAP.DT is set. */
  readonly ats?: AtsHardware;
  // `private`, not `#`, where every request passes: see `Iotlb`.
  private readonly translator: Translator;
  readonly #locator: Locator;
  private readonly protectedMemory: ProtectedMemory;
  readonly #faults: FaultRecorder;
  readonly #deviceTlbs: DeviceTlbs;
  readonly #queue: InvalidationQueue;
  readonly #completion: EventMessage;
  readonly #pageRequests: PageRequests;
  readonly #pageEvent: EventMessage;
  readonly #registerInvalidation: RegisterInvalidation;
  readonly #interrupts: InterruptRemapper;
  readonly #tables: TableView;
  /** May be set once the unit is there: whoever observes it looks into it, too. */
  observer: UnitObserver | undefined;
  /** What passes the translator is looked at once more. */
  #guarded = false;
  /** Latched RTADDR. */
  #rootTable = 0n;
  readonly #effects: ReadonlyMap<number, (written: bigint, top: boolean) => void>;

  constructor(memory: PhysicalMemory, options: VtdUnitOptions) {
    this.name = options.name ?? "vtd";
    const { tracer } = options;
    this.observer = options.observer;
    const tell = (order: UnitOrder): void => this.observer?.(order);
    const caps = readCapabilities(options.version, options.cap, options.ecap, options.haw);
    this.capabilities = caps;
    this.bank = new RegisterBank(registersOf(caps));
    this.bank.set(Reg.VER, BigInt(options.version));
    this.bank.set(Reg.CAP, options.cap);
    this.bank.set(Reg.ECAP, options.ecap);
    const policies = { ...DEFAULT_POLICIES, ...options.policies };
    this.caches = new Caches(options.caches ?? {}, policies);
    const send = (address: bigint, data: number): boolean => options.onMessage?.(address, data) ?? false;
    this.#faults = new FaultRecorder(this.name, this.bank, caps, new EventMessage(this.bank, Reg.FECTL, send), options.compressFaults ?? false, tracer);
    this.#tables = new TableView(memory, caps, policies);
    const { caches } = this;
    const locator = new Locator(memory, caps, policies, caches, this.#faults);
    const resolver = new Resolver(memory, caps, policies, caches, locator);
    const trace = new TranslationTrace(this.name, tracer);
    this.#locator = locator;
    this.translator = new Translator({ caps, caches, locator, resolver, trace, tracer });
    this.#interrupts = new InterruptRemapper(memory, caps, this.#faults, send, {
      name: this.name,
      tracer,
      entries: options.interruptEntries ?? DEFAULT_INTERRUPT_ENTRIES,
      reservedFirst: options.reservedBeforeSource ?? false,
    });
    this.#deviceTlbs = new DeviceTlbs(options.deviceTlbTimeout ?? DEFAULT_DEVICE_TLB_TIMEOUT);
    this.#completion = new EventMessage(this.bank, Reg.IECTL, send);
    this.#queue = new InvalidationQueue({
      name: this.name, bank: this.bank, memory, caps, caches, faults: this.#faults, deviceTlbs: this.#deviceTlbs, completion: this.#completion, tracer, tell,
      mode: () => this.mode,
      invalidateInterrupts: (global, index, mask) => this.#interrupts.cache.remove(global, index, mask),
    });
    this.#pageEvent = new EventMessage(this.bank, Reg.PECTL, send);
    this.#pageRequests = new PageRequests({
      name: this.name, tracer, bank: this.bank, memory, caps, caches, locator, deviceTlbs: this.#deviceTlbs, event: this.#pageEvent,
    });
    this.#registerInvalidation = new RegisterInvalidation(this.bank, caps, caches, tell);
    this.protectedMemory = new ProtectedMemory(caps, this.bank);
    this.#effects = this.#writeEffects();
    if (caps.deviceTlb) this.ats = this.#atsHardware(new TranslationRequests({ memory, caps, caches, locator, resolver, trace }));
  }

  #atsHardware(requests: TranslationRequests): AtsHardware {
    return {
      requestTranslation: (rid, pasid, page, access, out) => requests.request(rid, pasid, page, access, out),
      translated: (rid, pasid, page, access) => {
        const out = requests.translated(rid, pasid, page, access);
        return this.protectedMemory.enabled && this.protectedMemory.blocks(out, true) ? -1 : out;
      },
      requestPage: (request) => this.#pageRequests.request(request),
      // With translation off, a completion is an Unsupported Request (4.2.1).
      completeInvalidation: (rid, tags, count) => {
        if (this.translator.enabled) this.#queue.complete(rid, tags, count);
      },
      connectEndpoint: (rid, endpoint) => this.#deviceTlbs.connect(rid, endpoint),
    };
  }

  /** Latched translation table mode. */
  get mode(): number {
    return this.#locator.mode;
  }

  translate(rid: number, pasid: number, page: number, access: number): number {
    const out = this.translator.translate(rid, pasid, page, access);
    return this.#guarded ? this.#guard(out, rid, pasid, page, access) : out;
  }

  #guard(out: number, rid: number, pasid: number, page: number, access: number): number {
    const translated = this.translator.enabled;
    if (this.protectedMemory.enabled && this.protectedMemory.blocks(out, translated)) return -1;
    // With translation off, the translator does not look at the range of interrupts (3.14).
    const reads = (access & (Access.READ | Access.ZERO_LENGTH)) === Access.READ;
    if (translated || !this.#interrupts.enabled || !reads || !isInterruptPage(page)) return out;
    this.#locator.report(NO_INTERRUPT, RequestKind.UNTRANSLATED, rid, pasid, page, access);
    return -1;
  }

  #updateGuard(): void {
    this.#guarded = this.protectedMemory.enabled || (this.#interrupts.enabled && !this.translator.enabled);
  }

  interrupt(rid: number, address: bigint, data: number, length = 4): boolean {
    return this.#interrupts.request(rid, address, data, length, this.translator.enabled || this.#interrupts.enabled);
  }

  /** Who translates for (rid, pasid) as memory has it now, past every cache: what a request would meet that finds none of it cached. */
  look(rid: number, pasid: number): TranslationView {
    return this.translator.enabled ? this.#tables.look(this.#rootTable, rid, pasid) : { kind: "untranslated" };
  }

  /** PASIDs of the requester below `limit` whose entries are present, as memory has it now. */
  pasids(rid: number, limit: number): Iterable<number> {
    return this.translator.enabled ? this.#tables.pasids(this.#rootTable, rid, limit) : [];
  }

  /** Records that (rid, pasid) is refused what its PASID entry, or context entry, asks for: by whom the unit stands for. */
  recordRefusal(rid: number, pasid: number): void {
    const entry = this.mode === TranslationTableMode.LEGACY ? REFUSED_CONTEXT : REFUSED_PASID;
    this.#locator.faultDisable = false;
    this.#locator.report(entry, RequestKind.UNTRANSLATED, rid, pasid, 0, Access.READ);
  }

  /** The outstanding device-TLB invalidations have waited long enough: FSTS.ITE. */
  timeOut(): void {
    this.#queue.timeOut(true);
  }

  *cached(): Generator<CachedTranslation> {
    for (const { tagA: rid, tagB: pasid, page, outPage, data } of this.caches.iotlb.entries()) {
      if ((data & ANY_RIGHTS) === 0) continue;
      const user = data & 3;
      const rights = user === 0 ? { rights: (data >> PRIVILEGED_SHIFT) & 3, privileged: true } : { rights: user };
      yield { rid, page, outPage, ...rights, ...(pasid === NO_PASID ? {} : { pasid }) };
    }
  }

  read(offset: number, size: number): bigint {
    if (this.#deviceTlbs.pending !== 0 && this.#deviceTlbs.tick()) this.#queue.timeOut(false);
    return this.bank.read(offset, size);
  }

  write(offset: number, size: number, value: bigint): void {
    if (!isRegisterAccess(offset, size)) return;
    const low = this.bank.writeDword(offset, value);
    const high = size === 8 ? this.bank.writeDword(offset + 4, value >> 32n) : undefined;
    if (low && high && low.register === high.register) {
      this.#wrote(low.register, low.written | high.written, true);
      return;
    }
    if (low) this.#wrote(low.register, low.written, low.top);
    if (high) this.#wrote(high.register, high.written, high.top);
  }

  #wrote(register: Register, written: bigint, top: boolean): void {
    this.#effects.get(register.offset)?.(written, top);
  }

  /** Side effects of writes by register; `top` when the trigger byte was among the bytes. */
  #writeEffects(): Map<number, (written: bigint, top: boolean) => void> {
    const caps = this.capabilities;
    const triggered = (effect: () => void) => (written: bigint, top: boolean): void => {
      if (top && (written & TRIGGER) !== 0n) effect();
    };
    const effects = new Map<number, (written: bigint, top: boolean) => void>([
      [Reg.GCMD, (written) => this.#command(Number(BigInt.asIntN(32, written)))],
      [Reg.CCMD, triggered(() => this.#registerInvalidation.context(this.mode))],
      [caps.iotlbOffset + 8, triggered(() => this.#registerInvalidation.iotlb(this.mode))],
      [Reg.FSTS, (written) => this.#statusCleared(Number(written))],
      [Reg.FECTL, () => this.#faults.deliver()],
      [Reg.ICS, () => this.#completionCleared()],
      [Reg.IECTL, () => this.#completion.deliver()],
      [Reg.IQT, () => this.#queue.run()],
      [Reg.PRS, () => this.#pageRequests.statusCleared()],
      [Reg.PECTL, () => this.#pageEvent.deliver()],
      [Reg.PMEN, () => {
        this.protectedMemory.update();
        this.#updateGuard();
      }],
    ]);
    for (let i = 0; i < caps.faultRecords; i++) effects.set(caps.faultRecordOffset + i * 16 + 8, () => this.#faults.recompute());
    return effects;
  }

  #statusCleared(written: number): void {
    this.#faults.dropPending();
    if ((written & (Fsts.IQE | Fsts.ITE)) !== 0) this.#queue.run();
  }

  #completionCleared(): void {
    if ((this.bank.get(Reg.ICS) & 1n) === 0n) this.#completion.drop();
  }

  #command(value: number): void {
    globalCommand(this.bank, this.capabilities, value, {
      latchRootTable: () => this.#latchRootTable(),
      latchInterruptTable: () => this.#interrupts.latchTable(this.bank.get(Reg.IRTA)),
      queue: (enabled) => this.#queue.enable(enabled),
      translation: (enabled) => {
        this.translator.enabled = enabled;
        // Turning translation off flushes every DMA cache of a scalable-mode unit (11.4.4.1).
        if (!enabled && this.capabilities.scalableMode) this.caches.removeAll();
        this.observer?.({ kind: "translation", enabled });
      },
      interruptRemapping: (enabled) => this.#interrupts.enable(enabled),
      compatibilityInterrupts: (enabled) => {
        this.#interrupts.compatibility = enabled;
      },
    });
    if (!this.translator.enabled && !this.#interrupts.enabled) this.#faults.restart();
    this.#updateGuard();
    this.#queue.run();
  }

  /** While translation is on, the mode and SSIRWE change on units with ESRTPS only (6.6). */
  #latchRootTable(): void {
    const written = this.bank.get(Reg.RTADDR);
    const frozen = this.translator.enabled && !this.capabilities.srtpFlushes ? MODE_BITS : 0n;
    this.#rootTable = (written & ~frozen) | (this.#rootTable & frozen);
    this.translator.latchRootTable(this.#rootTable);
    if (this.capabilities.srtpFlushes) this.caches.removeAll();
    this.observer?.({ kind: "root-table" });
  }
}
