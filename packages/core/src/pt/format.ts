/**
 * Page-table formats as plain data. One factory makes them all with the same
 * keys in the same order, so that the one walker sees one hidden class however
 * many formats a process has loaded (ARCHITECTURE.md, "Speed").
 *
 * Vocabulary: level 0 holds leaves only, the top level is the highest; an entry
 * is a *leaf* or points to a *table*. Input addresses are 4 KiB page numbers.
 */
import { BANK_BYTES } from "../memory/physical-memory.js";

/** What a leaf at a level without leaves is. */
export const IllegalLeaf = {
  /** The leaf bit is then reserved in a table entry (VT-d 9.7, 9.8). */
  RESERVED: 0,
  /** No translation (Arm DDI0487 D8.3). */
  NOT_PRESENT: 1,
} as const;

export interface PageTableFormat {
  readonly name: string;
  /** log2 of the smallest page: 12, 14, 16. */
  readonly granuleShift: number;
  /** Index bits of a table: granuleShift - 3. */
  readonly indexBits: number;
  /** Highest level that a walk may start at. */
  readonly maxLevel: number;
  /** An entry is present when any of these bits is set. */
  readonly presentMask: number;
  /** The same for the high word. */
  readonly presentHi: number;
  /** Above level 0 an entry is a leaf when (lo & leafMask) === leafValue. */
  readonly leafMask: number;
  readonly leafValue: number;
  /** At level 0 a present entry must have (lo & pageMask) === pageValue, else it is not present. */
  readonly pageMask: number;
  readonly pageValue: number;
  /** Bit n: leaves are allowed at level n. Bit 0 is always set. */
  readonly leafLevels: number;
  /** `IllegalLeaf` */
  readonly illegalLeaf: number;
  /** Address bits of an entry, low word (bits 31:12) and high word. */
  readonly addressLo: number;
  readonly addressHi: number;
  /**
   * Bits of the low word that hold the highest output address bits, where a format keeps them apart from the others (Arm's 52-bit
   * addresses), and the 4 KiB pages that one unit of the masked word stands for. 0 and 1 where there are none.
   */
  readonly foldedLo: number;
  readonly foldedUnit: number;
  /** Bits that must be zero, by level * 2 + (leaf ? 1 : 0). */
  readonly reservedLo: Int32Array;
  readonly reservedHi: Int32Array;
  /** Bits that the editor puts into table entries, into leaves at level 0, and into leaves above. */
  readonly tableLo: number;
  readonly pageLo: number;
  readonly blockLo: number;
  /**
   * What the walker follows without asking further. A *plain* table entry has (lo & plainTableMask) === plainTableValue and
   * a high word of 0, so that its table lies in the bank; a plain page, present, (lo & plainPageMask) === plainPageValue and
   * (hi & plainPageHi) === 0. Bit n of plainTops: a walk from top level n is so followed; none is for granules above 4 KiB.
   */
  readonly plainTops: number;
  readonly plainTableMask: number;
  readonly plainTableValue: number;
  readonly plainPageMask: number;
  readonly plainPageValue: number;
  readonly plainPageHi: number;
}

export interface PageTableFormatOptions {
  readonly name: string;
  readonly granuleShift?: number;
  readonly maxLevel: number;
  readonly presentMask: number;
  /** Presence in the high word: such a format is for walkers, the editor writes low words only. */
  readonly presentHi?: number;
  readonly leafMask: number;
  readonly leafValue: number;
  readonly pageMask?: number;
  readonly pageValue?: number;
  /** Levels above 0 that allow leaves. */
  readonly leafLevels: readonly number[];
  readonly illegalLeaf?: number;
  /** Highest address bit + 1 that an entry may hold; the address field is [addressWidth - 1 : granuleShift]. */
  readonly addressWidth: number;
  /** Low-word bits that hold output address bits from `address` on. */
  readonly folded?: { readonly mask: number; readonly address: number };
  /** Reserved bits of an entry; superpage low address bits are added by the factory unless `lowBits` says otherwise. */
  readonly reserved: (level: number, leaf: boolean) => bigint;
  readonly tableLo: number;
  readonly pageLo?: number;
  readonly blockLo?: number;
}

/** High address bits of a page whose number is at or above 2^30, so that it is not a small integer. */
const LARGE_PAGE_NUMBER = ~0x3ff;
const OUTSIDE_BANK = -BANK_BYTES;

/**
 * Makes a format. The only function that does.
 * @throws RangeError when what the editor would write is not what the format says a table or a page is
 */
