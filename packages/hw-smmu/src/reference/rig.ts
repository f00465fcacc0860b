/** A unit with memory, queues and tables, for tests that make one thing happen. */
import { Access, encodeFields, type FieldTable, FrameAllocator, NO_PASID, PageTable, type PageTableFormat, PhysicalMemory } from "@iommukit/core";
import { SmmuUnit, type SmmuUnitOptions } from "../hardware/index.js";
import { CD, COMMANDS, Cr0, eventName, eventType, L1_CONTEXT_DESCRIPTOR, L1_STREAM_DESCRIPTOR, readFields, Reg, STE, type TableGeometry, vmsaFormat } from "../spec/index.js";
import type { Identification } from "./request.js";
import { UNITS } from "./units.js";

export type Values = Readonly<Record<string, bigint | number>>;

const RAM = 2 ** 28;
const LOG2_QUEUE = 4;
const shared = new PhysicalMemory();
shared.addRam(0, RAM);

/** AF, readable and writable by all; a global entry of stage 1, write-back memory in stage 2. */
export const LEAF1 = 0x440;
export const LEAF2 = 0x4fc;

const big = (values: Values): Record<string, bigint> => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, BigInt(value)]));

export interface EventRecord {
  readonly name: string;
  readonly fields: Readonly<Record<string, number>>;
  readonly words: readonly bigint[];
}

export interface DmaOptions {
  readonly stream?: number;
  readonly substream?: number;
  readonly access?: number;
  readonly offset?: number;
}

export class Rig {
  readonly memory: PhysicalMemory = shared;
  readonly frames: FrameAllocator;
  readonly unit: SmmuUnit;
  readonly commands: number;
  readonly eventQueue: number;
  readonly streams: number;
  /** Stage 1 and stage 2, 4K and 48 bits, unless a test makes its own. */
  readonly stage1: PageTable;
  readonly stage2: PageTable;
  #producer = 0;
  #consumer = 0;

  constructor(identification: Identification = UNITS["with everything"], options: Partial<SmmuUnitOptions> = {}) {
    this.memory.clear(0, 2 ** 23);
    this.frames = new FrameAllocator(this.memory, 0x10_000, 2 ** 23);
    this.unit = new SmmuUnit(this.memory, { identification, ...options });
    this.commands = this.frames.alloc();
    this.eventQueue = this.frames.alloc();
    this.streams = this.frames.alloc(4);
    const width = Math.min(this.unit.capabilities.oas, 48);
    this.stage1 = this.table({ granule: 0, outputBits: width, ds: false, wide: false });
    this.stage2 = this.table({ granule: 0, outputBits: width, ds: false, wide: false });
    this.write(Reg.CMDQ_BASE, BigInt(this.commands | LOG2_QUEUE), 8);
    this.write(Reg.EVENTQ_BASE, BigInt(this.eventQueue | LOG2_QUEUE), 8);
    this.write(Reg.STRTAB_BASE, BigInt(this.streams), 8);
    this.write(Reg.STRTAB_BASE_CFG, 6);
    this.write(Reg.CR2, 2);
  }

  table(geometry: TableGeometry): PageTable {
    const format: PageTableFormat = vmsaFormat(geometry);
    return new PageTable(this.memory, this.frames, format, geometry.granule === 1 ? 2 : 3);
  }

  write(register: number, value: bigint | number, size = 4): void {
    this.unit.write(register, size, BigInt(value));
  }

  read(register: number, size = 4): number {
    return Number(this.unit.read(register, size));
  }

  /** All queues and translation. */
  start(more = 0): this {
    this.write(Reg.CR0, Cr0.CMDQEN | Cr0.EVENTQEN | more);
    this.write(Reg.CR0, Cr0.CMDQEN | Cr0.EVENTQEN | Cr0.SMMUEN | more);
    return this;
  }

  stop(): void {
    this.write(Reg.CR0, Cr0.CMDQEN | Cr0.EVENTQEN);
  }

  put(at: number, table: FieldTable, values: Values): void {
    encodeFields(table, big(values)).forEach((word, i) => this.memory.writeU64(at + i * 8, word));
  }

  steAddress(stream: number): number {
    return this.streams + stream * 64;
  }

  ste(values: Values, stream = 1): this {
    this.put(this.steAddress(stream), STE, { V: 1, Config: 5, ...values });
    return this;
  }

  /** Fields of an STE with stage 2 over `stage2`. */
  stage2Fields(more: Values = {}): Record<string, bigint | number> {
    const size = 64 - Math.min(this.unit.capabilities.ias, 48);
    return {
      Config: 6, S2VMID: 3, S2T0SZ: size, S2SL0: size > 24 ? 1 : 2, S2PS: 6, S2AA64: 1, S2R: 1, S2TTB: BigInt(this.stage2.root) >> 4n, ...more,
    };
  }

  /** A CD over `stage1`; the lower half only. */
  cdFields(more: Values = {}): Record<string, bigint | number> {
    return { V: 1, T0SZ: 16, EPD1: 1, IPS: 6, AA64: 1, A: 1, R: 1, ASET: 1, ASID: 9, TTB0: BigInt(this.stage1.root) >> 4n, ...more };
  }

