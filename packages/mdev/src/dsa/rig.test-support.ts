/** A DSA function at a unit that the test plays: one page of memory for each of its input pages, with the rights that the test gives. */
import { Access, type AtsEndpoint, type AtsPort, CompletionStatus, type DmaOptions, type DmaPort, type DmaResult, NO_PASID, type PageRequest, PageResponseCode, type TranslationCompletion } from "@iommukit/core";
import { DsaDevice } from "./device.js";
import { readDsaOptions } from "./options.js";
import { Command } from "./spec/commands.js";
import { Field, Flag } from "./spec/descriptor.js";
import { GrpWord, WqWord } from "./spec/queues.js";
import { PORTAL_PAGES, Register, Table } from "./spec/registers.js";

const PAGE = 4096;
const RW = Access.READ | Access.WRITE;
export const MEMORY_PAGES = 512;

type Question = Omit<PageRequest, "rid">;

/** Translates one to one; a page without an entry in `rights` may be read and written. */
export class TestUnit implements DmaPort {
  readonly rid = 0x18;
  readonly memory = new Uint8Array(MEMORY_PAGES * PAGE);
  readonly rights = new Map<number, number>();
  readonly questions: Question[] = [];
  /** PASIDs of stop markers. */
  readonly stopped: number[] = [];
  readonly messages: [address: bigint, data: number][] = [];
  /** PASIDs and privileges that requests came with. */
  readonly seen = new Set<string>();
  /** What is asked for at once: a response code; undefined leaves it open. */
  answer: ((question: Question) => number | undefined) | undefined;
  /** Status of translation requests for a page; success unless given. */
  status: (page: number) => number = () => CompletionStatus.SUCCESS;
  /** Translated requests to it are refused. */
  readonly broken = new Set<number>();
  declare readonly ats?: AtsPort;
  endpoint: AtsEndpoint | undefined;

  constructor(ats: boolean) {
    if (ats) this.ats = this.#atsPort();
  }

  #rights(page: number): number {
    return page < MEMORY_PAGES ? (this.rights.get(page) ?? RW) : 0;
  }

  #note(pasid: number, privileged: boolean): void {
    this.seen.add(`${pasid}${privileged ? " privileged" : ""}`);
  }

  #atsPort(): AtsPort {
    return {
      translate: (pasid, page, access, out: TranslationCompletion) => {
        this.#note(pasid, (access & Access.PRIVILEGED) !== 0);
        const rights = this.#rights(page);
        Object.assign(out, { status: this.status(page), shift: 12, page, untranslatedOnly: false, execute: false });
        Object.assign(out, { read: (rights & Access.READ) !== 0, write: (rights & access & Access.WRITE) !== 0 });
      },
      access: (_pasid, address, bytes, access) => {
        if (this.broken.has(Math.floor(address / PAGE))) return false;
        if ((access & Access.WRITE) !== 0) this.memory.set(bytes, address);
        else bytes.set(this.memory.subarray(address, address + bytes.length));
        return true;
      },
      requestPage: (question) => {
        if (question.access === 0) return void this.stopped.push(question.pasid);
        this.questions.push(question);
        const code = this.answer?.(question);
        if (code !== undefined) this.#respond(question, code);
      },
      completeInvalidation: () => {},
      connect: (endpoint) => {
        this.endpoint = endpoint;
      },
    };
  }

  /** Answers the oldest open question; success gives the page all rights. */
  respond(code: number = PageResponseCode.SUCCESS): void {
    const question = this.questions.shift();
    if (question === undefined) throw new Error("nothing was asked for");
    this.#respond(question, code);
  }

  #respond(question: Question, code: number): void {
    if (code === PageResponseCode.SUCCESS) this.rights.delete(question.page);
    this.endpoint?.respond({ pasid: question.pasid, group: question.group, code });
  }

  #transfer(kind: number, address: bigint, bytes: Uint8Array, { pasid = NO_PASID, privileged = false }: DmaOptions = {}): DmaResult {
    this.#note(pasid, privileged);
    if ((this.#rights(Number(address >> 12n)) & kind) !== kind) return { ok: false, moved: 0 };
    const at = Number(address);
    if (kind === Access.WRITE) this.memory.set(bytes, at);
    else bytes.set(this.memory.subarray(at, at + bytes.length));
    return { ok: true, moved: bytes.length };
  }

  read = (address: bigint, target: Uint8Array, options?: DmaOptions): DmaResult => this.#transfer(Access.READ, address, target, options);
  write = (address: bigint, source: Uint8Array, options?: DmaOptions): DmaResult => this.#transfer(Access.WRITE, address, source, options);
  interrupt = (address: bigint, data: number): boolean => {
    this.messages.push([address, data]);
    return true;
  };
}

