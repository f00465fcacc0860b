/** Moves the bytes of one engine, page by page, and remembers why a move failed. */
import { Access } from "@iommukit/core";
import { type DeviceTlb, PageOutcome } from "@iommukit/core/devices";
import type { Address } from "./address.js";
import type { Work } from "./work.js";

const EMPTY = new Uint8Array(0);
/** A block of 4104 bytes with its tuple. */
const BUFFER_BYTES = 8192;
const PAGE = 4096;

export class PageMover {
  /** What one step of an operation has in hand. A step that fails is made again from its beginning, so that these are free for others meanwhile. */
  readonly first: Buffer = Buffer.alloc(BUFFER_BYTES);
  readonly second: Buffer = Buffer.alloc(BUFFER_BYTES);
  readonly #firstBytes = new Uint8Array(this.first.buffer, this.first.byteOffset, BUFFER_BYTES);
  readonly #secondBytes = new Uint8Array(this.second.buffer, this.second.byteOffset, BUFFER_BYTES);
  readonly #firstPage = this.#firstBytes.subarray(0, PAGE);
  /** Of the last move: a `PageOutcome`, and where. */
  outcome: number = PageOutcome.MOVED;
  /** Bytes that have been asked for in all. */
  moved = 0;
  readonly #tlb: DeviceTlb;

  constructor(tlb: DeviceTlb) {
    this.#tlb = tlb;
  }

  /** The first bytes of `first`; a whole page's worth is not made anew each time. */
  part(bytes: number): Uint8Array {
    return bytes === PAGE ? this.#firstPage : this.#firstBytes.subarray(0, bytes);
  }

  secondPart(bytes: number): Uint8Array {
    return this.#secondBytes.subarray(0, bytes);
  }

  read(work: Work, from: Address, at: number, bytes: Uint8Array): boolean {
    return this.#move(work, Access.READ, from, at, bytes);
  }

  write(work: Work, to: Address, at: number, bytes: Uint8Array): boolean {
    return this.#move(work, Access.WRITE, to, at, bytes);
  }

  /** Asks whether a byte may be read. */
  probe(work: Work, address: Address, at: number): boolean {
    return this.#page(work, Access.READ, address, at, EMPTY);
  }

  #move(work: Work, kind: number, address: Address, at: number, bytes: Uint8Array): boolean {
    const room = address.roomAt(at);
    if (bytes.length <= room) return this.#page(work, kind, address, at, bytes);
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done, done + address.roomAt(at + done));
      if (!this.#page(work, kind, address, at + done, part)) return false;
      done += part.length;
    }
    return true;
  }

  #page(work: Work, kind: number, address: Address, at: number, bytes: Uint8Array): boolean {
    const { access } = work;
    access.kind = kind;
    access.page = address.pageAt(at);
    access.offset = address.offsetAt(at);
    this.moved += bytes.length;
    this.outcome = this.#tlb.attempt(access, bytes);
    return this.outcome === PageOutcome.MOVED;
  }
}
