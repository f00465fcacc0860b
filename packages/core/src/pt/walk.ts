/**
 * The walker: one function for every format. It reads entries as pairs of
 * 32-bit words straight from RAM chunks and allocates nothing.
 *
 * At each level it checks, in this order: memory answers, entry present,
 * reserved bits. Permissions are the caller's business: it finds the AND and the
 * OR of all entries in the result.
 */
import { CHUNK_SHIFT, type PhysicalMemory } from "../memory/physical-memory.js";
import { IllegalLeaf, type PageTableFormat } from "./format.js";

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
  /** AND and OR of every entry that passed the checks, the leaf included. */
  andLo = 0;
  andHi = 0;
  orLo = 0;
  orHi = 0;
  /** Output 4 KiB page number for the input page. */
  outPage = 0;
  /** log2 of the leaf's size. */
  pageShift = 0;
  /** Entries read. */
  depth = 0;
  /** Physical address of each entry read, top first. */
  readonly path: Float64Array = new Float64Array(8);
}

/** log2 of pages in a chunk. */
const CHUNK_PAGE_SHIFT = CHUNK_SHIFT - 12;
const CHUNK_PAGE_MASK = (1 << CHUNK_PAGE_SHIFT) - 1;

/**
 * Walks the table at physical address `root` (4 KiB aligned) from `topLevel` down.
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
  const chunks = memory.chunks;
  const path = out.path;
  const indexBits = format.indexBits;
  const indexMask = (1 << indexBits) - 1;
  // The page number as two overlapping halves: bits 31:0, and bits 51:24. No index straddles both.
  const pageLo = page | 0;
  const pageHi = (page / 0x1000000) | 0;
  let frame = root / 4096;
  let andLo = -1;
  let andHi = -1;
  let orLo = 0;
  let orHi = 0;
  let shift = format.granuleShift - 12 + topLevel * indexBits;
  let depth = 0;
  out.andLo = -1;
  out.andHi = -1;
  out.orLo = 0;
  out.orHi = 0;
  for (let level = topLevel; ; level--) {
    const index = (shift < 24 ? pageLo >>> shift : pageHi >>> (shift - 24)) & indexMask;
    let lo: number;
    let hi: number;
    const chunk = chunks[(frame | 0) >>> CHUNK_PAGE_SHIFT];
    path[depth++] = frame * 4096 + index * 8;
    if (chunk !== undefined && chunk.length !== 0 && frame < 0x40000000) {
      const word = (((frame | 0) & CHUNK_PAGE_MASK) << 10) + (index << 1);
      lo = chunk[word];
      hi = chunk[word + 1];
    } else if (memory.load64(frame * 4096 + index * 8)) {
      lo = memory.lo;
      hi = memory.hi;
    } else {
      out.level = level;
      out.depth = depth;
      return WalkStatus.BUS_ERROR;
    }
    const present = lo & format.presentMask;
    if (format.presentValue === 0 ? present === 0 : present !== format.presentValue) {
      return stop(out, WalkStatus.NOT_PRESENT, level, depth, lo, hi);
    }
    let leaf = 1;
    if (level === 0) {
      if ((lo & format.pageMask) !== format.pageValue) return stop(out, WalkStatus.NOT_PRESENT, level, depth, lo, hi);
    } else if ((lo & format.leafMask) !== format.leafValue) {
      leaf = 0;
    } else if (((format.leafLevels >>> level) & 1) === 0) {
      if (format.illegalLeaf === IllegalLeaf.NOT_PRESENT) {
        return stop(out, WalkStatus.NOT_PRESENT, level, depth, lo, hi);
      }
      leaf = 0; // the leaf bit is one of the reserved bits of a table entry here
    }
    if ((lo & format.reservedLo[level * 2 + leaf]) !== 0 || (hi & format.reservedHi[level * 2 + leaf]) !== 0) {
      return stop(out, WalkStatus.RESERVED, level, depth, lo, hi);
    }
    andLo &= lo;
    andHi &= hi;
    orLo |= lo;
    orHi |= hi;
    const next = (hi & format.addressHi) * 0x100000 + ((lo & format.addressLo) >>> 12);
    out.andLo = andLo;
    out.andHi = andHi;
    out.orLo = orLo;
    out.orHi = orHi;
    if (leaf === 1) {
      out.pageShift = shift + 12;
      // The leaf's low address bits are ignored (or were checked as reserved above).
      if (shift < 31) {
        const offset = (1 << shift) - 1;
        out.outPage = next - ((next | 0) & offset) + (pageLo & offset);
      } else {
        const size = 2 ** shift;
        out.outPage = next - (next % size) + (page % size);
      }
      return stop(out, WalkStatus.OK, level, depth, lo, hi);
    }
    frame = next;
    shift -= indexBits;
  }
}

function stop(out: WalkResult, status: number, level: number, depth: number, lo: number, hi: number): number {
  out.level = level;
  out.depth = depth;
  out.entryLo = lo;
  out.entryHi = hi;
  return status;
}
