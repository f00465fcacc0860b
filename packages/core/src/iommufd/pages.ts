/**
 * The memory behind one MAP, shared by every copy of it (iommufd facts, 3.6). A page is
 * pinned while somebody holds it (a domain's area, an access) and charged once, however many hold it; without a
 * holder, user memory is not touched at all. Extents stay extents: 1 GiB is one pin and one window.
 *
 * There may be a million of them, hence few fields and no private methods, which take a field, too; what is the same for many is in
 * their `PageOrigin`.
 */
import { refuse } from "../errors.js";
import type { FrameIdentity, MemoryFile, PinnedMemory, UserMemory } from "../files/types.js";
import type { OwnedMemory } from "../memory/closed-windows.js";
import type { MemoryBackend } from "../memory/types.js";
import type { ClientWindows } from "../memory/windows.js";
import { Prot } from "../driver/types.js";
import type { Account } from "./accounting.js";
import type { AreaView } from "./area.js";
import { Runs } from "./runs.js";

const PAGE = 4096;

export type PageSource =
  | { readonly kind: "user"; readonly memory: UserMemory }
  | { readonly kind: "file"; readonly file: MemoryFile }
  | { readonly kind: "dmabuf"; readonly buffer: SharedBuffer };

/** A dma-buf: memory of a device, that its owner may take away. */
export interface SharedBuffer {
  readonly backend: MemoryBackend;
  readonly revoked: boolean;
  /** Told when the buffer is revoked. */
  readonly listeners: Set<() => void>;
}

/** Addresses of one origin reach from its base up to here: an offset this small is stored in place, a bigint is not. */
export const ORIGIN_BYTES: bigint = 2n ** 31n;

/** Where pages come from, who pays for them, and where domains see them. */
export interface PageOrigin {
  readonly source: PageSource;
  /** A multiple of `ORIGIN_BYTES`. */
  readonly base: bigint;
  /** `Prot` that MAP asked for. */
  readonly prot: number;
  readonly account: Account;
  readonly windows: ClientWindows;
}

/** Also the view of an area that shows all of it with the permissions of its MAP. */
export class Pages implements OwnedMemory, AreaView {
  readonly origin: PageOrigin;
  /** Of the first byte, from the origin's base on. */
  readonly #at: number;
  /** Pages that the bytes touch. */
  readonly count: number;
  /** The pin of all pages while they are held as a whole. */
  #held: PinnedMemory | Runs | undefined;
  /** Of all pages. */
  #holders = 0;
  /** Page number of the window; a window is open while `#opened` is positive. */
  #frame = 0;
  #opened = 0;

  /** @param address between the origin's base and `ORIGIN_BYTES` behind it */
  constructor(origin: PageOrigin, address: bigint, length: bigint) {
    this.origin = origin;
    this.#at = Number(address - origin.base);
    this.count = Number((BigInt(this.start) + length + BigInt(PAGE) - 1n) / BigInt(PAGE));
  }

