/**
 * The device's side of a split virtqueue in guest memory (virtio 1.3, 2.7). The guest may write anything into it: whatever breaks
 * a rule makes the queue broken, and work per chain is bounded by the queue's size.
 */
import { AVAIL_NO_INTERRUPT, Desc, DESCRIPTOR_BYTES } from "./spec.js";

/** Memory as a device reaches it. False where there is none. */
export interface GuestMemory {
  read(address: number, target: Uint8Array): boolean;
  write(address: number, source: Uint8Array): boolean;
}

interface Segment {
  readonly address: number;
  readonly length: number;
}

/** A request that the driver has made available. */
export interface Chain {
  readonly head: number;
  /** The device-readable part, as far as it was asked for. */
  readonly request: Uint8Array;
  /** Bytes of the device-writable part. */
  readonly room: number;
  readonly segments: readonly Segment[];
}

/** The driver broke a rule: the device stops until it is reset. */
export class BrokenQueue extends Error {}

export const MAX_QUEUE_SIZE = 256;
const AVAIL_RING = 4;
const USED_RING = 4;
const USED_BYTES = 8;
const ADDRESS_LIMIT = 2 ** 52;

export class Virtqueue {
  size: number = MAX_QUEUE_SIZE;
  ready = false;
  /** Addresses of the three parts. */
  descriptors = 0;
  driver = 0;
  device = 0;
  /** Used and avail event indices decide who is told. */
  eventIndex = false;
  readonly #memory: GuestMemory;
  /** Next chain to take, next used entry to write: free-running, 16 bits. */
  #taken = 0;
  #used = 0;
  readonly #scratch = new DataView(new ArrayBuffer(DESCRIPTOR_BYTES));

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  reset(): void {
    this.size = MAX_QUEUE_SIZE;
    this.ready = false;
    this.descriptors = 0;
    this.driver = 0;
    this.device = 0;
    this.#taken = 0;
    this.#used = 0;
  }

  /**
   * The next chain; undefined when none is there.
   * @param most bytes of its readable part that are wanted
   * @throws BrokenQueue
   */
  pop(most: number): Chain | undefined {
    if (!this.ready) return undefined;
    const available = (this.#load(this.driver, 4) >>> 16) & 0xffff;
    const waiting = (available - this.#taken) & 0xffff;
    if (waiting === 0) return undefined;
    if (waiting > this.size) throw new BrokenQueue(`${waiting} chains are available in a queue of ${this.size} (2.7.13.3)`);
    const head = this.#load(this.driver + AVAIL_RING + 2 * (this.#taken % this.size), 2);
    const chain = this.#chain(head, most);
    this.#taken = (this.#taken + 1) & 0xffff;
    if (this.eventIndex) this.#store(this.device + USED_RING + USED_BYTES * this.size, this.#taken, 2);
    return chain;
  }

  #chain(head: number, most: number): Chain {
    const readable: Uint8Array[] = [];
    const segments: Segment[] = [];
    let room = 0;
    let wanted = most;
    let steps = 0;
    const walk = (table: number, entries: number, first: number, indirect: boolean): void => {
      for (let index = first; ; ) {
        if (index >= entries) throw new BrokenQueue(`descriptor ${index} is behind the ${entries} of its table (2.7.5)`);
        if (steps++ >= this.size) throw new BrokenQueue(`a chain of more than ${this.size} descriptors (2.7.5.1)`);
        const { address, length, flags, next } = this.#descriptor(table + DESCRIPTOR_BYTES * index);
        if ((flags & Desc.INDIRECT) !== 0) {
          if (indirect || (flags & Desc.NEXT) !== 0) throw new BrokenQueue("an indirect table inside another, or with a next descriptor (2.7.5.3.1)");
          if (length === 0 || length % DESCRIPTOR_BYTES !== 0) throw new BrokenQueue(`an indirect table of ${length} bytes (2.7.5.3.2)`);
          return walk(address, length / DESCRIPTOR_BYTES, 0, true);
        }
        if (address + length > ADDRESS_LIMIT) throw new BrokenQueue(`a buffer at 0x${address.toString(16)} leaves memory`);
        if ((flags & Desc.WRITE) !== 0) {
          segments.push({ address, length });
          room += length;
        } else {
          if (segments.length > 0) throw new BrokenQueue("a device-readable buffer after a device-writable one (2.7.4.2)");
          const part = new Uint8Array(Math.min(length, wanted));
          if (!this.#memory.read(address, part)) throw new BrokenQueue(`no memory at 0x${address.toString(16)}`);
          readable.push(part);
          wanted -= part.length;
        }
        if ((flags & Desc.NEXT) === 0) return undefined;
        index = next;
      }
    };
    walk(this.descriptors, this.size, head, false);
    return { head, request: joined(readable), room, segments };
  }

  #descriptor(at: number): { address: number; length: number; flags: number; next: number } {
    const view = this.#scratch;
    if (!this.#memory.read(at, new Uint8Array(view.buffer))) throw new BrokenQueue(`no memory at descriptor 0x${at.toString(16)}`);
    return { address: view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true), length: view.getUint32(8, true), flags: view.getUint16(12, true), next: view.getUint16(14, true) };
  }

  /** Stores bytes at an offset of a chain's writable part. @throws BrokenQueue where there is no memory */
  write(chain: Chain, offset: number, bytes: Uint8Array): void {
    let [at, done] = [0, 0];
    for (const { address, length } of chain.segments) {
      const from = Math.max(offset + done - at, 0);
      const part = bytes.subarray(done, done + Math.max(length - from, 0));
      if (part.length > 0 && !this.#memory.write(address + from, part)) throw new BrokenQueue(`no memory at 0x${address.toString(16)}`);
      done += part.length;
      at += length;
    }
  }

  /** Gives a chain back. True when the driver wants to be told. @param written bytes of the writable part, from its start */
  push(chain: Chain, written: number): boolean {
    const entry = this.device + USED_RING + USED_BYTES * (this.#used % this.size);
    this.#store(entry, chain.head, 4);
    this.#store(entry + 4, written, 4);
    const before = this.#used;
    this.#used = (this.#used + 1) & 0xffff;
    this.#store(this.device + 2, this.#used, 2);
    if (!this.eventIndex) return (this.#load(this.driver, 2) & AVAIL_NO_INTERRUPT) === 0;
    return this.#load(this.driver + AVAIL_RING + 2 * this.size, 2) === before;
  }

  #load(at: number, size: 2 | 4): number {
    const view = this.#scratch;
    if (!this.#memory.read(at, new Uint8Array(view.buffer, 0, size))) throw new BrokenQueue(`no memory at ring 0x${at.toString(16)}`);
    return size === 2 ? view.getUint16(0, true) : view.getUint32(0, true);
  }

  #store(at: number, value: number, size: 2 | 4): void {
    const view = this.#scratch;
    view.setUint32(0, value, true);
    if (!this.#memory.write(at, new Uint8Array(view.buffer, 0, size))) throw new BrokenQueue(`no memory at ring 0x${at.toString(16)}`);
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
