/**
 * Where pinned client memory appears in physical memory: one window an extent,
 * placed so that physical and user addresses agree modulo the largest page that fits,
 * which lets a page table use large leaves for them.
 */
import { refuse } from "../errors.js";
import type { PhysicalMemory } from "./physical-memory.js";
import type { MemoryBackend } from "./types.js";

const HUGE = 2 ** 30;
const LARGE = 2 ** 21;

export class ClientWindows {
  readonly #memory: PhysicalMemory;
  readonly #first: number;
  readonly #end: number;
  /** Free ranges, ascending. */
  readonly #free: { start: number; end: number }[];

  /** @param first lowest address of a window; @param end one past the highest */
  constructor(memory: PhysicalMemory, first: number, end: number) {
    this.#memory = memory;
    this.#first = first;
    this.#end = end;
    this.#free = [{ start: first, end }];
  }

  /**
   * Opens a window of `length` bytes (whole pages) onto user memory at `address`; returns its physical address.
   * @throws IommuError ENOMEM
   */
  open(address: bigint, length: number, backend: MemoryBackend): number {
    const unit = length >= HUGE ? HUGE : LARGE;
    const phase = Number(address % BigInt(unit));
    for (const [i, range] of this.#free.entries()) {
      const base = Math.ceil((range.start - phase) / unit) * unit + phase;
      if (base + length > range.end) continue;
      this.#free.splice(i, 1, ...[{ start: range.start, end: base }, { start: base + length, end: range.end }].filter((r) => r.end > r.start));
      this.#memory.addWindow(base, length, backend);
      return base;
    }
    return refuse("ENOMEM", `no room for ${length} bytes of client memory in 0x${this.#first.toString(16)}-0x${this.#end.toString(16)}`);
  }

  close(base: number, length: number): void {
    this.#memory.removeWindow(base);
    const at = this.#free.findIndex((range) => range.start > base);
    const index = at === -1 ? this.#free.length : at;
    this.#free.splice(index, 0, { start: base, end: base + length });
    const next = this.#free[index + 1];
    if (next?.start === base + length) {
      this.#free[index].end = next.end;
      this.#free.splice(index + 1, 1);
    }
    const before = this.#free[index - 1];
    if (before?.end === base) {
      before.end = this.#free[index].end;
      this.#free.splice(index, 1);
    }
  }
}