  /** Of the first byte: a user address, or an offset in the file or dma-buf. */
  get address(): bigint {
    return this.origin.base + BigInt(this.#at);
  }

  get pages(): this {
    return this;
  }

  get offset(): bigint {
    return 0n;
  }

  get prot(): number {
    return this.origin.prot;
  }

  get source(): PageSource {
    return this.origin.source;
  }

  /** Whose memory it is. */
  get owner(): object {
    const { source } = this;
    return source.kind === "user" ? source.memory : source.kind === "file" ? source.file : source.buffer;
  }

  get account(): Account {
    return this.origin.account;
  }

  /** Page of the machine's own RAM that it begins at. */
  get ram(): number | undefined {
    const { source } = this;
    return source.kind === "user" ? source.memory.ram?.(this.address - BigInt(this.start), BigInt(this.count * PAGE)) : undefined;
  }

  get writable(): boolean {
    return (this.origin.prot & Prot.WRITE) !== 0;
  }

  /** Offset of the first byte in its page. */
  get start(): number {
    return this.#at % PAGE;
  }

  /** Pages that are pinned now. */
  get pinned(): number {
    if (this.#held instanceof Runs) return this.#held.pages;
    return this.#held ? this.count : 0;
  }

  /**
   * Holds pages [first, last]; all or nothing.
   * @throws IommuError EFAULT, EINVAL for what cannot be pinned; ENOMEM above the limit
   */
  hold(first: number, last: number): void {
    const whole = first === 0 && last === this.count - 1;
    if (!whole || this.#held instanceof Runs) {
      this.parts().hold(first, last, (from, to) => this.pin(from, to), (pages) => this.charge(pages));
      return;
    }
    if (this.#held === undefined) {
      const pin = this.pin(first, last);
      try {
        this.charge(this.count);
      } catch (error) {
        pin.release(0, this.count);
        throw error;
      }
      this.#held = pin;
    }
    this.#holders++;
  }

  drop(first: number, last: number): void {
    const held = this.#held;
    let released = 0;
    if (held instanceof Runs) {
      released = held.drop(first, last);
      if (held.pages === 0) this.#held = undefined;
    } else if (held !== undefined && --this.#holders === 0) {
      released = this.count;
      held.release(0, released);
      this.#held = undefined;
    }
    if (this.source.kind !== "dmabuf") this.account.refund(released);
  }

  private charge(pages: number): void {
    if (this.source.kind !== "dmabuf") this.account.charge(pages);
  }

  /** From now on pages are held part by part. */
  private parts(): Runs {
    if (this.#held instanceof Runs) return this.#held;
    const runs = Runs.of(this.#held, this.count - 1, this.#holders);
    this.#holders = 0;
    this.#held = runs;
    return runs;
  }

  private pin(first: number, last: number): PinnedMemory {
    const { source } = this;
    const begin = this.address - BigInt(this.start) + BigInt(first * PAGE);
    const length = BigInt((last - first + 1) * PAGE);
    if (source.kind === "user") return source.memory.pin(begin, length, this.writable);
    if (source.kind === "file") return source.file.pin(begin, length, this.writable);
    const { backend } = source.buffer;
    const offset = Number(begin);
    return {
      read: (at, target) => backend.read(offset + at, target),
      write: (at, bytes) => backend.write(offset + at, bytes),
      release: () => undefined,
    };
  }

  /** Physical address of byte `offset`, for domains; every `open` needs its `close`. */
  open(offset: bigint): number {
    if (this.#opened === 0) this.#frame = this.origin.windows.open(this, this.count * PAGE);
    this.#opened++;
    return this.#frame * PAGE + this.start + Number(offset);
  }

  close(): void {
    if (--this.#opened === 0) this.origin.windows.close(this.#frame);
  }

  /** The frame that is pinned as page `page`. */
  frame(page: number): FrameIdentity | undefined {
    return this.#held instanceof Runs ? this.#held.frame(page) : this.#held?.frame?.(page);
  }

  /**
   * DMA: bytes of the window, whose offset 0 is the beginning of page 0. A page that is not pinned any more, reached through a stale
   * translation, is what its owner has in that place now, if anything.
   */
  read(offset: number, target: Uint8Array): void {
    this.each(offset, target.length, (pin, at, from, count) => pin.read(at, target.subarray(from, from + count)));
  }

  write(offset: number, source: Uint8Array): void {
    this.each(offset, source.length, (pin, at, from, count) => pin.write(at, source.subarray(from, from + count)));
  }

  private each(offset: number, length: number, visit: (pin: PinnedMemory, at: number, from: number, count: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const page = Math.floor(at / PAGE);
      const place = this.at(page);
      const count = Math.min(length - done, (place?.length ?? PAGE) - (at % PAGE));
      if (place) visit(place.pin, place.offset + (at % PAGE), done, count);
      else this.briefly(page, (pin) => visit(pin, at % PAGE, done, count));
      done += count;
    }
  }

  /** Pins a page for one access, without charge. @throws IommuError EFAULT when it is gone */
  private briefly(page: number, access: (pin: PinnedMemory) => void): void {
    const { source } = this;
    const gone = source.kind === "user" ? !source.memory.alive : source.kind === "dmabuf" && source.buffer.revoked;
    if (gone) refuse("EFAULT", `page ${page} of the mapping is gone`, { rule: "the owner's memory" });
    const pin = this.pin(page, page);
    try {
      access(pin);
    } finally {
      pin.release(0, 1);
    }
  }

  private at(page: number): { pin: PinnedMemory; offset: number; length: number } | undefined {
    const held = this.#held;
    if (held instanceof Runs) return held.at(page);
    return held && page < this.count ? { pin: held, offset: page * PAGE, length: (this.count - page) * PAGE } : undefined;
  }

  /**
   * Copies between `bytes` and the memory from byte `offset` on, as an access in the kernel does (3.9 and its corrections).
   * @param current the memory of the calling process: its own mappings are used as they are now
   * @param slow pretend that another process calls
   */
  copy(offset: bigint, bytes: Uint8Array, write: boolean, current: UserMemory | undefined, slow: boolean): void {
    if (write && !this.writable) refuse("EPERM", "the memory was mapped without WRITEABLE", { rule: "IOMMU_IOAS_MAP_WRITEABLE" });
    const { source } = this;
    if (source.kind === "dmabuf") return refuse("EINVAL", "the memory behind a dma-buf cannot be read or written here", { rule: "IOMMU_IOAS_MAP_FILE" });
    const from = this.start + Number(offset);
    const end = from + bytes.length;
    const first = Math.floor(from / PAGE);
    const last = Math.floor((end - 1) / PAGE);
    if (source.kind === "user") {
      const own = current === source.memory && !slow;
      if ((own || first === last) && source.memory.alive) {
        const address = this.address + offset;
        return write ? source.memory.write(address, bytes) : source.memory.read(address, bytes);
      }
    }
    const move = (pin: PinnedMemory, at: number, begin: number, stop: number): void => {
      const part = bytes.subarray(begin - from, stop - from);
      if (write) pin.write(at, part);
      else pin.read(at, part);
    };
    // What nobody holds is pinned for the moment, without charge; then what is pinned already is used.
    for (const gap of [...this.gaps(first, last)]) {
      const pin = this.pin(gap.first, gap.last);
      const begin = Math.max(from, gap.first * PAGE);
      move(pin, begin - gap.first * PAGE, begin, Math.min(end, (gap.last + 1) * PAGE));
      pin.release(0, gap.last - gap.first + 1);
    }
    for (let at = from; at < end; ) {
      const page = Math.floor(at / PAGE);
      const place = this.at(page);
      const stop = Math.min(end, page * PAGE + (place?.length ?? PAGE));
      if (place) move(place.pin, place.offset + (at % PAGE), at, stop);
      at = stop;
    }
  }

  /** Pages of [first, last] that nobody holds. */
  private gaps(first: number, last: number): Iterable<{ first: number; last: number }> {
    if (this.#held instanceof Runs) return this.#held.gaps(first, last);
    return this.#held ? [] : [{ first, last }];
  }
}
