/** Structures of a unit in memory, as its driver writes them: complete before they are present, and traced. */
import type { PhysicalMemory } from "../memory/physical-memory.js";
import { decodeFields, encodeFields, type FieldTable, type FieldValues } from "../spec/fields.js";
import type { Tracer } from "../trace.js";

export class StructureWriter {
  readonly #memory: PhysicalMemory;
  readonly #unit: string;
  readonly #tracer: Tracer | undefined;

  constructor(memory: PhysicalMemory, unit: string, tracer: Tracer | undefined) {
    this.#memory = memory;
    this.#unit = unit;
    this.#tracer = tracer;
  }

  /** Writes an entry with its first word last, which says that it is present: no half-written entry ever is. */
  write(table: FieldTable, pa: number, fields: FieldValues): void {
    this.writeWords(table, pa, encodeFields(table, fields));
  }

  /** The same with the words at hand. */
  writeWords(table: FieldTable, pa: number, words: readonly bigint[]): void {
    for (let i = words.length - 1; i >= 0; i--) this.#memory.writeU64(pa + i * 8, words[i]);
    this.#trace(table, pa, 0, words.length);
  }

  /** Writes one word of an entry: one store, so that hardware sees the old or the new one. */
  writeWord(table: FieldTable, pa: number, index: number, word: bigint): void {
    this.#memory.writeU64(pa + index * 8, word);
    this.#trace(table, pa, index, 1);
  }

  clear(table: FieldTable, pa: number): void {
    for (let i = 0; i < table.bits / 64; i++) this.#memory.writeU64(pa + i * 8, 0n);
    this.#trace(table, pa, 0, table.bits / 64);
  }

  word(pa: number): bigint {
    return this.#memory.readU64(pa) ?? 0n;
  }

  /** What the whole structure now says, with the words that were written. */
  #trace(table: FieldTable, pa: number, first: number, count: number): void {
    if (this.#tracer?.listener === undefined) return;
    const words = Array.from({ length: table.bits / 64 }, (_, i) => this.word(pa + i * 8));
    const fields = decodeFields(table, words).filter((field) => field.value !== 0n);
    const meaning = fields.map((field) => `${field.name}=${field.meaning ?? `0x${field.value.toString(16)}`}`).join(" ");
    this.#tracer.listener({ kind: "table-write", unit: this.#unit, structure: table.structure, pa: pa + first * 8, value: words[first], count, meaning: meaning || "all zero" });
  }
}
