/**
 * Physical memory as an IOMMU sees it: RAM, windows onto memory that lives
 * elsewhere (a client's pinned pages), and registers.
 *
 * The RAM that begins at address 0, up to 256 MiB of it, is one typed array: the *bank*. Page tables
 * live there, and the walker indexes it directly (ARCHITECTURE.md, "Speed"); the operating system gives its pages
 * on first touch. All other RAM is sparse: blocks of 1 MiB that are made when they are first written.
 */
import type { MemoryBackend, MmioHandler } from "./types.js";

/** The bank's size, whatever RAM there is. */
export const BANK_BYTES: number = 2 ** 28;
const BLOCK_BYTES = 2 ** 20;
/** Highest physical address + 1 of any architecture modelled here. */
export const PHYSICAL_LIMIT: number = 2 ** 52;

if (new Uint8Array(new Uint32Array([1]).buffer)[0] !== 1) {
  throw new Error("iommukit needs a little-endian machine");
}

interface Region {
  readonly base: number;
  readonly end: number;
  readonly backend: MemoryBackend | undefined;
  readonly mmio: MmioHandler | undefined;
}

export class PhysicalMemory {
  /** The bank's words, from physical address 0 on; zeros where there is no RAM. For walkers: read only. */
  readonly words: Int32Array = new Int32Array(BANK_BYTES / 4);
  /** Halves of the word that `load64` read, as signed 32-bit numbers. */
  lo = 0;
  hi = 0;

  /** Sorted by base, not overlapping. */
  readonly #regions: Region[] = [];
  #last: Region | undefined;
  #bank: Uint8Array = new Uint8Array(0);
  readonly #blocks = new Map<number, Uint8Array>();
  readonly #word = new Uint8Array(8);
  readonly #wordView = new DataView(this.#word.buffer);

  /** Adds RAM. `base` and `size` are multiples of 4096. Throws RangeError on overlap. */
  addRam(base: number, size: number): void {
    this.#add(base, size, undefined, undefined);
    if (base !== 0) return;
    this.#bank = new Uint8Array(this.words.buffer, 0, Math.min(size, BANK_BYTES));
  }

  /** Adds a window onto `backend`. `base` and `size` are multiples of 4096. */
  addWindow(base: number, size: number, backend: MemoryBackend): void {
    this.#add(base, size, backend, undefined);
  }

  /** Removes the window that begins at `base`. */
  removeWindow(base: number): void {
    const at = this.#firstAbove(base) - 1;
    if (this.#regions[at]?.base !== base || this.#regions[at].backend === undefined) {
      throw new RangeError(`no window begins at 0x${base.toString(16)}`);
    }
    this.#regions.splice(at, 1);
    this.#last = undefined;
  }

  addMmio(base: number, size: number, handler: MmioHandler): void {
    this.#add(base, size, undefined, handler);
  }

