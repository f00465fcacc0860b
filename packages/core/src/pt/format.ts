/**
 * Page-table formats as plain data. One factory makes them all with the same
 * keys in the same order, so that the one walker sees one hidden class however
 * many formats a process has loaded (ARCHITECTURE.md, "Speed").
 *
 * Vocabulary: level 0 holds leaves only, the top level is the highest; an entry
 * is a *leaf* or points to a *table*. Input addresses are 4 KiB page numbers.
 */


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
  /** An entry is present when (lo & presentMask) meets presentValue; a presentValue of 0 means "any bit set". */
  readonly presentMask: number;
  readonly presentValue: number;
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
  /** Bits that must be zero, by level * 2 + (leaf ? 1 : 0). */
  readonly reservedLo: Int32Array;
  readonly reservedHi: Int32Array;
  /** Bits that the editor puts into table entries, into leaves at level 0, and into leaves above. */
  readonly tableLo: number;
  readonly pageLo: number;
  readonly blockLo: number;
}

export interface PageTableFormatOptions {
  readonly name: string;
  readonly granuleShift?: number;
  readonly maxLevel: number;
  readonly presentMask: number;
  readonly presentValue?: number;
  readonly leafMask: number;
  readonly leafValue: number;
  readonly pageMask?: number;
  readonly pageValue?: number;
  /** Levels above 0 that allow leaves. */
  readonly leafLevels: readonly number[];
  readonly illegalLeaf?: number;
  /** Highest address bit + 1 that an entry may hold; the address field is [addressWidth - 1 : granuleShift]. */
  readonly addressWidth: number;
  /** Reserved bits of an entry; superpage low address bits are added by the factory unless `lowBits` says otherwise. */
  readonly reserved: (level: number, leaf: boolean) => bigint;
  readonly tableLo: number;
  readonly pageLo?: number;
  readonly blockLo?: number;
}

/** Makes a format. The only function that does. */
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
  return {
    name: options.name,
    granuleShift,
    indexBits: granuleShift - 3,
    maxLevel: options.maxLevel,
    presentMask: options.presentMask,
    presentValue: options.presentValue ?? 0,
    leafMask: options.leafMask,
    leafValue: options.leafValue,
    pageMask: options.pageMask ?? 0,
    pageValue: options.pageValue ?? 0,
    leafLevels,
    illegalLeaf: options.illegalLeaf ?? IllegalLeaf.RESERVED,
    addressLo: Number(BigInt.asIntN(32, address)),
    addressHi: Number(BigInt.asIntN(32, address >> 32n)),
    reservedLo,
    reservedHi,
    tableLo: options.tableLo,
    pageLo: options.pageLo ?? 0,
    blockLo: options.blockLo ?? 0,
  };
}

/** log2 of the bytes that one entry of `level` covers. */
export function levelShift(format: PageTableFormat, level: number): number {
  return format.granuleShift + level * format.indexBits;
}
