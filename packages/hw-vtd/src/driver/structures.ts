/** Entries of the unit's tables in memory, as the driver writes them: complete before they are present, and traced. */
import { decodeFields, encodeFields, type FieldTable, type PhysicalMemory, type Tracer } from "@iommukit/core";

/** Fields by name; what is left out is 0. */
export type Fields = Readonly<Record<string, bigint>>;

const PRESENT = 1n;

export class Structures {
  readonly #memory: PhysicalMemory;
  readonly #unit: string;
  readonly #tracer: Tracer | undefined;

  constructor(memory: PhysicalMemory, unit: string, tracer: Tracer | undefined) {
    this.#memory = memory;
    this.#unit = unit;
    this.#tracer = tracer;
  }

  /** Writes an entry with the word of its present bit last: no half-written entry is ever valid (VT-d 9). */
  write(table: FieldTable, pa: number, fields: Fields): void {
    const words = encodeFields(table, fields);
    for (let i = words.length - 1; i >= 0; i--) this.#memory.writeU64(pa + i * 8, words[i]);
    this.#trace(table, pa);
  }

  /** Writes one word of an entry: one store, so that hardware sees the old or the new one. */
  writeWord(table: FieldTable, pa: number, index: number, word: bigint): void {
    this.#memory.writeU64(pa + index * 8, word);
    this.#trace(table, pa);
  }

  /** Takes the present bit away and leaves the rest: caches are told by what they know the entry by. */
  setAbsent(table: FieldTable, pa: number): void {
    this.writeWord(table, pa, 0, this.word(pa) & ~PRESENT);
  }

  clear(table: FieldTable, pa: number): void {
    for (let i = 0; i < table.bits / 64; i++) this.#memory.writeU64(pa + i * 8, 0n);
    this.#trace(table, pa);
  }

  word(pa: number): bigint {
    return this.#memory.readU64(pa) ?? 0n;
  }

  /** Bits 63:12 of a present entry's first word as an address; 0 for an absent one. */
  pointer(pa: number): number {
    const word = this.word(pa);
    return (word & PRESENT) === 0n ? 0 : Number(word >> 12n) * 4096;
  }

  #trace(table: FieldTable, pa: number): void {
    if (this.#tracer?.listener === undefined) return;
    const words = Array.from({ length: table.bits / 64 }, (_, i) => this.word(pa + i * 8));
    const fields = decodeFields(table, words).filter((field) => field.value !== 0n);
    const meaning = fields.map((field) => `${field.name}=${field.meaning ?? `0x${field.value.toString(16)}`}`).join(" ");
    this.#tracer.listener({
      kind: "table-write",
      unit: this.#unit,
      structure: table.structure,
      pa,
      value: words.find((word) => word !== 0n) ?? 0n,
      count: 1,
      meaning: (words[0] & PRESENT) !== 0n ? meaning : `not present ${meaning}`.trimEnd(),
    });
  }
}
