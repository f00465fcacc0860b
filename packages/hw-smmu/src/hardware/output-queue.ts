/** What event and page request queues have in common (SMMU 3.5): room, overflow, aborted writes, the interrupt. */
import type { PhysicalMemory, RegisterBank } from "@iommukit/core";
import { OVERFLOW } from "../spec/registers.js";
import type { Interrupts } from "./interrupts.js";
import { Ring } from "./ring.js";

export interface OutputQueueLayout {
  readonly base: number;
  readonly producer: number;
  readonly consumer: number;
  readonly largest: number;
  readonly words: number;
  /** GERROR bit of an aborted write. */
  readonly abort: number;
  readonly line: "eventq" | "priq";
}

export class OutputQueue {
  readonly #bank: RegisterBank;
  readonly #memory: PhysicalMemory;
  readonly #interrupts: Interrupts;
  readonly #layout: OutputQueueLayout;
  readonly #ring: Ring;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bank: RegisterBank, memory: PhysicalMemory, interrupts: Interrupts, layout: OutputQueueLayout) {
    this.#bank = bank;
    this.#memory = memory;
    this.#interrupts = interrupts;
    this.#layout = layout;
    this.#bytes = new Uint8Array(layout.words * 4);
    this.#view = new DataView(this.#bytes.buffer);
    this.#ring = new Ring(bank, layout.base, layout.producer, layout.consumer, layout.largest, layout.words * 4);
  }

  get full(): boolean {
    return this.#ring.full;
  }

  get empty(): boolean {
    return this.#ring.empty;
  }

  get aborted(): boolean {
    return this.#interrupts.isActive(this.#layout.abort);
  }

  /** OVFLG differs from OVACKFLG: an overflow that software has not acknowledged. */
  get overflowed(): boolean {
    return ((this.#bank.get32(this.#layout.producer) ^ this.#bank.get32(this.#layout.consumer)) & OVERFLOW) !== 0;
  }

  /** A record is lost for want of room; a second time before software answers is not told. */
  overflow(): void {
    if (this.overflowed) return;
    this.#bank.set(this.#layout.producer, this.#bank.get(this.#layout.producer) ^ BigInt(OVERFLOW));
  }

  /**
   * Writes a record; there must be room. False when memory refused it: the index stays, and an error is active.
   * @param interrupt whether this record interrupts; unless given, the first in an empty queue does
   */
  push(words: Uint32Array, interrupt?: boolean): boolean {
    const ring = this.#ring;
    const wasEmpty = ring.empty;
    const index = ring.producer;
    words.forEach((word, i) => this.#view.setUint32(i * 4, word, true));
    if (!this.#memory.write(ring.address(index), this.#bytes)) {
      this.#interrupts.error(this.#layout.abort);
      return false;
    }
    ring.moveProducer(ring.next(index));
    if (interrupt ?? wasEmpty) this.#interrupts.raise(this.#layout.line);
    return true;
  }
}
