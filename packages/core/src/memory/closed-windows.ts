/**
 * Windows that were closed, the last ones. Memory does not go away when its owner takes it back from a device: what holds on to its address,
 * such as a TLB that nobody invalidated, goes on reaching it until the address is used for something else. So do these, but they
 * keep nothing pinned: their backend answers as long as its owner has that memory, and refuses then.
 */
import type { Entry } from "./interval-tree.js";
import type { MemoryBackend } from "./types.js";

/** How many are remembered, whatever their size; the oldest goes first. */
const KEPT = 1024;

/** What a window shows. */
export interface OwnedMemory extends MemoryBackend {
  /** Whose memory it is. */
  readonly owner: object;
  /** Where it lies there: in which page it begins. */
  readonly address: bigint;
  /** Page of the machine's own RAM that it begins at; undefined: it is elsewhere. */
  readonly ram?: number | undefined;
}

export class ClosedWindows {
  readonly #starts = new BigUint64Array(KEPT);
  readonly #lasts = new BigUint64Array(KEPT);
  readonly #memories: OwnedMemory[] = [];
  /** Slot of the last window of an owner's page, by number of that page. */
  readonly #byPage = new Map<number, number>();
  #count = 0;

  add({ start, last, value }: Entry<OwnedMemory>): void {
    const slot = this.#count++ % KEPT;
    const old = this.#memories[slot] as OwnedMemory | undefined;
    if (old !== undefined && this.#byPage.get(pageOf(old)) === slot) this.#byPage.delete(pageOf(old));
    this.#starts[slot] = start;
    this.#lasts[slot] = last;
    this.#memories[slot] = value;
    this.#byPage.set(pageOf(value), slot);
  }

  /** The window that was last at a physical address. */
  at(address: bigint): Entry<OwnedMemory> | undefined {
    for (let i = this.#count - 1; i >= 0 && i >= this.#count - KEPT; i--) {
      const slot = i % KEPT;
      const [start, last] = [this.#starts[slot], this.#lasts[slot]];
      if (start <= address && address <= last) return { start, last, value: this.#memories[slot] };
    }
    return undefined;
  }

  /** Where the same memory was seen before. */
  placeOf(memory: OwnedMemory, size: bigint): bigint | undefined {
    const slot = this.#byPage.get(pageOf(memory));
    if (slot === undefined || this.#memories[slot].owner !== memory.owner) return undefined;
    return this.#lasts[slot] - this.#starts[slot] === size - 1n ? this.#starts[slot] : undefined;
  }
}

function pageOf({ address }: OwnedMemory): number {
  return Number(address >> 12n);
}
