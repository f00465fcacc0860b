/**
 * The walker: one function for every format. It reads entries as pairs of
 * 32-bit words and allocates nothing.
 *
 * At each level it checks, in this order: memory answers, entry present,
 * reserved bits. Permissions are the caller's business: it finds the AND of all
 * entries in the result.
 */
import { BANK_BYTES, type PhysicalMemory } from "../memory/physical-memory.js";
import { entryFrame, IllegalLeaf, levelShift, type PageTableFormat } from "./format.js";

export const WalkStatus = {
  OK: 0,
  NOT_PRESENT: 1,
  RESERVED: 2,
  /** No memory at the entry's address. */
  BUS_ERROR: 3,
} as const;

/** What a walk met; reused from walk to walk. */
export class WalkResult {
  /** Level of the last entry read. */
  level = 0;
  /** The last entry read. */
  entryLo = 0;
  entryHi = 0;
  /** AND of the low words of every entry that passed the checks, the leaf included. */
  andLo = 0;
  /** The same for the high words; only for formats whose presence is in the high word. */
  andHi = 0;
  /** OR of the high words of the table entries that passed: what they take away from the leaf. */
  tableHi = 0;
  /** Output 4 KiB page number for the input page. It begins as a fraction, so that it is always stored as a double. */
  outPage = 0.5;
}

/**
 * Walks the table at physical address `root` (4 KiB aligned) from `topLevel` down.
 *
 * Three to five levels of plain entries with 4 KiB pages are followed here, in RAM's bank; whatever is not as
 * plain as that, every fault included, goes to `walkByRules`. There is no loop, because V8 looks at the array anew at
 * each turn of one, and it is short enough to be inlined: either would cost a third of the speed.
 * @param page input address >> 12, up to 2^52; bits above the top index are ignored
 * @returns `WalkStatus`
 */
export function walk(
  memory: PhysicalMemory,
  format: PageTableFormat,
  root: number,
  topLevel: number,
  page: number,
  out: WalkResult,
): number {
  if (root >= BANK_BYTES || ((format.plainTops >>> topLevel) & 1) === 0) return walkByRules(memory, format, root, topLevel, page, out);
  const { words } = memory;
  let table = root >>> 2;
  let and = -1;
  if (topLevel === 4) {
    and = plainTable(words, format, table, (page / 0x10_0000_0000) | 0);
    table = (and & format.addressLo) >>> 2;
  }
  if (topLevel >= 3) {
    const entry = plainTable(words, format, table, (page / 0x800_0000) | 0);
    and &= entry;
    table = (entry & format.addressLo) >>> 2;
  }
  const second = plainTable(words, format, table, page >>> 18);
  const first = plainTable(words, format, (second & format.addressLo) >>> 2, page >>> 9);
  and &= second & first;
  // An entry that is not plain left 0, and what was read after it means nothing.
  return and !== 0 && plainPage(words, format, (first & format.addressLo) >>> 2, page, and, out)
    ? WalkStatus.OK
    : walkByRules(memory, format, root, topLevel, page, out);
}

/**
 * A walk of plain entries alone, without a result object. Bits 31:12 of what it returns are the page's low word, as are the others but for those
 * in `flags`, which are the AND of every entry's; the page's high word is in `memory.hi`. 0 when some entry is not plain: ask `walk` then.
 * @param root word index of the top table in the bank @param topLevel one of the format's `plainTops`
 */
export function walkPlain(memory: PhysicalMemory, format: PageTableFormat, root: number, topLevel: number, page: number, flags: number): number {
  const { words } = memory;
  let table = root;
  let and = -1;
  if (topLevel === 4) {
    and = plainTable(words, format, table, (page / 0x10_0000_0000) | 0);
    table = (and & format.addressLo) >>> 2;
  }
  if (topLevel >= 3) {
    const entry = plainTable(words, format, table, (page / 0x800_0000) | 0);
    and &= entry;
    table = (entry & format.addressLo) >>> 2;
  }
  const second = plainTable(words, format, table, page >>> 18);
  const first = plainTable(words, format, (second & format.addressLo) >>> 2, page >>> 9);
  and &= second & first;
  const at = ((first & format.addressLo) >>> 2) + ((page & 511) << 1);
  const lo = words[at];
  const hi = words[at + 1];
  memory.hi = hi;
  if (and === 0 || (lo & format.presentMask) === 0 || (lo & format.plainPageMask) !== format.plainPageValue || (hi & format.plainPageHi) !== 0) return 0;
  return lo & (and | ~flags);
}

