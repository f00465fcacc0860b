/** The event queue (SMMU 7.2, 7.3): what is recorded of a failed transaction, and stall records that wait for room. */
import { type Field, formatRid, NO_PASID, type RegisterBank, StallEnd, type Tracer } from "@iommukit/core";
import { EVENTS, eventName, FaultClass, MERGE_WITHOUT_STE } from "../spec/events.js";
import { Cr0, Gerror, Reg } from "../spec/registers.js";
import { fieldsByName, putField } from "../spec/words.js";
import type { Configuration } from "./configuration.js";
import type { EventMerge } from "./event-merge.js";
import type { Fault } from "./fault.js";
import type { OutputQueue, OutputQueueLayout } from "./output-queue.js";
import { type AccessAttributes, attributes } from "./rights.js";
import type { StalledTransaction, Stalls } from "./stalls.js";

export const EVENT_WORDS = 8;
export const EVENT_QUEUE: Omit<OutputQueueLayout, "largest"> = {
  base: Reg.EVENTQ_BASE, producer: Reg.EVENTQ_PROD, consumer: Reg.EVENTQ_CONS, words: EVENT_WORDS, abort: Gerror.EVENTQ_ABT_ERR, line: "eventq",
};

const FIELDS = new Map<number, Readonly<Record<string, Field>>>(EVENTS.map(({ code, table }) => [code, fieldsByName(table)]));

interface WaitingRecord {
  readonly words: Uint32Array;
  readonly transaction: StalledTransaction;
  /** A CMD_SYNC has made the state it came from past: it may not appear any more (4.7.3). */
  stale: boolean;
}

export class EventQueue {
  readonly #name: string;
  readonly #bank: RegisterBank;
  readonly #queue: OutputQueue;
  readonly #stalls: Stalls;
  readonly #mayStall: (stream: number) => boolean;
  readonly #tracer: Tracer | undefined;
  readonly #hidesStage2: boolean;
  readonly #merge: EventMerge | undefined;
  readonly #words = new Uint32Array(EVENT_WORDS);
  #waiting: WaitingRecord[] = [];

  /**
   * @param mayStall false for devices that the system does not let stall: their transactions are terminated
   * @param hidesStage2 a stage-2 fault of a stage-1 table walk is recorded with S2=0, as QEMU's unit does
   * @param merge undefined for a unit that merges nothing
   */
  constructor(
    name: string,
    bank: RegisterBank,
    queue: OutputQueue,
    stalls: Stalls,
    mayStall: (stream: number) => boolean,
    hidesStage2: boolean,
    merge: EventMerge | undefined,
    tracer: Tracer | undefined,
  ) {
    this.#name = name;
    this.#bank = bank;
    this.#queue = queue;
    this.#stalls = stalls;
    this.#mayStall = mayStall;
    this.#hidesStage2 = hidesStage2;
    this.#merge = merge;
    this.#tracer = tracer;
  }

  /** Records a failed transaction as A, R and S say (5.5). @returns the number of its stall, -1 when it is terminated */
  record(fault: Fault, c: Configuration, stream: number, substream: number, page: number, access: number, offset: number): number {
    const stalls = fault.controlled && (fault.stage2 ? c.s2Stalls : c.stalls) && this.#mayStall(stream);
    const records = !fault.controlled || stalls || (fault.stage2 ? c.s2Records : c.records);
    if (!records) return -1;
    const transaction = stalls ? this.#stalls.begin(stream, substream, page, access) : undefined;
    if (stalls && transaction === undefined) return this.#stalls.hold(stream);
    this.#fill(fault, stream, substream, page, offset, attributes(c.needed / 16, access), transaction);
    this.#put(transaction, transaction === undefined && (c.mergesEvents || MERGE_WITHOUT_STE.includes(fault.type)));
    return transaction?.number ?? -1;
  }

  /**
   * Events of ATS traffic (3.9), and of transactions that the bus cannot carry: no translation was looked up.
   * @param mayMerge STE.MEV
   */
  recordPlain(type: number, stream: number, substream: number, page: number, fields: Readonly<Record<string, number>>, mayMerge: boolean, offset = 0): void {
    const words = this.#words.fill(0);
    this.#head(words, type, stream, substream);
    const layout = FIELDS.get(type) ?? {};
    for (const [name, value] of Object.entries(fields)) if (layout[name] !== undefined) putField(words, layout[name], value);
    putAddress(words, layout.InputAddr, page, offset);
    this.#trace(type, stream, substream, page, "");
    this.#put(undefined, mayMerge);
  }

  /** A record that somebody else made of this unit's stream. @param words 32 bits each */
  inject(words: ArrayLike<number>): void {
    this.#words.set(words);
    this.#put(undefined, false);
  }

