/** Queues that the unit fills: event records (SMMU 7) and page requests (8). One shape: base, producer and consumer with wrap and overflow bits. */
import type { FrameAllocator, PhysicalMemory } from "@iommukit/core";
import { OVERFLOW } from "../spec/registers.js";
import type { RegisterAccess } from "./registers.js";

/** log2 of records, if the unit takes so many. */
const LOG2_RECORDS = 7;

export interface OutputRegisters {
  readonly base: number;
  readonly producer: number;
  readonly consumer: number;
}

export class OutputQueue {
  readonly #memory: PhysicalMemory;
  readonly #registers: RegisterAccess;
  readonly #where: OutputRegisters;
  readonly #words: number;
  readonly #log2: number;
  readonly #base: number;

  constructor(memory: PhysicalMemory, frames: FrameAllocator, registers: RegisterAccess, where: OutputRegisters, words: number, most: number) {
    this.#memory = memory;
    this.#registers = registers;
    this.#where = where;
    this.#words = words;
    this.#log2 = Math.min(LOG2_RECORDS, most);
    this.#base = frames.alloc(Math.ceil((2 ** this.#log2 * words * 8) / 4096));
    registers.write(where.base, 8, BigInt(this.#base) | BigInt(this.#log2));
    registers.write32(where.producer, 0);
    registers.write32(where.consumer, 0);
  }

  /** Takes out every record that is there, and the room is free again. @returns records, and whether some were lost before them */
  take(): { readonly records: readonly (readonly bigint[])[]; readonly lost: boolean } {
    const producer = this.#registers.read32(this.#where.producer);
    const consumer = this.#registers.read32(this.#where.consumer);
    const lost = ((producer ^ consumer) & OVERFLOW) !== 0;
    const size = 2 ** (this.#log2 + 1);
    const end = (producer & 0xf_ffff) % size;
    const records: bigint[][] = [];
    for (let at = (consumer & 0xf_ffff) % size; at !== end; at = (at + 1) % size) {
      const record = this.#base + (at % 2 ** this.#log2) * this.#words * 8;
      records.push(Array.from({ length: this.#words }, (_, i) => this.#memory.readU64(record + i * 8) ?? 0n));
    }
    if (records.length > 0 || lost) this.#registers.write32(this.#where.consumer, end | (producer & OVERFLOW));
    return { records, lost };
  }
}
