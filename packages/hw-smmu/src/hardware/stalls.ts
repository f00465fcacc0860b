/** Stalled transactions (SMMU 3.12, 4.6): each has a STAG until software resumes or terminates it. */
import { StallEnd } from "@iommukit/core";

export interface StalledTransaction {
  /** Never used again. */
  readonly number: number;
  readonly stag: number;
  readonly stream: number;
  readonly substream: number;
  readonly page: number;
  readonly access: number;
}

/** Told how a stalled transaction ends: it is to be made again, was aborted, or reads zeros and writes nothing. */
export type StallListener = (transaction: StalledTransaction, end: number) => void;

const STAGS = 0x1_0000;

export class Stalls {
  readonly #waiting = new Map<number, StalledTransaction>();
  /** Transactions that found no room, or whose page waits already: they are made again when another ends. Numbers, to streams. */
  #held = new Map<number, number>();
  /** Who makes requests of a stream again. */
  readonly #requesters = new Map<number, (stall: number, end: number) => void>();
  readonly #limit: number;
  readonly #suppress: boolean;
  readonly #listener: StallListener | undefined;
  #next = 0;
  #number = 0;

  /** @param limit IDR5.STALL_MAX @param suppress a page that is waited for already is not told twice */
  constructor(limit: number, suppress: boolean, listener: StallListener | undefined) {
    this.#limit = limit === 0 ? STAGS : limit;
    this.#suppress = suppress;
    this.#listener = listener;
  }

  connect(stream: number, ended: (stall: number, end: number) => void): void {
    this.#requesters.set(stream, ended);
  }

  /** Somebody makes this stream's requests again. */
  isConnected(stream: number): boolean {
    return this.#requesters.has(stream);
  }

  /** Transactions with a STAG. */
  get size(): number {
    return this.#waiting.size;
  }

  /** A new stall; undefined when its record is not to be made: no room, or the same page waits already. */
  begin(stream: number, substream: number, page: number, access: number): StalledTransaction | undefined {
    if (this.#waiting.size >= this.#limit) return undefined;
    if (this.#suppress && this.#isWaiting(stream, substream, page, access)) return undefined;
    while (this.#waiting.has(this.#next)) this.#next = (this.#next + 1) % STAGS;
    const transaction = { number: this.#number++, stag: this.#next, stream, substream, page, access };
    this.#waiting.set(transaction.stag, transaction);
    this.#next = (this.#next + 1) % STAGS;
    return transaction;
  }

  /** A transaction without a record of its own waits for another to end: its number, or -1 when nobody would make it again. */
  hold(stream: number): number {
    if (!this.isConnected(stream)) return -1;
    this.#held.set(this.#number, stream);
    return this.#number++;
  }

  #isWaiting(stream: number, substream: number, page: number, access: number): boolean {
    for (const t of this.#waiting.values()) {
      if (t.stream === stream && t.substream === substream && t.page === page && t.access === access) return true;
    }
    return false;
  }

  /** CMD_RESUME: nothing happens for a STAG that is not this stream's. */
  end(stream: number, stag: number, end: number): void {
    const transaction = this.#waiting.get(stag);
    if (transaction === undefined || transaction.stream !== stream) return;
    this.#waiting.delete(stag);
    this.#listener?.(transaction, end);
    this.#requesters.get(stream)?.(transaction.number, end);
    this.#retryHeld();
  }

  /** In their order; those that find no room are held again. */
  #retryHeld(): void {
    const held = this.#held;
    if (held.size === 0) return;
    this.#held = new Map();
    for (const [number, stream] of held) this.#requesters.get(stream)?.(number, StallEnd.RETRY);
  }

  /** CMD_STALL_TERM, and every stall when translation is turned off; those without a STAG before their turn could come. */
  terminate(stream?: number): void {
    for (const [number, owner] of [...this.#held]) {
      if (stream !== undefined && owner !== stream) continue;
      this.#held.delete(number);
      this.#requesters.get(owner)?.(number, StallEnd.ABORT);
    }
    for (const t of [...this.#waiting.values()]) if (stream === undefined || t.stream === stream) this.end(t.stream, t.stag, StallEnd.ABORT);
  }
}