export interface DescriptorFields {
  readonly opcode: number;
  readonly flags?: number;
  readonly pasid?: number;
  readonly source?: bigint | number;
  readonly destination?: bigint | number;
  readonly size?: number;
  readonly completion?: bigint | number;
  readonly handle?: number;
  /** Further bytes, by offset. */
  readonly bytes?: Readonly<Record<number, number | bigint | readonly [width: 1 | 2 | 4, value: number]>>;
}

/** A descriptor whose completion address is valid, and whose record is asked for. Further fields are 8 bytes wide unless they say otherwise. */
export function descriptor({ opcode, flags = 0, pasid = 0, source = 0, destination = 0, size = 0, completion = COMPLETION, handle = 0, bytes = {} }: DescriptorFields): Uint8Array {
  const out = new Uint8Array(64);
  const view = new DataView(out.buffer);
  view.setUint32(Field.PASID, pasid, true);
  view.setUint32(Field.FLAGS, flags ^ (Flag.COMPLETION_VALID | Flag.REQUEST_COMPLETION), true);
  out[Field.OPCODE] = opcode;
  view.setBigUint64(Field.COMPLETION, BigInt(completion), true);
  view.setBigUint64(Field.SOURCE, BigInt(source), true);
  view.setBigUint64(Field.DESTINATION, BigInt(destination), true);
  view.setUint32(Field.SIZE, size, true);
  view.setUint16(Field.HANDLE, handle, true);
  for (const [at, value] of Object.entries(bytes)) {
    const offset = Number(at);
    if (typeof value !== "object") view.setBigUint64(offset, BigInt(value), true);
    else if (value[0] === 1) view.setUint8(offset, value[1]);
    else if (value[0] === 2) view.setUint16(offset, value[1], true);
    else view.setUint32(offset, value[1], true);
  }
  return out;
}

/** Where completion records go unless a descriptor says otherwise. */
export const COMPLETION = 0x1000;

export interface CompletionFields {
  readonly status: number;
  readonly result: number;
  readonly completed: number;
  readonly faultAddress: bigint;
  readonly view: DataView;
}

export interface QueueConfig {
  readonly dedicated?: boolean;
  readonly size?: number;
  readonly threshold?: number;
  readonly priority?: number;
  readonly blockOnFault?: boolean;
  /** Without one a dedicated queue sends none. */
  readonly pasid?: number;
  readonly privileged?: boolean;
  /** Further bits of WQCFG's third word. */
  readonly mode?: number;
  readonly limits?: number;
}

export class Rig {
  readonly unit: TestUnit;
  readonly device: DsaDevice;
  readonly vectors: number[] = [];
  busMaster = true;

  constructor(options: Readonly<Record<string, unknown>> = {}, ats = true) {
    this.unit = new TestUnit(ats);
    const masters = (): boolean => this.busMaster;
    const host = {
      interrupt: (vector: number) => void this.vectors.push(vector),
      get busMaster() {
        return masters();
      },
    };
    this.device = new DsaDevice(this.unit, host, readDsaOptions({ interruptHandles: true, ...options }));
  }

  read32 = (offset: number): number => Number(this.device.readBar(0, offset, 4));
  read64 = (offset: number): bigint => this.device.readBar(0, offset, 8);
  write32 = (offset: number, value: number): void => this.device.writeBar(0, offset, 4, BigInt(value >>> 0));

  /** Issues a command; returns its error, or -1 while it is active. */
  command(command: number, operand = 0): number {
    this.write32(Register.CMD, (command << 20) | operand);
    return this.commandError();
  }

