/** Hands out page frames of a range of RAM to drivers: for tables and queues. */
import { refuse } from "../errors.js";
import type { PhysicalMemory } from "./physical-memory.js";

const FRAME = 4096;

export class FrameAllocator {
  readonly #memory: PhysicalMemory;
  readonly #end: number;
  #next: number;
  /** Free blocks by size in frames. */
  readonly #free = new Map<number, number[]>();
  #inUse = 0;

  /** @param start first byte; @param end one past the last; both in RAM */
  constructor(memory: PhysicalMemory, start: number, end: number) {
    this.#memory = memory;
    this.#next = Math.ceil(start / FRAME) * FRAME;
    this.#end = end;
  }

  /** Frames handed out and not given back. */
  get inUse(): number {
    return this.#inUse;
  }

  /**
   * Zeroed frames, aligned to the next power of two of their size.
   * @throws IommuError ENOMEM
   */
  alloc(frames = 1): number {
    const block = 2 ** Math.ceil(Math.log2(frames));
    let pa = this.#free.get(block)?.pop();
    if (pa === undefined) {
      pa = Math.ceil(this.#next / (block * FRAME)) * block * FRAME;
      if (pa + block * FRAME > this.#end) {
        refuse("ENOMEM", `no ${block} frames are left for tables below 0x${this.#end.toString(16)}`, { rule: "RAM of the machine" });
      }
      // What alignment skipped stays usable.
      for (let gap = this.#next; gap < pa; gap += FRAME) this.#put(1, gap);
      this.#next = pa + block * FRAME;
    } else if (!this.#memory.clear(pa, block * FRAME)) {
      refuse("ENOMEM", `frame 0x${pa.toString(16)} is not RAM`, { rule: "RAM of the machine" });
    }
    this.#inUse += block;
    return pa;
  }

  /** Gives back what `alloc(frames)` returned. */
  free(pa: number, frames = 1): void {
    const block = 2 ** Math.ceil(Math.log2(frames));
    this.#inUse -= block;
    this.#put(block, pa);
  }

  #put(block: number, pa: number): void {
    const list = this.#free.get(block);
    if (list) list.push(pa);
    else this.#free.set(block, [pa]);
  }
}