/** Low word of the plain table entry at `index` (mod 512) of the table at word `table`; 0 when it is not one. */
function plainTable(words: Int32Array, format: PageTableFormat, table: number, index: number): number {
  const at = table + ((index & 511) << 1);
  const lo = words[at];
  return (lo & format.plainTableMask) === format.plainTableValue && words[at + 1] === 0 ? lo : 0;
}

/** Fills `out` when the entry is a plain page. */
function plainPage(words: Int32Array, format: PageTableFormat, table: number, page: number, and: number, out: WalkResult): boolean {
  const at = table + ((page & 511) << 1);
  const lo = words[at];
  const hi = words[at + 1];
  if ((lo & format.presentMask) === 0) return false;
  if ((lo & format.plainPageMask) !== format.plainPageValue || (hi & format.plainPageHi) !== 0) return false;
  out.level = 0;
  out.entryLo = lo;
  out.entryHi = hi;
  out.andLo = and & lo;
  out.tableHi = 0;
  out.outPage = ((hi & format.addressHi) << 20) | ((lo & format.addressLo) >>> 12);
  return true;
}

/** The same walk for every entry, table and size, with tables anywhere: in windows, above the bank, or nowhere. */
function walkByRules(
  memory: PhysicalMemory,
  format: PageTableFormat,
  root: number,
  topLevel: number,
  page: number,
  out: WalkResult,
): number {
  out.andLo = -1;
  out.andHi = -1;
  out.tableHi = 0;
  let table = root;
  for (let level = topLevel; ; level--) {
    out.level = level;
    if (!memory.load64(entryAddress(format, table, level, page))) return WalkStatus.BUS_ERROR;
    const { lo, hi } = memory;
    out.entryLo = lo;
    out.entryHi = hi;
    const kind = classifyEntry(format, level, lo, hi);
    if (kind === EntryKind.NOT_PRESENT) return WalkStatus.NOT_PRESENT;
    if (kind === EntryKind.RESERVED) return WalkStatus.RESERVED;
    out.andLo &= lo;
    out.andHi &= hi;
    const frame = entryFrame(format, lo, hi);
    if (kind === EntryKind.LEAF) {
      const pages = 2 ** (levelShift(format, level) - 12);
      out.outPage = frame - (frame % pages) + (page % pages);
      return WalkStatus.OK;
    }
    out.tableHi |= hi;
    table = frame * 4096;
  }
}

export const EntryKind = { NOT_PRESENT: 0, TABLE: 1, LEAF: 2, RESERVED: 3 } as const;

/** What an entry is by its format's rules: an `EntryKind`. */
export function classifyEntry(format: PageTableFormat, level: number, lo: number, hi: number): number {
  if (((lo & format.presentMask) | (hi & format.presentHi)) === 0) return EntryKind.NOT_PRESENT;
  let leaf = level === 0 || (lo & format.leafMask) === format.leafValue;
  if (level === 0 && (lo & format.pageMask) !== format.pageValue) return EntryKind.NOT_PRESENT;
  if (leaf && ((format.leafLevels >>> level) & 1) === 0) {
    // The leaf bit is then one of the reserved bits of a table entry, or makes the entry absent.
    if (format.illegalLeaf === IllegalLeaf.NOT_PRESENT) return EntryKind.NOT_PRESENT;
    leaf = false;
  }
  const row = level * 2 + Number(leaf);
  if ((lo & format.reservedLo[row]) !== 0 || (hi & format.reservedHi[row]) !== 0) return EntryKind.RESERVED;
  return leaf ? EntryKind.LEAF : EntryKind.TABLE;
}

/** Physical address of the entry for `page` in the table of `level` at `table`. */
export function entryAddress(format: PageTableFormat, table: number, level: number, page: number): number {
  const shift = levelShift(format, level) - 12;
  return table + (Math.floor(page / 2 ** shift) % 2 ** format.indexBits) * 8;
}

/**
 * ORs flags into the entries that a walk from `root` reads, as accessed and dirty updates do: `accessed` into each down to
 * `leafLevel`, `dirty` into that one as well. An entry that has them is not written. False when memory refuses one; those above it are
 * changed then.
 */
export function setFlags(
  memory: PhysicalMemory,
  format: PageTableFormat,
  root: number,
  topLevel: number,
  page: number,
  leafLevel: number,
  accessed: number,
  dirty: number,
): boolean {
  let table = root;
  for (let level = topLevel; level >= leafLevel; level--) {
    const flags = level === leafLevel ? accessed | dirty : accessed;
    const at = entryAddress(format, table, level, page);
    if (!memory.load64(at) || ((memory.lo & flags) !== flags && !memory.or64(at, flags, 0))) return false;
    table = entryFrame(format, memory.lo, memory.hi) * 4096;
  }
  return true;
}
