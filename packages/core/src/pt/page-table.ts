/**
 * The editor: builds tables of any format in physical memory, by extent. It
 * knows nothing of caches: whoever unmaps invalidates, then gives the freed
 * table frames back.
 */
import { refuse } from "../errors.js";
import type { FrameAllocator } from "../memory/frame-allocator.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import { entryFrame, frameHi, frameLo, type PageTableFormat } from "./format.js";
import { WalkResult, WalkStatus, walk } from "./walk.js";

/** Told of each run of consecutive words written: `value` is the first, `page` the input page it begins at. */
export type TableWriteListener = (level: number, leaf: boolean, pa: number, value: bigint, count: number, page: number) => void;

export interface UnmapResult {
  /** Input pages that were mapped and are not any more. */
  readonly removed: number;
  /** Table frames that nothing points to; give them back after the invalidation. */
  readonly freed: number[];
}

export class PageTable {
  /** Physical address of the top table. */
  readonly root: number;
  readonly format: PageTableFormat;
  readonly topLevel: number;
  readonly #memory: PhysicalMemory;
  readonly #frames: FrameAllocator;
  readonly #onWrite: TableWriteListener | undefined;
  readonly #result = new WalkResult();
  /** Frames of one table: what `unmap` gives back has so many. */
  readonly tableFrames: number;
  readonly #startTables: number;
  readonly #entries: number;

  /** @param startTables that lie side by side and are walked as one with a wider index (Arm DDI0487 D8.2, concatenated tables) */
  constructor(
    memory: PhysicalMemory,
    frames: FrameAllocator,
    format: PageTableFormat,
    topLevel: number,
    onWrite?: TableWriteListener,
    startTables = 1,
  ) {
    this.#memory = memory;
    this.#frames = frames;
    this.format = format;
    this.topLevel = topLevel;
    this.#onWrite = onWrite;
    this.tableFrames = 2 ** (format.granuleShift - 12);
    this.#startTables = startTables;
    this.#entries = 2 ** format.indexBits;
    this.root = frames.alloc(this.tableFrames * startTables);
  }

