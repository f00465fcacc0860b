/**
 * One SMMUv3, its Non-secure programming interface: registers (SMMU 6.3), what writing them does, and the parts behind
 * them. It sees memory, register accesses and DMA requests only.
 */
import {
  Access,
  type AtsHardware,
  type CachedTranslation,
  type IommuHardware,
  type IotlbGeometry,
  isRegisterAccess,
  type MmioHandler,
  type PhysicalMemory,
  RegisterBank,
  type StallHardware,
  type Tracer,
} from "@iommukit/core";
import { Event } from "../spec/events.js";
import { type Capabilities, type Identification, readCapabilities, StallModel } from "../spec/identification.js";
import type { StreamView, UnitObserver } from "../spec/orders.js";
import { Cr0, Cr1, Cr2, Gbpa, type Guard, IrqCtrl, Reg, type Register, REGISTERS } from "../spec/registers.js";
import { INCOMING, type MemoryAttributes } from "../spec/attributes.js";
import { AttributeWalk, type TransactionAttributes } from "./attribute-walk.js";
import { AtsUnit } from "./ats.js";
import { CommandQueue } from "./command-queue.js";
import { readStreamTable } from "./configuration-reader.js";
import { Effects } from "./effects.js";
import { EventMerge } from "./event-merge.js";
import { EVENT_QUEUE, EventQueue } from "./event-queue.js";
import { type InterruptOptions, Interrupts } from "./interrupts.js";
import { OutputQueue } from "./output-queue.js";
import { PAGE_REQUEST_QUEUE } from "./page-requests.js";
import { type StallListener, Stalls } from "./stalls.js";
import { StreamLook } from "./stream-look.js";
import { Tlbs } from "./tlbs.js";
import { Translator } from "./translator.js";

export interface CacheGeometry {
  /** Translations of input addresses. */
  readonly input: IotlbGeometry;
  /** Translations of intermediate addresses: stage 2 alone, and for table walks. */
  readonly intermediate: IotlbGeometry;
  /** Walk caches: tables of stage 1, and of stage 2. None unless given. */
  readonly inputTables?: IotlbGeometry;
  readonly intermediateTables?: IotlbGeometry;
  /** Entries of each configuration cache, a power of two or 0. */
  readonly configurations: number;
}

/** What the manual leaves to the implementation. */
export interface UnitChoices {
  /** Reserved bits make a command illegal. */
  readonly strictCommands?: boolean;
  /** Stalls that may be outstanding; IDR5.STALL_MAX unless given. */
  readonly stallLimit?: number;
  /** A page that a stalled transaction waits for is not told again. */
  readonly suppressDuplicateStalls?: boolean;
  /** Devices that the system lets stall; all, unless given. */
  readonly mayStall?: (stream: number) => boolean;
  /**
   * As QEMU 11.1 nests: a stage-2 fault of a stage-1 table walk is recorded with S2=0, where the manual's 7.3 says 1; and start tables are
   * translated by stage 2 once, when the CD is read, so that no TLBI of 4.4 reaches what was found.
   */
  readonly qemuNesting?: boolean;
  /** Event records that say the same are written once, where the STE lets it (MEV). */
  readonly mergeEvents?: boolean;
  /** False for a system that does not carry atomic accesses: they are F_UUT (16.7.1). */
  readonly farAtomics?: boolean;
  /** Entries of two sizes in one place of a TLB are F_TLB_CONFLICT, as a unit without BBML=2 may have it (3.21.1). */
  readonly tlbConflicts?: boolean;
  /** STEs that CONT says are alike, and are not, are F_CFG_CONFLICT once both are cached (5.2, 7.3.18). */
  readonly cfgConflicts?: boolean;
  /** A leaf with the contiguous hint is cached as its whole run, whatever its neighbours say. */
  readonly contiguousEntries?: boolean;
  /** The STE of a neighbour that is cached, and says of itself that it holds for a block of streams (STE.CONT), is used for the others. */
  readonly contiguousStreams?: boolean;
  /** Reads of CR0ACK and IRQ_CTRLACK that still give the old value after a write; 0: at once. */
  readonly updateReads?: number;
}

export interface SmmuUnitOptions extends UnitChoices, Pick<InterruptOptions, "onMessage" | "onWire"> {
  readonly name?: string;
  readonly identification: Identification;
  readonly caches?: CacheGeometry;
  readonly tracer?: Tracer;
  /** Told how each stalled transaction ends. */
  readonly onStallEnd?: StallListener;
  /** Carries out what software orders, where the unit stands for another one. */
  readonly observer?: UnitObserver;
}

