/**
 * Where pinned client memory appears in physical memory: one window an extent,
 * placed so that physical and user addresses agree modulo the largest page that fits,
 * which lets a page table use large leaves for them.
 */
import { refuse } from "../errors.js";
import { type Entry, IntervalTree } from "./interval-tree.js";
import type { PhysicalMemory } from "./physical-memory.js";
import type { MemoryBackend } from "./types.js";

const PAGE = 4096;
const HUGE = 2 ** 30;

export class ClientWindows implements MemoryBackend {
  readonly #first: bigint;
  readonly #last: bigint;
  readonly #open = new IntervalTree<MemoryBackend>();
  /** The window that was used last. */
  #recent: Entry<MemoryBackend> | undefined;

  /** @param first lowest address of a window; @param end one past the highest */
  constructor(memory: PhysicalMemory, first: number, end: number) {
    this.#first = BigInt(first);
    this.#last = BigInt(end) - 1n;
    memory.addWindow(first, end - first, this);
  }

  /**
   * Opens a window of `length` bytes (whole pages) onto user memory at `address`; returns its first physical page.
   * @throws IommuError ENOMEM
   */
  open(address: bigint, length: number, backend: MemoryBackend): number {
    const unit = BigInt(largestPage(length));
    const phase = address % unit;
    const size = BigInt(length);
    for (const hole of this.#open.holes(this.#first, size)) {
      const from = hole.start > this.#first ? hole.start : this.#first;
      const base = from + ((phase - from) & (unit - 1n));
      const last = base + size - 1n;
      if (last > hole.last || last > this.#last) continue;
      this.#open.add(base, last, backend);
      return Number(base >> 12n);
    }
    return refuse("ENOMEM", `no room for ${length} bytes of client memory in 0x${this.#first.toString(16)}-0x${this.#last.toString(16)}`, { rule: "the host address width" });
  }

  /** @param page what `open` returned */
  close(page: number): void {
    this.#open.delete(BigInt(page) << 12n);
    this.#recent = undefined;
  }

  read(offset: number, target: Uint8Array): void {
    this.#each(offset, target.length, (backend, at, from, to) => backend.read(at, target.subarray(from, to)));
  }

  write(offset: number, source: Uint8Array): void {
    this.#each(offset, source.length, (backend, at, from, to) => backend.write(at, source.subarray(from, to)));
  }

  #each(offset: number, length: number, visit: (backend: MemoryBackend, at: number, from: number, to: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = this.#first + BigInt(offset + done);
      const window = this.#at(at) ?? refuse("EFAULT", `no client memory is at physical address 0x${at.toString(16)}`, { argument: "address" });
      const to = Math.min(length, done + Number(window.last - at) + 1);
      visit(window.value, Number(at - window.start), done, to);
      done = to;
    }
  }

  #at(address: bigint): Entry<MemoryBackend> | undefined {
    const recent = this.#recent;
    if (recent !== undefined && address >= recent.start && address <= recent.last) return recent;
    this.#recent = this.#open.first(address, address);
    return this.#recent;
  }
}

/** The largest power of two that a mapping of `length` bytes may use as a page, up to 1 GiB. */
function largestPage(length: number): number {
  let page = PAGE;
  while (page * 2 <= length && page < HUGE) page *= 2;
  return page;
}