  /** Records of this unit's streams were lost elsewhere: to software, the queue overflowed. */
  lose(): void {
    if ((this.#bank.get32(Reg.CR0ACK) & Cr0.EVENTQEN) !== 0) this.#queue.overflow();
  }

  #head(words: Uint32Array, type: number, stream: number, substream: number): void {
    words[0] = type;
    words[1] = stream;
    if (substream === NO_PASID) return;
    const layout = FIELDS.get(type) ?? {};
    if (layout.SSV !== undefined) putField(words, layout.SSV, 1);
    putField(words, layout.SubstreamID, substream);
  }

  #fill(fault: Fault, stream: number, substream: number, page: number, offset: number, access: AccessAttributes, transaction: StalledTransaction | undefined): void {
    const words = this.#words.fill(0);
    const layout = FIELDS.get(fault.type) ?? {};
    this.#head(words, fault.type, stream, substream);
    const put = (name: string, value: number): void => {
      if (layout[name] !== undefined) putField(words, layout[name], value);
    };
    if (transaction !== undefined) {
      put("Stall", 1);
      put("STAG", transaction.stag);
    }
    put("PnU", access.privileged ? 1 : 0);
    put("InD", access.instruction ? 1 : 0);
    put("RnW", access.write && !fault.readAlone ? 0 : 1);
    put("S2", fault.stage2 && !(this.#hidesStage2 && fault.cause === FaultClass.TT) ? 1 : 0);
    put("CLASS", fault.cause);
    if (fault.cause === FaultClass.TT && !fault.tableWrite) put("TTRnW", 1);
    putAddress(words, layout.InputAddr, page, offset);
    put("FetchAddr", fault.fetch);
    if (fault.stage2) put("IPA", fault.ipaPage * 4096);
    const where = fault.stage2 ? `stage 2, ${["CD", "TT", "IN"][fault.cause]}` : "";
    this.#trace(fault.type, stream, substream, page, where);
  }

  /** Stores the record in `#words`; one of a stalled transaction waits when there is no room. */
  #put(transaction: StalledTransaction | undefined, mayMerge: boolean): void {
    const enabled = (this.#bank.get32(Reg.CR0ACK) & Cr0.EVENTQEN) !== 0;
    if (mayMerge && enabled && !this.#queue.empty && this.#merge?.isSame(this.#words)) return;
    if (this.#writable && this.#waiting.length === 0 && this.#push(this.#words, mayMerge)) return;
    if (transaction !== undefined) this.#waiting.push({ words: this.#words.slice(), transaction, stale: false });
    else if (this.#writable) this.#push(this.#words, mayMerge);
    else if (enabled && !this.#queue.aborted && this.#queue.full) this.#queue.overflow();
  }

  #push(words: Uint32Array, mayMerge: boolean): boolean {
    if (!this.#queue.push(words)) return false;
    this.#merge?.wrote(words, mayMerge);
    return true;
  }

  get #writable(): boolean {
    return (this.#bank.get32(Reg.CR0ACK) & Cr0.EVENTQEN) !== 0 && !this.#queue.full && !this.#queue.aborted;
  }

  /** Room may have come: records of stalled transactions go out, and those of a past state are dropped, their transactions retried. */
  drain(): void {
    while (this.#waiting.length > 0 && this.#writable) {
      const { words, transaction, stale } = this.#waiting[0];
      if (stale) {
        this.#waiting.shift();
        this.#stalls.end(transaction.stream, transaction.stag, StallEnd.RETRY);
      } else {
        if (!this.#push(words, false)) return;
        this.#waiting.shift();
      }
    }
  }

  /** The queue was turned on or off: its index may have been moved. */
  restart(): void {
    this.#merge?.forget();
    this.drain();
  }

  /** CMD_SYNC: what waits now came from configuration and translations that may be invalidated. */
  markStale(): void {
    this.#merge?.forget();
    for (const record of this.#waiting) record.stale = true;
  }

  /** Transactions that were terminated leave no record. */
  forget(stream?: number): void {
    this.#waiting = this.#waiting.filter((record) => stream !== undefined && record.transaction.stream !== stream);
  }

  #trace(type: number, stream: number, substream: number, page: number, where: string): void {
    if (!this.#tracer?.listener) return;
    const address = `0x${(BigInt(page) << 12n).toString(16)}`;
    const name = eventName(type);
    const who = `${formatRid(stream)}${substream === NO_PASID ? "" : ` SubstreamID ${substream}`}`;
    this.#tracer.listener({
      kind: "fault",
      unit: this.#name,
      record: `${who} ${address}: ${name}${where === "" ? "" : ` (${where})`}`,
      fields: { type: name, stream, address, ...(substream === NO_PASID ? {} : { substream }) },
    });
  }
}

/** An address of 64 bits at a 64-bit word. */
function putAddress(words: Uint32Array, field: Field | undefined, page: number, offset: number): void {
  if (field === undefined) return;
  const at = Math.floor(field.low / 64) * 2;
  words[at] = (page % 0x10_0000) * 4096 + (field.low % 64 === 0 ? offset : 0);
  words[at + 1] = Math.floor(page / 0x10_0000);
}