export const DEFAULT_CACHES: Required<CacheGeometry> = {
  input: { sets: 64, ways: 8 },
  intermediate: { sets: 64, ways: 8 },
  inputTables: { sets: 16, ways: 4 },
  intermediateTables: { sets: 16, ways: 4 },
  configurations: 256,
};

const ATOMIC = Access.READ | Access.WRITE;

/** CR0 fields of a unit (6.3.9): those of absent features are RES0. */
function cr0Mask(caps: Capabilities): number {
  return Cr0.SMMUEN | Cr0.EVENTQEN | Cr0.CMDQEN | (caps.pri ? Cr0.PRIQEN : 0) | (caps.ats ? Cr0.ATSCHK : 0) | (caps.vmidWildcard ? Cr0.VMW : 0);
}

export class SmmuUnit implements IommuHardware, MmioHandler {
  readonly name: string;
  readonly capabilities: Capabilities;
  readonly bank: RegisterBank<Register>;
  readonly tlbs: Tlbs;
  readonly stalls: Stalls;
  readonly ats?: AtsHardware;
  readonly stalling?: StallHardware;
  private readonly translator: Translator;
  // `private`, not `#`: stored once, it is a constant to V8.
  private readonly refusesAtomics: boolean;
  readonly #interrupts: Interrupts;
  readonly #events: EventQueue;
  readonly #commands: CommandQueue;
  readonly #ats: AtsUnit;
  readonly #memory: PhysicalMemory;
  /** May be set once the unit is there: whoever observes it looks into it, too. */
  observer: UnitObserver | undefined;
  #streams: StreamLook | undefined;
  #attributes: AttributeWalk | undefined;
  readonly #cr0Mask: number;
  readonly #updateReads: number;
  /** Reads until CR0, IRQ_CTRL take effect. */
  readonly #pending = new Map<number, number>();