  /** Entries of a table of `level`. */
  #entriesOf(level: number): number {
    return level === this.topLevel ? this.#entries * this.#startTables : this.#entries;
  }

  /** Input 4 KiB pages that one entry of `level` covers. */
  #span(level: number): number {
    return 2 ** (this.format.granuleShift - 12 + level * this.format.indexBits);
  }

  /**
   * Maps `count` pages from `page` to `outPage` on, with the largest leaves that fit.
   * `leafLo`, `leafHi`: permission and attribute bits of a leaf.
   * @throws IommuError EEXIST when a page is mapped already, ENOMEM; nothing is changed then
   */
  map(page: number, outPage: number, count: number, leafLo: number, leafHi = 0): void {
    const granule = this.#span(0);
    const limit = this.#span(this.topLevel) * this.#entriesOf(this.topLevel);
    if (page % granule !== 0 || outPage % granule !== 0 || count % granule !== 0 || count <= 0) {
      refuse("EINVAL", `page 0x${page.toString(16)} + ${count} is not made of whole ${this.format.name} pages`, { argument: "iova" });
    }
    if (page + count > limit) refuse("EINVAL", `page 0x${page.toString(16)} + ${count} does not fit a table of ${this.topLevel + 1} levels`, { argument: "iova" });
    const taken = this.#firstMapped(this.root, this.topLevel, 0, page, page + count);
    if (taken !== -1) refuse("EEXIST", `IOVA 0x${(BigInt(taken) << 12n).toString(16)} is mapped already`, { argument: "iova" });
    let done = page;
    try {
      while (done < page + count) done += this.#mapInto(done, outPage + (done - page), page + count - done, leafLo, leafHi);
    } catch (error) {
      const { freed } = this.unmap(page, count);
      for (const table of freed) this.#frames.free(table, this.tableFrames);
      throw error;
    }
  }

  /** Maps pages from `page` on that lie in one table; returns how many. */
  #mapInto(page: number, outPage: number, count: number, leafLo: number, leafHi: number): number {
    let level = this.topLevel;
    let table = this.root;
    while (!this.#leafFits(level, page, outPage, count)) {
      table = this.#childTable(table, level, page);
      level--;
    }
    const span = this.#span(level);
    const first = Math.floor(page / span) % this.#entriesOf(level);
    const entries = Math.min(this.#entriesOf(level) - first, Math.floor(count / span));
    const lo = leafLo | (level === 0 ? this.format.pageLo : this.format.blockLo);
    this.#writeRun(table + first * 8, entries, outPage, span, lo, leafHi);
    this.#report(level, true, table + first * 8, entries, page);
    return entries * span;
  }

  #leafFits(level: number, page: number, outPage: number, count: number): boolean {
    if (((this.format.leafLevels >>> level) & 1) === 0) return false;
    const span = this.#span(level);
    return level === 0 || (page % span === 0 && outPage % span === 0 && count >= span);
  }

  /** The table below `table`'s entry for `page`, made when absent. */
  #childTable(table: number, level: number, page: number): number {
    const entry = table + (Math.floor(page / this.#span(level)) % this.#entriesOf(level)) * 8;
    const present = this.#next(entry);
    if (present !== -1) return present;
    const child = this.#frames.alloc(this.tableFrames);
    this.#link(entry, child, level, page);
    return child;
  }

  #link(entry: number, child: number, level: number, page: number): void {
    const frame = child / 4096;
    this.#memory.store64(entry, frameLo(this.format, frame) | this.format.tableLo, frameHi(this.format, frame));
    this.#report(level, false, entry, 1, page);
  }

  /** Physical address of what a present entry points to; -1 for an absent one. */
  #next(entry: number): number {
    this.#memory.load64(entry);
    const { lo, hi } = this.#memory;
    if (!this.#isPresent(lo)) return -1;
    return entryFrame(this.format, lo, hi) * 4096;
  }

  #isPresent(lo: number): boolean {
    return (lo & this.format.presentMask) !== 0;
  }

  #isLeaf(lo: number, level: number): boolean {
    return level === 0 || (((this.format.leafLevels >>> level) & 1) === 1 && (lo & this.format.leafMask) === this.format.leafValue);
  }

  /** `entries` consecutive leaves; the hot loop of a large map. */
  #writeRun(pa: number, entries: number, outPage: number, span: number, leafLo: number, leafHi: number): void {
    const { words } = this.#memory;
    if (this.format.foldedLo !== 0 || !this.#memory.inBank(pa, entries * 8)) {
      for (let i = 0; i < entries; i++) {
        const out = outPage + i * span;
        this.#memory.store64(pa + i * 8, frameLo(this.format, out) | leafLo, frameHi(this.format, out) | leafHi);
      }
      return;
    }
    const first = pa / 4;
    let frame = outPage % 0x100000 | 0;
    let high = Math.floor(outPage / 0x100000) | 0;
    const step = span % 0x100000 | 0;
    const highStep = Math.floor(span / 0x100000) | 0;
    for (let i = 0; i < entries * 2; i += 2) {
      words[first + i] = (frame << 12) | leafLo;
      words[first + i + 1] = high | leafHi;
      frame += step;
      high += highStep;
      if (frame >= 0x100000) {
        frame -= 0x100000;
        high++;
      }
    }
  }

  #report(level: number, leaf: boolean, pa: number, count: number, page: number): void {
    if (this.#onWrite) this.#onWrite(level, leaf, pa, this.#memory.readU64(pa) ?? 0n, count, page);
  }

  /** First mapped page of [from, end) under `table`, whose first page is `base`; -1 for none. */
  #firstMapped(table: number, level: number, base: number, from: number, end: number): number {
    const span = this.#span(level);
    const first = Math.max(0, Math.floor((from - base) / span));
    const last = Math.min(this.#entriesOf(level) - 1, Math.floor((end - 1 - base) / span));
    for (let index = first; index <= last; index++) {
      this.#memory.load64(table + index * 8);
      const { lo } = this.#memory;
      if (!this.#isPresent(lo)) continue;
      const start = base + index * span;
      if (this.#isLeaf(lo, level)) return Math.max(start, from);
      const found = this.#firstMapped(this.#next(table + index * 8), level - 1, start, from, end);
      if (found !== -1) return found;
    }
    return -1;
  }

  /** Unmaps every mapped page of [page, page + count); splits a larger leaf that sticks out. Holes are fine. */
  unmap(page: number, count: number): UnmapResult {
    const freed: number[] = [];
    const removed = this.#clear(this.root, this.topLevel, 0, page, page + count, freed);
    return { removed, freed };
  }

  #clear(table: number, level: number, base: number, from: number, end: number, freed: number[]): number {
    const span = this.#span(level);
    const first = Math.max(0, Math.floor((from - base) / span));
    const last = Math.min(this.#entriesOf(level) - 1, Math.floor((end - 1 - base) / span));
    let removed = 0;
    let runStart = -1;
    const flush = (index: number): void => {
      if (runStart === -1) return;
      for (let i = runStart; i < index; i++) this.#memory.store64(table + i * 8, 0, 0);
      this.#report(level, true, table + runStart * 8, index - runStart, base + runStart * span);
      runStart = -1;
    };
    for (let index = first; index <= last; index++) {
      const entry = table + index * 8;
      this.#memory.load64(entry);
      const { lo, hi } = this.#memory;
      const start = base + index * span;
      const whole = from <= start && start + span <= end;
      if (!this.#isPresent(lo)) {
        flush(index);
        continue;
      }
      if (this.#isLeaf(lo, level) && whole) {
        if (runStart === -1) runStart = index;
        removed += span;
        continue;
      }
      flush(index);
      if (this.#isLeaf(lo, level)) this.#split(entry, level, start, lo, hi);
      const child = this.#next(entry);
      removed += this.#clear(child, level - 1, start, from, end, freed);
      if (whole || this.#isEmpty(child)) {
        this.#memory.store64(entry, 0, 0);
        this.#report(level, false, entry, 1, start);
        freed.push(child);
      }
    }
    flush(last + 1);
    return removed;
  }

  #isEmpty(table: number): boolean {
    for (let index = 0; index < this.#entries; index++) {
      this.#memory.load64(table + index * 8);
      if (this.#memory.lo !== 0 || this.#memory.hi !== 0) return false;
    }
    return true;
  }

  /** Replaces a leaf by a table of leaves one level down that says the same. The new table is complete before it is linked. */
  #split(entry: number, level: number, page: number, lo: number, hi: number): void {
    const span = this.#span(level - 1);
    const frame = entryFrame(this.format, lo, hi);
    const outPage = frame - (frame % this.#span(level));
    const bits = lo & ~this.format.addressLo & ~this.format.foldedLo & ~this.format.blockLo & ~this.format.leafMask;
    const leafLo = bits | (level === 1 ? this.format.pageLo : this.format.blockLo | this.format.leafValue);
    const child = this.#frames.alloc(this.tableFrames);
    this.#writeRun(child, this.#entries, outPage, span, leafLo, hi & ~this.format.addressHi);
    this.#report(level - 1, true, child, this.#entries, page);
    this.#link(entry, child, level, page);
  }

  /** Output page for an input page; -1 when not mapped. */
  lookup(page: number): number {
    const above = this.#startTables === 1 ? 0 : Math.floor(page / (this.#span(this.topLevel) * this.#entries));
    if (above >= this.#startTables) return -1;
    const status = walk(this.#memory, this.format, this.root + above * this.tableFrames * 4096, this.topLevel, page, this.#result);
    return status === WalkStatus.OK ? this.#result.outPage : -1;
  }

  /** Gives back every table. */
  free(): void {
    const { freed } = this.unmap(0, this.#span(this.topLevel) * this.#entriesOf(this.topLevel));
    for (const table of freed) this.#frames.free(table, this.tableFrames);
    this.#frames.free(this.root, this.tableFrames * this.#startTables);
  }
}
