/**
 * A queue in memory (SMMU 3.5): base and size from a register, indices with a wrap bit above them. The indices live in the
 * register bank; the bits above the wrap bit belong to the queue's owner.
 */
import type { RegisterBank } from "@iommukit/core";

export class Ring {
  readonly #bank: RegisterBank;
  readonly #base: number;
  readonly #producer: number;
  readonly #consumer: number;
  readonly #largest: number;
  readonly #entryBytes: number;

  /** @param largest log2 of the entries that the unit supports (IDR1) */
  constructor(bank: RegisterBank, base: number, producer: number, consumer: number, largest: number, entryBytes: number) {
    this.#bank = bank;
    this.#base = base;
    this.#producer = producer;
    this.#consumer = consumer;
    this.#largest = largest;
    this.#entryBytes = entryBytes;
  }

  /** Entries; the wrap bit has this value. */
  get size(): number {
    return 2 ** Math.min(this.#bank.get32(this.#base) & 31, this.#largest);
  }

  get producer(): number {
    return this.#bank.get32(this.#producer) % (2 * this.size);
  }

  get consumer(): number {
    return this.#bank.get32(this.#consumer) % (2 * this.size);
  }

  /** Entries between the two; more than `size` when the pair makes no sense. */
  get used(): number {
    const span = 2 * this.size;
    return (this.producer - this.consumer + span) % span;
  }

  get empty(): boolean {
    return this.used === 0;
  }

  get full(): boolean {
    return this.used >= this.size;
  }

  /** Address of the entry at an index. The base is aligned to the queue's size, and to 32 bytes at least. */
  address(index: number): number {
    const bytes = Math.max(this.size * this.#entryBytes, 32);
    const base = Number(this.#bank.get(this.#base) & 0xff_ffff_ffff_ffe0n);
    return base - (base % bytes) + (index % this.size) * this.#entryBytes;
  }

  next(index: number): number {
    return (index + 1) % (2 * this.size);
  }

  /** `count` places before an index. */
  before(index: number, count: number): number {
    const span = 2 * this.size;
    return (index - (count % span) + span) % span;
  }

  /** Stores an index; bits from bit 20 up are kept. */
  moveProducer(index: number): void {
    this.#move(this.#producer, index);
  }
  moveConsumer(index: number): void {
    this.#move(this.#consumer, index);
  }

  #move(register: number, index: number): void {
    this.#bank.set(register, (this.#bank.get(register) & 0xfff0_0000n) | BigInt(index));
  }
}