  /** Fills `target` from `pa` on. False, with `target` partly filled, when some byte has nothing behind it. */
  read(pa: number, target: Uint8Array): boolean {
    return this.#each(pa, target.length, (region, at, from, to) => {
      const part = target.subarray(from, to);
      if (region.backend) return attempt(() => region.backend?.read(at - region.base, part));
      if (region.mmio) return this.#readMmioBytes(region, at, part);
      this.#copyRam(at, part, false);
      return true;
    });
  }

  /** Stores `source` at `pa`. False, with some bytes stored, when some byte has nothing behind it. */
  write(pa: number, source: Uint8Array): boolean {
    return this.#each(pa, source.length, (region, at, from, to) => {
      const part = source.subarray(from, to);
      if (region.backend) return attempt(() => region.backend?.write(at - region.base, part));
      if (region.mmio) return this.#writeMmioBytes(region, at, part);
      this.#copyRam(at, part, true);
      return true;
    });
  }

  /** Stores zeros. False when some byte has nothing behind it. */
  clear(pa: number, size: number): boolean {
    if (!this.inBank(pa, size)) return this.write(pa, new Uint8Array(size));
    this.#bank.fill(0, pa, pa + size);
    return true;
  }

  /** Reads the aligned 8-byte word at `pa` into `lo` and `hi`. False when nothing answers. */
  load64(pa: number): boolean {
    if (pa < this.#bank.length) {
      const word = pa >>> 2;
      this.lo = this.words[word];
      this.hi = this.words[word + 1];
      return true;
    }
    if (!this.read(pa, this.#word)) return false;
    this.lo = this.#wordView.getInt32(0, true);
    this.hi = this.#wordView.getInt32(4, true);
    return true;
  }

  /** Stores an aligned 8-byte word. False when nothing takes it. */
  store64(pa: number, lo: number, hi: number): boolean {
    if (pa >= this.#bank.length) {
      this.#wordView.setInt32(0, lo, true);
      this.#wordView.setInt32(4, hi, true);
      return this.write(pa, this.#word);
    }
    const word = pa >>> 2;
    this.words[word] = lo;
    this.words[word + 1] = hi;
    return true;
  }

  /** Stores an aligned 4-byte word. False when nothing takes it. */
  store32(pa: number, value: number): boolean {
    if (pa >= this.#bank.length) {
      this.#wordView.setInt32(0, value, true);
      return this.write(pa, this.#word.subarray(0, 4));
    }
    this.words[pa >>> 2] = value;
    return true;
  }

  /** ORs bits into an aligned 8-byte word in one step, as A/D updates do. */
  or64(pa: number, lo: number, hi: number): boolean {
    return this.load64(pa) && this.store64(pa, this.lo | lo, this.hi | hi);
  }

  readU64(pa: number): bigint | undefined {
    if (!this.load64(pa)) return undefined;
    return (BigInt(this.hi >>> 0) << 32n) | BigInt(this.lo >>> 0);
  }

  writeU64(pa: number, value: bigint): boolean {
    return this.store64(pa, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
  }

  /** Register access; all ones where no register answers. */
  readMmio(pa: number, size: number): bigint {
    const region = this.#find(pa);
    return region?.mmio?.read(pa - region.base, size) ?? (1n << BigInt(size * 8)) - 1n;
  }

  writeMmio(pa: number, size: number, value: bigint): void {
    const region = this.#find(pa);
    region?.mmio?.write(pa - region.base, size, value);
  }

  /** True when the range is RAM in the bank. */
  inBank(pa: number, size: number): boolean {
    return pa + size <= this.#bank.length;
  }

  /** True when every byte of the range is RAM. */
  isRam(pa: number, size: number): boolean {
    return this.#each(pa, size, (region) => region.backend === undefined && region.mmio === undefined);
  }

  #add(base: number, size: number, backend: MemoryBackend | undefined, mmio: MmioHandler | undefined): void {
    const end = base + size;
    const aligned = base % 4096 === 0 && size % 4096 === 0;
    if (!aligned || size <= 0 || base < 0 || end > PHYSICAL_LIMIT) {
      throw new RangeError(`region 0x${base.toString(16)} + 0x${size.toString(16)} is not made of whole pages below 2^52`);
    }
    const at = this.#firstAbove(base);
    if ((this.#regions[at - 1]?.end ?? 0) > base || (this.#regions[at]?.base ?? Infinity) < end) {
      throw new RangeError(`region 0x${base.toString(16)} + 0x${size.toString(16)} overlaps another`);
    }
    this.#regions.splice(at, 0, { base, end, backend, mmio });
    this.#last = undefined;
  }

  /** Index of the first region that begins above `pa`. */
  #firstAbove(pa: number): number {
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#regions[middle].base > pa) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #find(pa: number): Region | undefined {
    if (this.#last !== undefined && pa >= this.#last.base && pa < this.#last.end) return this.#last;
    const region = this.#regions[this.#firstAbove(pa) - 1];
    if (region === undefined || pa >= region.end) return undefined;
    this.#last = region;
    return region;
  }

  /** Visits the parts of a range, region by region; stops at the first hole or refusal. */
  #each(pa: number, length: number, visit: (region: Region, at: number, from: number, to: number) => boolean): boolean {
    for (let done = 0; done < length; ) {
      const region = this.#find(pa + done);
      if (region === undefined) return false;
      const to = Math.min(length, region.end - pa);
      if (!visit(region, pa + done, done, to)) return false;
      done = to;
    }
    return true;
  }

  #copyRam(pa: number, bytes: Uint8Array, store: boolean): void {
    for (let done = 0; done < bytes.length; ) {
      const at = pa + done;
      const inBank = at < this.#bank.length;
      const offset = inBank ? at : at % BLOCK_BYTES;
      const length = Math.min(bytes.length - done, (inBank ? this.#bank.length : BLOCK_BYTES) - offset);
      const ram = inBank ? this.#bank : this.#block(at, store);
      const part = bytes.subarray(done, done + length);
      if (ram === undefined) part.fill(0);
      else if (store) ram.set(part, offset);
      else part.set(ram.subarray(offset, offset + length));
      done += length;
    }
  }

  /** The block around `pa`; undefined when it was never written and `create` is false. */
  #block(pa: number, create: boolean): Uint8Array | undefined {
    const number = Math.floor(pa / BLOCK_BYTES);
    let block = this.#blocks.get(number);
    if (block === undefined && create) {
      block = new Uint8Array(BLOCK_BYTES);
      this.#blocks.set(number, block);
    }
    return block;
  }

  #readMmioBytes(region: Region, at: number, part: Uint8Array): boolean {
    const size = part.length;
    if (!isRegisterAccess(at, size)) return false;
    let value = region.mmio?.read(at - region.base, size) ?? 0n;
    for (let i = 0; i < size; i++) {
      part[i] = Number(value & 0xffn);
      value >>= 8n;
    }
    return true;
  }

  #writeMmioBytes(region: Region, at: number, part: Uint8Array): boolean {
    if (!isRegisterAccess(at, part.length)) return false;
    let value = 0n;
    for (let i = part.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(part[i]);
    region.mmio?.write(at - region.base, part.length, value);
    return true;
  }
}

function isRegisterAccess(at: number, size: number): boolean {
  return (size === 1 || size === 2 || size === 4 || size === 8) && at % size === 0;
}

/** A backend that refuses (its client died) is a place where nothing answers. */
function attempt(access: () => void): boolean {
  try {
    access();
    return true;
  } catch {
    return false;
  }
}
