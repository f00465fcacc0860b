/**
 * Where pinned client memory appears in physical memory: one window an extent,
 * placed so that physical and user addresses agree modulo the largest page that fits,
 * which lets a page table use large leaves for them.
 *
 * Of real memory the owner's page has one physical address, and nobody else gets it as long as the owner keeps the page. So memory that
 * was seen lately comes back where it was, and other addresses are used again as late as can be.
 */
import { refuse } from "../errors.js";
import { ClosedWindows, type OwnedMemory } from "./closed-windows.js";
import { type Entry, IntervalTree } from "./interval-tree.js";
import type { PhysicalMemory } from "./physical-memory.js";
import type { MemoryBackend } from "./types.js";

const PAGE = 4096;
const HUGE = 2 ** 30;

export class ClientWindows implements MemoryBackend {
  readonly #first: bigint;
  readonly #last: bigint;
  readonly #open = new IntervalTree<OwnedMemory>();
  readonly #closed = new ClosedWindows();
  /** Behind the window that was placed last. */
  #next: bigint;
  /** The window that was used last. */
  #recent: Entry<OwnedMemory> | undefined;

  /** @param first lowest address of a window; @param end one past the highest */
  constructor(memory: PhysicalMemory, first: number, end: number) {
    this.#first = BigInt(first);
    this.#last = BigInt(end) - 1n;
    this.#next = this.#first;
    memory.addWindow(first, end - first, this);
  }

  /**
   * Opens a window of `length` bytes (whole pages) onto an owner's memory, which is not needed where that is RAM of the machine; returns its
   * first physical page.
   * @throws IommuError ENOMEM
   */
  open(memory: OwnedMemory, length: number): number {
    const { ram } = memory;
    if (ram !== undefined) return ram;
    const size = BigInt(length);
    const start = this.#before(memory, size) ?? this.#place(memory.address, size) ?? this.#full(length);
    this.#open.add(start, start + size - 1n, memory);
    return Number(start >> 12n);
  }

  /** Where the same memory was before, if that is free. */
  #before(memory: OwnedMemory, size: bigint): bigint | undefined {
    const start = this.#closed.placeOf(memory, size);
    return start !== undefined && this.#open.first(start, start + size - 1n) === undefined ? start : undefined;
  }

  /** Behind what was placed last; when there is no more room, anywhere. */
  #place(address: bigint, size: bigint): bigint | undefined {
    const unit = BigInt(largestPage(Number(size)));
    const phase = (address >> 12n << 12n) % unit;
    for (const begin of [this.#next, this.#first]) {
      for (const hole of this.#open.holes(begin, size)) {
        const from = hole.start > begin ? hole.start : begin;
        const start = from + ((phase - from) & (unit - 1n));
        const last = start + size - 1n;
        if (last > hole.last || last > this.#last) continue;
        this.#next = last + 1n;
        return start;
      }
    }
    return undefined;
  }

  #full(length: number): never {
    return refuse("ENOMEM", `no room for ${length} bytes of client memory in 0x${this.#first.toString(16)}-0x${this.#last.toString(16)}`, { rule: "the host address width" });
  }

  /** What still leads there reaches the same memory until the address is used for another. @param page what `open` returned */
  close(page: number): void {
    const start = BigInt(page) << 12n;
    const window = this.#open.first(start, start);
    if (window === undefined) return;
    this.#closed.add(window);
    this.#open.delete(start);
    this.#recent = undefined;
  }

  read(offset: number, target: Uint8Array): void {
    this.#each(offset, target.length, (memory, at, from, to) => memory.read(at, target.subarray(from, to)));
  }

  write(offset: number, source: Uint8Array): void {
    this.#each(offset, source.length, (memory, at, from, to) => memory.write(at, source.subarray(from, to)));
  }

  #each(offset: number, length: number, visit: (memory: OwnedMemory, at: number, from: number, to: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = this.#first + BigInt(offset + done);
      const window = this.#at(at) ?? this.#closedAt(at) ?? refuse("EFAULT", `no client memory is at physical address 0x${at.toString(16)}`, { argument: "address" });
      const to = Math.min(length, done + Number(window.last - at) + 1);
      visit(window.value, Number(at - window.start), done, to);
      done = to;
    }
  }

  #at(address: bigint): Entry<OwnedMemory> | undefined {
    const recent = this.#recent;
    if (recent !== undefined && address >= recent.start && address <= recent.last) return recent;
    this.#recent = this.#open.first(address, address);
    return this.#recent;
  }

  /** As much of a closed window as nothing else can lie on: the page. */
  #closedAt(address: bigint): Entry<OwnedMemory> | undefined {
    const window = this.#closed.at(address);
    return window && { ...window, last: address | BigInt(PAGE - 1) };
  }
}

/** The largest power of two that a mapping of `length` bytes may use as a page, up to 1 GiB. */
function largestPage(length: number): number {
  let page = PAGE;
  while (page * 2 <= length && page < HUGE) page *= 2;
  return page;
}
