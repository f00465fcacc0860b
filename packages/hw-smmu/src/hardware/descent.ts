/**
 * A walk that remembers where each descriptor lies, for whatever core's walker does not do: tables that stage 2 translates,
 * big-endian ones, and descriptors that are to be updated.
 */
import { classifyEntry, entryFrame, EntryKind, type PageTableFormat, type PhysicalMemory } from "@iommukit/core";

/** 4 KiB pages that an entry covers, by granule (4K, 16K, 64K) and level. */
const UNITS: readonly Float64Array[] = [12, 14, 16].map((shift) => Float64Array.from({ length: 5 }, (_, level) => 2 ** (shift + level * (shift - 3) - 12)));

export const DescentStatus = { OK: 0, NOT_PRESENT: 1, ADDRESS_SIZE: 2, NO_MEMORY: 3, REFUSED: 4 } as const;

/** Turns a table's address into a physical one; -1 when stage 2 refuses it. */
export type TableAddress = (address: number) => number;

export class Descent {
  /** Level of the last descriptor read, and the descriptor. */
  level = 0;
  lo = 0;
  hi = 0;
  /** Level of the first descriptor read. */
  startLevel = 0;
  /** OR of the high words of table descriptors: the hierarchical permissions. */
  tableHi = 0;
  outPage = 0.5;
  /** By level: where the descriptor lies, as the table above says and in memory. */
  readonly addresses: Float64Array = new Float64Array(5);
  readonly physical: Float64Array = new Float64Array(5);
  /** By level: the descriptor's low word. */
  readonly lows: Int32Array = new Int32Array(5);
  /** By level of a table descriptor: the 4 KiB page of the table below, and `tableHi` down to there. */
  readonly tables: Float64Array = new Float64Array(5);
  readonly tableHis: Int32Array = new Int32Array(5);
  readonly #memory: PhysicalMemory;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
  }

  /**
   * @param translate for tables at intermediate addresses
   * @param tableHi of tables above the root
   * @param fixedRoot physical address of the root when it needs no translation, else -1
   * @returns `DescentStatus`
   */
  run(
    format: PageTableFormat, root: number, topLevel: number, page: number, bigEndian: boolean, translate: TableAddress | undefined,
    tableHi: number, fixedRoot: number,
  ): number {
    this.startLevel = topLevel;
    this.tableHi = tableHi;
    const units = UNITS[(format.granuleShift - 12) >> 1];
    const mask = (1 << format.indexBits) - 1;
    let table = root;
    for (let level = topLevel; ; level--) {
      const unit = units[level];
      // The conversion keeps the low 32 bits, which hold the index.
      const address = table + ((page / unit) & mask) * 8;
      const isFixed = level === topLevel && fixedRoot !== -1;
      const physical = isFixed ? fixedRoot + (address - root) : translate === undefined ? address : translate(address);
      this.level = level;
      this.addresses[level] = address;
      this.physical[level] = physical;
      if (physical === -1) return DescentStatus.REFUSED;
      if (!this.#memory.load64(physical)) return DescentStatus.NO_MEMORY;
      const { lo, hi } = this.#memory;
      this.lo = bigEndian ? swap(hi) : lo;
      this.hi = bigEndian ? swap(lo) : hi;
      this.lows[level] = this.lo;
      const kind = classifyEntry(format, level, this.lo, this.hi);
      if (kind === EntryKind.NOT_PRESENT) return DescentStatus.NOT_PRESENT;
      if (kind === EntryKind.RESERVED) return DescentStatus.ADDRESS_SIZE;
      const frame = entryFrame(format, this.lo, this.hi);
      if (kind === EntryKind.LEAF) {
        this.outPage = unit === 1 ? frame : frame - (frame % unit) + (page % unit);
        return DescentStatus.OK;
      }
      this.tableHi |= this.hi;
      this.tables[level] = frame;
      this.tableHis[level] = this.tableHi;
      table = frame * 4096;
    }
  }

  /** Sets and clears bits of the low word of the descriptor of `level`. False when memory does not take it. */
  update(level: number, set: number, clear: number, bigEndian: boolean): boolean {
    const at = this.physical[level];
    if (!this.#memory.load64(at)) return false;
    const { lo, hi } = this.#memory;
    if (bigEndian) return this.#memory.store64(at, lo, (hi | swap(set)) & ~swap(clear));
    return this.#memory.store64(at, (lo | set) & ~clear, hi);
  }
}

/** The four bytes in the other order. */
function swap(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}