  commandError(): number {
    const status = this.read32(Register.CMDSTS);
    return status >= 0x8000_0000 ? -1 : status & 0xff;
  }

  wqWord = (queue: number, word: number): number => Table.WQCFG + 64 * queue + 4 * word;
  grpWord = (group: number, word: number): number => Table.GRPCFG + 64 * group + 4 * word;

  configure(queue: number, { dedicated = true, size = 16, threshold = size, priority = 1, blockOnFault = false, pasid, privileged = false, mode = 0, limits }: QueueConfig): void {
    const word = (dedicated ? 1 : 0) | (blockOnFault ? 2 : 0) | (priority << 4) | (pasid === undefined ? 0 : (pasid << 8) | 0x1000_0000) | (privileged ? 0x2000_0000 : 0) | mode;
    this.write32(this.wqWord(queue, WqWord.SIZE), size);
    this.write32(this.wqWord(queue, WqWord.THRESHOLD), threshold);
    this.write32(this.wqWord(queue, WqWord.MODE), word);
    if (limits !== undefined) this.write32(this.wqWord(queue, WqWord.LIMITS), limits);
  }

  /** One group of all queues given and `engines`; everything is enabled. */
  start(queues: readonly QueueConfig[] = [{}], engines = 1, groupFlags = 0): void {
    queues.forEach((config, queue) => this.configure(queue, config));
    this.write32(this.grpWord(0, GrpWord.QUEUES), 2 ** queues.length - 1);
    this.write32(this.grpWord(0, GrpWord.ENGINES), 2 ** engines - 1);
    this.write32(this.grpWord(0, GrpWord.FLAGS), groupFlags);
    const error = this.command(Command.ENABLE_DEVICE);
    if (error !== 0) throw new Error(`ENABLE_DEVICE: 0x${error.toString(16)}`);
    queues.forEach((_, queue) => {
      const wrong = this.command(Command.ENABLE_WQ, queue);
      if (wrong !== 0) throw new Error(`ENABLE_WQ ${queue}: 0x${wrong.toString(16)}`);
    });
  }

  /** MOVDIR64B, or ENQCMD. */
  submit(bytes: Uint8Array, { queue = 0, portal = 0, deferrable = false } = {}): boolean {
    return this.device.writeBlock(2, (queue * PORTAL_PAGES + portal) * PAGE, bytes, deferrable);
  }

  /** Submits a descriptor to queue 0 and returns its record. */
  run(fields: DescriptorFields): CompletionFields {
    const at = Number(fields.completion ?? COMPLETION);
    this.unit.memory.fill(0, at, at + 32);
    this.submit(descriptor(fields));
    return this.record(at);
  }

  record(at: number = COMPLETION): CompletionFields {
    const view = new DataView(this.unit.memory.buffer, at, 32);
    return { status: view.getUint8(0), result: view.getUint8(1), completed: view.getUint32(4, true), faultAddress: view.getBigUint64(8, true), view };
  }

  /** SWERR's first byte pair, or undefined while it is not valid. */
  swerr(): { error: number; queue: number; overflow: boolean; operation: number; pasid: number; address: bigint; batch: boolean; index: number; write: boolean } | undefined {
    const [word, second] = [this.read32(Register.SWERR), this.read32(Register.SWERR + 4)];
    if ((word & 1) === 0) return undefined;
    return {
      error: (word >>> 8) & 0xff, queue: (word >>> 16) & 0xff, overflow: (word & 2) !== 0, operation: second & 0xff, pasid: second >>> 8,
      address: this.read64(Register.SWERR + 16), batch: (word & 0x10) !== 0, index: this.read32(Register.SWERR + 8) & 0xffff, write: (word & 0x20) !== 0,
    };
  }

  /** Fills a range with bytes that differ from place to place. */
  paint(at: number, size: number, seed = 1): Uint8Array {
    let state = seed;
    for (let i = 0; i < size; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      this.unit.memory[at + i] = state >>> 24;
    }
    return this.unit.memory.subarray(at, at + size);
  }
}
