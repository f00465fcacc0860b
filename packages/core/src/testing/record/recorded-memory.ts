/** A process's memory that notes what is read and written of it, for the steps of a replay. */
import type { FrameIdentity, PageCounters, PinnedMemory, UserBytes, UserMemory } from "../../files/types.js";
import type { PageBook } from "./page-book.js";

const PAGE = 4096n;
/** Pages of a refused pin that are looked at one by one. */
const PROBED = 4096n;

/** What one call did to memory. */
export class Touches {
  /** Bytes as they were when the call first read or wrote them. */
  readonly reads: { readonly address: bigint; readonly bytes: Uint8Array }[] = [];
  readonly writes: { readonly address: bigint; readonly length: number }[] = [];
  readonly #written = new Set<bigint>();

  read(address: bigint, bytes: Uint8Array): void {
    // What the call itself has written is no input.
    for (let at = 0; at < bytes.length; ) {
      let end = at;
      while (end < bytes.length && !this.#written.has(address + BigInt(end))) end++;
      if (end > at) this.reads.push({ address: address + BigInt(at), bytes: bytes.slice(at, end) });
      at = end;
      while (at < bytes.length && this.#written.has(address + BigInt(at))) at++;
    }
  }

  write(address: bigint, length: number): void {
    this.writes.push({ address, length });
    for (let i = 0; i < length; i++) this.#written.add(address + BigInt(i));
  }
}

/** The touches of the call that runs; undefined between calls. */
export interface Current {
  touches: Touches | undefined;
}

/** Bytes of memory; undefined when they cannot be read. */
export function readable(memory: UserBytes, address: bigint, length: number): Uint8Array | undefined {
  const bytes = new Uint8Array(length);
  try {
    memory.read(address, bytes);
    return bytes;
  } catch {
    return undefined;
  }
}

/** Pinned memory whose first byte is at `start`. */
export function heardPin(pinned: PinnedMemory, start: bigint, current: Current): PinnedMemory {
  const frame = pinned.frame?.bind(pinned);
  return {
    read: (offset, target) => {
      pinned.read(offset, target);
      current.touches?.read(start + BigInt(offset), target);
    },
    write: (offset, source) => {
      pinned.write(offset, source);
      current.touches?.write(start + BigInt(offset), source.length);
    },
    release: (first, count) => pinned.release(first, count),
    ...(frame && { frame }),
  };
}

export class RecordedBytes implements UserBytes {
  readonly #inner: UserBytes;
  readonly #book: PageBook;
  readonly #current: Current;

  constructor(inner: UserBytes, book: PageBook, current: Current) {
    this.#inner = inner;
    this.#book = book;
    this.#current = current;
  }

  read(address: bigint, target: Uint8Array): void {
    try {
      this.#inner.read(address, target);
    } catch (error) {
      this.#explore(address, BigInt(target.length));
      throw error;
    }
    this.#current.touches?.read(address, target);
  }

  write(address: bigint, source: Uint8Array): void {
    const before = readable(this.#inner, address, source.length);
    try {
      this.#inner.write(address, source);
    } catch (error) {
      this.#explore(address, BigInt(source.length));
      throw error;
    }
    if (before) this.#current.touches?.read(address, before);
    this.#current.touches?.write(address, source.length);
  }

  /** What of a range that was refused is there. */
  #explore(address: bigint, length: bigint): void {
    const byte = new Uint8Array(1);
    for (let page = address / PAGE; page <= (address + length) / PAGE; page++) {
      const at = page * PAGE < address ? address : page * PAGE;
      try {
        this.#inner.read(at, byte);
      } catch {
        this.#book.absent(at);
        continue;
      }
      try {
        this.#inner.write(at, byte);
        this.#book.ensure(at, 1n, true);
      } catch {
        this.#book.readOnly(at);
      }
    }
  }
}

export class RecordedMemory extends RecordedBytes implements UserMemory {
  readonly #inner: UserMemory;
  readonly #book: PageBook;
  readonly #current: Current;
  readonly #devices: RecordedMemory | undefined;

  constructor(inner: UserMemory, book: PageBook, current: Current) {
    super(inner, book, current);
    this.#inner = inner;
    this.#book = book;
    this.#current = current;
    this.#devices = inner.withDevices && new RecordedMemory(inner.withDevices, book, current);
  }

  get alive(): boolean {
    return this.#inner.alive;
  }

  get counters(): PageCounters {
    return this.#inner.counters;
  }

  get withDevices(): UserMemory | undefined {
    return this.#devices;
  }

  frame(address: bigint, writable: boolean): FrameIdentity {
    const frame = this.#inner.frame?.(address, writable) ?? { key: address, pins: 0, compound: false };
    this.#book.ensure(address, 1n, writable);
    return frame;
  }

  pin(address: bigint, length: bigint, writable: boolean): PinnedMemory {
    let pinned: PinnedMemory;
    try {
      pinned = this.#inner.pin(address, length, writable);
    } catch (error) {
      this.#probe(address, length, writable);
      throw error;
    }
    this.#book.ensure(address, length, writable, pinned.frame?.(0)?.compound ? "hugetlb" : undefined);
    const start = address - (address % PAGE);
    return heardPin(pinned, start, this.#current);
  }

  /** Which pages of a range that cannot be pinned are there, and how. */
  #probe(address: bigint, length: bigint, writable: boolean): void {
    const start = address - (address % PAGE);
    const end = length > PROBED * PAGE ? start + PROBED * PAGE : address + length;
    const can = (at: bigint, write: boolean): boolean => {
      try {
        this.#inner.pin(at, PAGE, write).release(0, 1);
        return true;
      } catch {
        return false;
      }
    };
    for (let at = start; at < end; at += PAGE) {
      if (can(at, writable)) this.#book.ensure(at, 1n, writable);
      else if (writable && can(at, false)) this.#book.readOnly(at);
      else this.#book.absent(at);
    }
  }
}
