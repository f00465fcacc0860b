/** The walk as the definition of a format says it, in BigInt and with nothing shared with the walker: what it is compared to. */
import type { PhysicalMemory } from "../memory/physical-memory.js";
import { IllegalLeaf, type PageTableFormat } from "../pt/format.js";

export interface NaiveWalk {
  readonly status: "ok" | "not present" | "reserved bit" | "bus error";
  /** Level of the last entry read. */
  readonly level: number;
  /** The last entry read; absent when no memory answered. */
  readonly entry?: bigint;
  /** AND of the low words of the entries that passed, the leaf included. */
  readonly common: bigint;
  /** OR of the high words of the table entries that passed. */
  readonly tables: bigint;
  /** Output address, when ok. */
  readonly output?: bigint;
}

const word = (value: number): bigint => BigInt.asUintN(32, BigInt(value));

/** Walks the table at `root` for input address `address`. */
export function naiveWalk(memory: PhysicalMemory, format: PageTableFormat, root: number, topLevel: number, address: bigint): NaiveWalk {
  const addressBits = (word(format.addressHi) << 32n) | word(format.addressLo);
  let table = BigInt(root);
  let common = 0xffff_ffffn;
  let tables = 0n;
  for (let level = topLevel; ; level--) {
    const size = 1n << BigInt(format.granuleShift + level * format.indexBits);
    const index = (address / size) % (1n << BigInt(format.indexBits));
    const entry = memory.readU64(Number(table + index * 8n));
    if (entry === undefined) return { status: "bus error", level, common, tables };
    if ((entry & word(format.presentMask)) === 0n) return { status: "not present", level, entry, common, tables };
    let leaf = level === 0 || (entry & word(format.leafMask)) === word(format.leafValue);
    if (level === 0 && (entry & word(format.pageMask)) !== word(format.pageValue)) return { status: "not present", level, entry, common, tables };
    if (leaf && ((format.leafLevels >> level) & 1) === 0) {
      if (format.illegalLeaf === IllegalLeaf.NOT_PRESENT) return { status: "not present", level, entry, common, tables };
      leaf = false;
    }
    const row = level * 2 + (leaf ? 1 : 0);
    const reserved = (word(format.reservedHi[row]) << 32n) | word(format.reservedLo[row]);
    if ((entry & reserved) !== 0n) return { status: "reserved bit", level, entry, common, tables };
    common &= entry;
    const target = (entry & addressBits) + (entry & BigInt(format.foldedLo)) * BigInt(format.foldedUnit) * 4096n;
    if (leaf) return { status: "ok", level, entry, common, tables, output: (target / size) * size + (address % size) };
    tables |= entry >> 32n;
    table = target;
  }
}