  /** An STE with stage 1 whose only CD is given. Returns where the CD lies. */
  stage1Stream(cd: Values = {}, ste: Values = {}, stream = 1): number {
    const at = this.frames.alloc();
    this.put(at, CD, this.cdFields(cd));
    this.ste({ S1ContextPtr: BigInt(at) >> 6n, ...ste }, stream);
    return at;
  }

  /** Both stages; the CD and the tables of stage 1 are mapped one to one in stage 2. */
  nestedStream(cd: Values = {}, ste: Values = {}, stream = 1): number {
    this.identity();
    return this.stage1Stream(cd, this.stage2Fields({ Config: 7, ...ste }), stream);
  }

  #mapped = false;
  /** Stage 2 takes the memory that tables are made of to itself. */
  identity(): void {
    if (!this.#mapped) this.stage2.map(0, 0, 2 ** 11, LEAF2);
    this.#mapped = true;
  }

  l1Stream(at: number, values: Values): void {
    this.put(at, L1_STREAM_DESCRIPTOR, values);
  }
  l1Context(at: number, values: Values): void {
    this.put(at, L1_CONTEXT_DESCRIPTOR, values);
  }

  /** Puts a command into the queue without telling the unit. */
  queue(name: string, values: Values = {}): number {
    const command = COMMANDS.find((row) => row.table.structure === `CMD_${name}`);
    if (command === undefined) throw new Error(`no command ${name}`);
    return this.queueWords(encodeFields(command.table, big({ opcode: command.opcode, ...values })));
  }
  queueWords(words: readonly bigint[]): number {
    const at = this.commands + (this.#producer % 2 ** LOG2_QUEUE) * 16;
    words.forEach((word, i) => this.memory.writeU64(at + i * 8, word));
    this.#producer = (this.#producer + 1) % 2 ** (LOG2_QUEUE + 1);
    return at;
  }
  submit(): void {
    this.write(Reg.CMDQ_PROD, this.#producer);
  }
  command(name: string, values: Values = {}): void {
    this.queue(name, values);
    this.submit();
  }
  /** True when everything that was submitted is consumed. */
  get drained(): boolean {
    return this.read(Reg.CMDQ_PROD) === (this.read(Reg.CMDQ_CONS) & 0xf_ffff);
  }
  get commandError(): number {
    return this.gerror(1) ? (this.read(Reg.CMDQ_CONS) >>> 24) & 0x7f : 0;
  }
  gerror(bit: number): boolean {
    return ((this.read(Reg.GERROR) ^ this.read(Reg.GERRORN)) & bit) !== 0;
  }

  dma(page: number, options: DmaOptions = {}): number {
    const { stream = 1, substream = NO_PASID, access = Access.READ, offset = 0 } = options;
    return this.unit.translate(stream, substream, page, access, offset);
  }

  /** Records since the last call; the queue is then empty. */
  events(): EventRecord[] {
    const records: EventRecord[] = [];
    while (this.#consumer !== this.#eventProducer) {
      records.push(this.eventAt(this.#consumer));
      this.#consumer = (this.#consumer + 1) % 2 ** (LOG2_QUEUE + 1);
    }
    this.acknowledge();
    return records;
  }
  acknowledge(): void {
    const overflow = (this.read(Reg.EVENTQ_PROD) & 0x8000_0000) >>> 0;
    this.write(Reg.EVENTQ_CONS, this.#consumer + overflow);
  }
  get #eventProducer(): number {
    return this.read(Reg.EVENTQ_PROD) % 2 ** (LOG2_QUEUE + 1);
  }
  eventAt(index: number): EventRecord {
    const at = this.eventQueue + (index % 2 ** LOG2_QUEUE) * 32;
    const words = [0, 8, 16, 24].map((offset) => this.memory.readU64(at + offset) ?? 0n);
    const numbers = Uint32Array.from({ length: 8 }, (_, i) => Number((words[i >> 1] >> BigInt(32 * (i & 1))) & 0xffff_ffffn));
    const type = numbers[0] & 0xff;
    const known = eventType(type);
    return { name: eventName(type), fields: known ? readFields(known.table, numbers) : {}, words };
  }

  /** The one record since the last call. */
  event(): EventRecord {
    const records = this.events();
    if (records.length !== 1) throw new Error(`${records.length} events: ${records.map(({ name }) => name).join(", ")}`);
    return records[0];
  }
  names(): string[] {
    return this.events().map(({ name }) => name);
  }

  /** The descriptor that a walk of `page` ends at. */
  leaf(table: PageTable, page: number): number {
    let at = table.root;
    for (let level = table.topLevel; level > 0; level--) {
      const index = Math.floor(page / 2 ** (9 * level)) % 512;
      const word = this.memory.readU64(at + index * 8) ?? 0n;
      if ((word & 3n) !== 3n) return at + index * 8;
      at = Number(word & 0xffff_ffff_f000n);
    }
    return at + (page % 512) * 8;
  }
  change(at: number, set: bigint, clear = 0n): void {
    this.memory.writeU64(at, ((this.memory.readU64(at) ?? 0n) | set) & ~clear);
  }
}