export function createFormat(options: PageTableFormatOptions): PageTableFormat {
  const granuleShift = options.granuleShift ?? 12;
  const address = ((1n << BigInt(options.addressWidth)) - 1n) & ~((1n << BigInt(granuleShift)) - 1n);
  const reservedLo = new Int32Array(2 * (options.maxLevel + 1));
  const reservedHi = new Int32Array(2 * (options.maxLevel + 1));
  for (let level = 0; level <= options.maxLevel; level++) {
    for (const leaf of [false, true]) {
      const bits = options.reserved(level, leaf);
      reservedLo[level * 2 + Number(leaf)] = Number(BigInt.asIntN(32, bits));
      reservedHi[level * 2 + Number(leaf)] = Number(BigInt.asIntN(32, bits >> 32n));
    }
  }
  let leafLevels = 1;
  for (const level of options.leafLevels) leafLevels |= 1 << level;
  let tableReserved = 0;
  for (let level = 1; level <= options.maxLevel; level++) tableReserved |= reservedLo[level * 2];
  const { presentMask, leafMask, leafValue, tableLo } = options;
  const pageMask = options.pageMask ?? 0;
  const pageValue = options.pageValue ?? 0;
  const pageLo = options.pageLo ?? 0;
  const presentHi = options.presentHi ?? 0;
  if ((presentHi === 0 && (tableLo & presentMask) === 0) || (tableLo & leafMask) === leafValue || (tableLo & tableReserved) !== 0) {
    throw new RangeError(`${options.name}: tableLo 0x${tableLo.toString(16)} does not make a present table entry without reserved bits`);
  }
  if ((pageLo & pageMask) !== pageValue || (pageLo & reservedLo[1]) !== 0) {
    throw new RangeError(`${options.name}: pageLo 0x${pageLo.toString(16)} does not make a page`);
  }
  const addressHi = Number(BigInt.asIntN(32, address >> 32n));
  const { mask: foldedLo, address: foldedFrom } = options.folded ?? { mask: 0, address: 12 };
  return {
    name: options.name,
    granuleShift,
    indexBits: granuleShift - 3,
    maxLevel: options.maxLevel,
    presentMask,
    presentHi,
    leafMask,
    leafValue,
    pageMask,
    pageValue,
    leafLevels,
    illegalLeaf: options.illegalLeaf ?? IllegalLeaf.RESERVED,
    addressLo: Number(BigInt.asIntN(32, address)),
    addressHi,
    foldedLo,
    foldedUnit: 2 ** (foldedFrom - 12) / Math.max(foldedLo & -foldedLo, 1),
    reservedLo,
    reservedHi,
    tableLo,
    pageLo,
    blockLo: options.blockLo ?? 0,
    plainTops: granuleShift === 12 && presentHi === 0 ? 0b11100 : 0,
    plainTableMask: OUTSIDE_BANK | presentMask | leafMask | tableReserved | foldedLo,
    plainTableValue: tableLo & (presentMask | leafMask),
    plainPageMask: pageMask | reservedLo[1] | foldedLo,
    plainPageValue: pageValue,
    plainPageHi: reservedHi[1] | (addressHi & LARGE_PAGE_NUMBER),
  };
}

/** Output 4 KiB page number in an entry. */
/** Sizes that a leaf can have, as bits. */
export function pageSizesOf(format: PageTableFormat): bigint {
  let sizes = 0n;
  for (let level = 0; level <= format.maxLevel; level++) {
    if (((format.leafLevels >> level) & 1) === 1) sizes |= 1n << BigInt(format.granuleShift + format.indexBits * level);
  }
  return sizes;
}

export function entryFrame(format: PageTableFormat, lo: number, hi: number): number {
  return (hi & format.addressHi) * 0x100000 + ((lo & format.addressLo) >>> 12) + (lo & format.foldedLo) * format.foldedUnit;
}

/** Address bits of the low and of the high word for output page `frame`. */
export function frameLo(format: PageTableFormat, frame: number): number {
  return ((frame << 12) & format.addressLo) | (Math.floor(frame / format.foldedUnit) & format.foldedLo);
}
export function frameHi(format: PageTableFormat, frame: number): number {
  return Math.floor(frame / 0x100000) & format.addressHi;
}

/** log2 of the bytes that one entry of `level` covers. */
export function levelShift(format: PageTableFormat, level: number): number {
  return format.granuleShift + level * format.indexBits;
}