  constructor(memory: PhysicalMemory, options: SmmuUnitOptions) {
    const { identification: id, tracer } = options;
    this.name = options.name ?? "smmuv3";
    const caps = readCapabilities(id);
    this.capabilities = caps;
    this.#memory = memory;
    this.observer = options.observer;
    this.#cr0Mask = cr0Mask(caps);
    this.#updateReads = options.updateReads ?? 0;
    this.refusesAtomics = options.farAtomics === false;
    const bank = new RegisterBank(REGISTERS.filter((row) => hasRegister(row, caps)));
    this.bank = bank;
    const words = [id.idr0, id.idr1, id.idr2 ?? 0, id.idr3, id.idr4 ?? 0, id.idr5, id.iidr ?? 0, id.aidr];
    words.forEach((word, i) => bank.set32(Reg.IDR0 + i * 4, word));
    const { onMessage, onWire } = options;
    this.#interrupts = new Interrupts(bank, memory, { msi: caps.msi, oas: caps.oas, ...(onMessage ? { onMessage } : {}), ...(onWire ? { onWire } : {}) });
    this.stalls = new Stalls(options.stallLimit ?? caps.stallMax, options.suppressDuplicateStalls ?? false, options.onStallEnd);
    const eventQueue = new OutputQueue(bank, memory, this.#interrupts, { ...EVENT_QUEUE, largest: caps.eventqBits });
    this.#events = new EventQueue(this.name, bank, eventQueue, this.stalls, options.mayStall ?? (() => true), options.qemuNesting ?? false, options.mergeEvents ? new EventMerge() : undefined, tracer);
    const caches = options.caches ?? DEFAULT_CACHES;
    this.tlbs = new Tlbs(caches, options.tlbConflicts === true && caps.breakBeforeMake !== 2, options.contiguousEntries === true);
    this.translator = new Translator(this.name, memory, caps, this.tlbs, this.#events, caches.configurations, tracer);
    this.translator.reader.findsConflicts = options.cfgConflicts ?? false;
    this.translator.reader.fixesStartTables = options.qemuNesting ?? false;
    this.translator.reader.usesNeighbours = options.contiguousStreams === true;
    const requests = new OutputQueue(bank, memory, this.#interrupts, { ...PAGE_REQUEST_QUEUE, largest: caps.priqBits });
    this.#ats = new AtsUnit(bank, caps, this.translator, this.#events, requests, this.refusesAtomics, () => this.#interrupts.raise("priq"), () => this.#commands.run());
    if (caps.ats) this.ats = this.#ats;
    const { stalls, tlbs, translator } = this;
    if (caps.stallModel !== StallModel.NONE) {
      this.stalling = {
        connect: (rid, ended) => stalls.connect(rid, ended),
        get last() {
          return translator.stall;
        },
      };
    }
    const effects = new Effects({ bank, caps, tlbs, translator, events: this.#events, stalls, interrupts: this.#interrupts, ats: this.#ats });
    this.#commands = new CommandQueue(this.name, bank, memory, caps, this.#interrupts, effects, options.strictCommands ?? false, tracer, () => this.observer);
  }

  translate(rid: number, pasid: number, page: number, access: number, offset = 0): number {
    if (this.refusesAtomics && (access & ATOMIC) === ATOMIC) return this.#unsupported(rid, pasid, page, access, offset);
    return this.translator.translate(rid, pasid, page, access, offset);
  }

  /** F_UUT (7.3.2), translation on or off: the record says what came in, not what the STE makes of it. */
  #unsupported(rid: number, pasid: number, page: number, access: number, offset: number): -1 {
    this.#events.recordPlain(Event.F_UUT, rid, pasid, page, { PnU: (access & Access.PRIVILEGED) === 0 ? 0 : 1 }, true, offset);
    this.translator.stall = -1;
    this.translator.answersZero = false;
    return -1;
  }

  /** CD.A = 0: a fault of stage 1 reads as zero, and a write is dropped. */
  get answersZero(): boolean {
    return this.translator.answersZero;
  }

  *cached(): Generator<CachedTranslation> {
    yield* this.translator.cached();
    if (this.translator.enabled) yield* this.#ats.held();
  }

  /** A device has not answered an ATC invalidation in time: the CMD_SYNC that waits for it fails. */
  expireInvalidations(): void {
    this.#ats.expire();
  }

  /**
   * What an access made now would carry to memory, by its tables (13); undefined when it would not pass. On demand, beside the caches: like a
   * speculative read it may set access flags in stage 2.
   * @param incoming what the access says of itself
   */
  attributes(stream: number, substream: number, page: number, access: number, incoming: MemoryAttributes = INCOMING): TransactionAttributes | undefined {
    this.#attributes ??= new AttributeWalk(this.#memory, this.capabilities);
    const { enabled, reader } = this.translator;
    if (!enabled) return this.#attributes.bypassed(this.bank.get32(Reg.GBPA), page, access, incoming);
    return this.#attributes.translated(reader.table, stream, substream, page, access, incoming);
  }

  /** What memory says of a stream now, past every cache. */
  look(stream: number): StreamView {
    this.#streams ??= new StreamLook(this.#memory, this.capabilities);
    return this.#streams.look(this.translator.reader.table, stream);
  }

  /** A record that another unit made of a stream of this one's, as 32-bit words; undefined: such records were lost. */
  report(words: ArrayLike<number> | undefined): void {
    if (words) this.#events.inject(words);
    else this.#events.lose();
  }

  read(offset: number, size: number): bigint {
    if (this.#pending.size > 0) this.#readPending(offset);
    return this.bank.read(offset, size);
  }

  write(offset: number, size: number, value: bigint): void {
    if (!isRegisterAccess(offset, size)) return;
    this.#writeDword(offset, value & 0xffff_ffffn);
    if (size === 8) this.#writeDword(offset + 4, value >> 32n);
  }

  #writeDword(offset: number, value: bigint): void {
    const register = this.bank.at(offset);
    if (register === undefined || (register.guard !== undefined && this.#isGuarded(register.guard))) return;
    switch (register.offset) {
      case Reg.CR0:
        this.#control(Reg.CR0, Reg.CR0ACK, Number(value) & this.#cr0Mask);
        return;
      case Reg.IRQ_CTRL:
        this.#control(Reg.IRQ_CTRL, Reg.IRQ_CTRLACK, Number(value) & (this.capabilities.pri ? 7 : 5));
        return;
      case Reg.CR1:
        this.#writeCr1(Number(value));
        return;
      case Reg.CR2:
        this.bank.set(Reg.CR2, value & BigInt(this.#cr2Mask));
        return;
      case Reg.GBPA:
        this.#writeGbpa(Number(value));
        return;
      default:
        this.bank.writeDword(offset, value);
        this.#wrote(register.offset);
    }
  }

  /** Side effects of a write that was stored. */
  #wrote(offset: number): void {
    switch (offset) {
      case Reg.CMDQ_PROD:
        this.#commands.run();
        break;
      case Reg.GERRORN:
        this.#events.drain();
        this.#commands.run();
        break;
      case Reg.EVENTQ_CONS:
        this.#events.drain();
        break;
      default:
    }
  }

  get #cr2Mask(): number {
    return Cr2.E2H | Cr2.RECINVSID | Cr2.PTM | (this.capabilities.atsRecordErrors ? Cr2.REC_CFG_ATS : 0);
  }

  /** A guarded register is read-only until the enable and its acknowledgement are both off (6.3). */
  #isGuarded(guard: Guard): boolean {
    const cr0 = this.bank.get32(Reg.CR0) | this.bank.get32(Reg.CR0ACK);
    const irq = this.bank.get32(Reg.IRQ_CTRL) | this.bank.get32(Reg.IRQ_CTRLACK);
    switch (guard) {
      case "SMMUEN":
        return (cr0 & Cr0.SMMUEN) !== 0;
      case "CMDQEN":
        return (cr0 & Cr0.CMDQEN) !== 0;
      case "EVENTQEN":
        return (cr0 & Cr0.EVENTQEN) !== 0;
      case "PRIQEN":
        return (cr0 & Cr0.PRIQEN) !== 0;
      case "queues":
        return (cr0 & (Cr0.CMDQEN | Cr0.EVENTQEN | Cr0.PRIQEN)) !== 0;
      case "GERROR_IRQEN":
        return (irq & IrqCtrl.GERROR) !== 0;
      case "EVENTQ_IRQEN":
        return (irq & IrqCtrl.EVENTQ) !== 0;
      default:
        return (irq & IrqCtrl.PRIQ) !== 0;
    }
  }

  /** CR1 has two halves with a guard each (6.3.11). */
  #writeCr1(value: number): void {
    const free = (this.#isGuarded("queues") ? 0 : Cr1.QUEUE) | (this.#isGuarded("SMMUEN") ? 0 : Cr1.TABLE);
    this.bank.set32(Reg.CR1, (this.bank.get32(Reg.CR1) & ~free) | (value & free));
  }

  /** GBPA (6.3.14): only a write with Update=1 counts, and takes effect at once. */
  #writeGbpa(value: number): void {
    if (value < Gbpa.UPDATE) return;
    this.bank.set32(Reg.GBPA, value & Gbpa.WRITABLE);
    this.translator.bypassAborts = (value & Gbpa.ABORT) !== 0;
    this.observer?.control();
  }

  // CR0 and IRQ_CTRL (6.3.9, 6.3.16): written at once, in effect when acknowledged.

  /** A field that is still being updated keeps its new value: a second write to it is ignored. */
  #control(register: number, acknowledge: number, value: number): void {
    const now = this.bank.get32(register);
    const updating = now ^ this.bank.get32(acknowledge);
    this.bank.set32(register, (value & ~updating) | (now & updating));
    if (this.#updateReads === 0) this.#acknowledge(register, acknowledge);
    else if (!this.#pending.has(acknowledge)) this.#pending.set(acknowledge, this.#updateReads);
  }

  #readPending(offset: number): void {
    const left = this.#pending.get(offset);
    if (left === undefined) return;
    if (left > 1) {
      this.#pending.set(offset, left - 1);
      return;
    }
    this.#pending.delete(offset);
    this.#acknowledge(offset === Reg.CR0ACK ? Reg.CR0 : Reg.IRQ_CTRL, offset);
  }

  #acknowledge(register: number, acknowledge: number): void {
    const before = this.bank.get32(acknowledge);
    const after = this.bank.get32(register);
    this.bank.set32(acknowledge, after);
    if (acknowledge !== Reg.CR0ACK) return;
    const turned = (bit: number): boolean => ((before ^ after) & bit) !== 0;
    if (turned(Cr0.SMMUEN)) this.#enable((after & Cr0.SMMUEN) !== 0);
    else if (turned(Cr0.ATSCHK)) this.#latch();
    if (turned(Cr0.EVENTQEN)) this.#events.restart();
    this.observer?.control();
    if (turned(Cr0.CMDQEN)) this.#commands.run();
  }

  /** SMMUEN: caches stay as they are; what was made of them together with CR2 is made anew. */
  #enable(on: boolean): void {
    this.translator.enabled = on;
    this.translator.forget(() => true);
    if (on) {
      this.#latch();
      return;
    }
    this.#events.forget();
    this.stalls.terminate();
  }

  #latch(): void {
    const cr2 = this.bank.get32(Reg.CR2);
    const table = readStreamTable(this.bank.get(Reg.STRTAB_BASE), this.bank.get32(Reg.STRTAB_BASE_CFG), this.capabilities);
    const atsCheck = (this.bank.get32(Reg.CR0ACK) & Cr0.ATSCHK) !== 0;
    this.translator.cr2 = cr2;
    this.translator.reader.table = { ...table, e2h: (cr2 & Cr2.E2H) !== 0, atsCheck };
  }
}

function hasRegister(row: Register, caps: Capabilities): boolean {
  if (row.needs === "PRI") return caps.pri;
  if (row.needs === "MSI") return caps.msi;
  if (row.needs === "MSI and PRI") return caps.msi && caps.pri;
  return true;
}

