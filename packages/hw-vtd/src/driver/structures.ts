/** Entries of the unit's tables in memory: bit 0 of each says that it is present (VT-d 9). */
import { type FieldTable, StructureWriter } from "@iommukit/core";

const PRESENT = 1n;

export class Structures extends StructureWriter {
  /** Takes the present bit away and leaves the rest: caches are told by what they know the entry by. */
  setAbsent(table: FieldTable, pa: number): void {
    this.writeWord(table, pa, 0, this.word(pa) & ~PRESENT);
  }

  /** Bits 63:12 of a present entry's first word as an address; 0 for an absent one. */
  pointer(pa: number): number {
    const word = this.word(pa);
    return (word & PRESENT) === 0n ? 0 : Number(word >> 12n) * 4096;
  }
}
