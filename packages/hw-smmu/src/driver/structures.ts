/** Stream table entries, context descriptors and what leads to them, as the driver writes them: complete before they are valid, and traced. */
import { decodeFields, encodeFields, type FieldTable, type PhysicalMemory, type Tracer } from "@iommukit/core";

/** Fields by name, addresses by the bits that hold them; what is left out is 0. */
export type Fields = Readonly<Record<string, bigint>>;

export class Structures {
  readonly #memory: PhysicalMemory;
  readonly #unit: string;
  readonly #tracer: Tracer | undefined;

  constructor(memory: PhysicalMemory, unit: string, tracer: Tracer | undefined) {
    this.#memory = memory;
    this.#unit = unit;
    this.#tracer = tracer;
  }

  /** Writes an entry, the word with its valid bit last: no half-written entry is ever valid (SMMU 3.21.3). */
  write(table: FieldTable, pa: number, fields: Fields): void {
    this.writeWords(table, pa, encodeFields(table, fields));
  }

  writeWords(table: FieldTable, pa: number, words: readonly bigint[]): void {
    for (let i = words.length - 1; i >= 0; i--) this.#memory.writeU64(pa + i * 8, words[i]);
    this.#trace(table, pa, words.length);
  }

  /** Writes the first word alone: one store, so that hardware sees the old or the new one. */
  writeFirst(table: FieldTable, pa: number, word: bigint): void {
    this.#memory.writeU64(pa, word);
    this.#trace(table, pa, table.bits / 64);
  }

  word(pa: number): bigint {
    return this.#memory.readU64(pa) ?? 0n;
  }

  #trace(table: FieldTable, pa: number, count: number): void {
    if (this.#tracer?.listener === undefined) return;
    const words = Array.from({ length: table.bits / 64 }, (_, i) => this.word(pa + i * 8));
    const fields = decodeFields(table, words).filter((field) => field.value !== 0n);
    const meaning = fields.map((field) => `${field.name}=${field.meaning ?? `0x${field.value.toString(16)}`}`).join(" ");
    this.#tracer.listener({ kind: "table-write", unit: this.#unit, structure: table.structure, pa, value: words[0], count, meaning: meaning || "all zero" });
  }
}
