/**
 * The memory behind one MAP, shared by every copy of it (iommufd facts, 3.6). A page is
 * pinned while somebody holds it (a domain's area, an access) and charged once, however many hold it; without a
 * holder, user memory is not touched at all. Extents stay extents: 1 GiB is one run, one pin and one window.
 */
import { refuse } from "../errors.js";
import type { FrameIdentity, MemoryFile, PinnedMemory, UserMemory } from "../files/types.js";
import type { MemoryBackend } from "../memory/types.js";
import type { ClientWindows } from "../memory/windows.js";
import type { Account } from "./accounting.js";

const PAGE = 4096;

export type PageSource =
  | { readonly kind: "user"; readonly memory: UserMemory; readonly address: bigint }
  | { readonly kind: "file"; readonly file: MemoryFile; readonly address: bigint }
  | { readonly kind: "dmabuf"; readonly buffer: SharedBuffer; readonly address: bigint };

/** A dma-buf: memory of a device, that its owner may take away. */
export interface SharedBuffer {
  readonly backend: MemoryBackend;
  readonly revoked: boolean;
  /** Told when the buffer is revoked. */
  readonly listeners: Set<() => void>;
}

/** Neighbouring pages with the same holders. */
interface Run {
  first: number;
  last: number;
  holders: number;
  /** Where this run lies in its pin. */
  readonly pin: PinnedMemory;
  offset: number;
}

export class Pages implements MemoryBackend {
  readonly source: PageSource;
  readonly length: bigint;
  readonly writable: boolean;
  readonly account: Account;
  readonly #windows: ClientWindows;
  #runs: Run[] = [];
  #base: number | undefined;
  #mapped = 0;

  constructor(source: PageSource, length: bigint, writable: boolean, account: Account, windows: ClientWindows) {
    this.source = source;
    this.length = length;
    this.writable = writable;
    this.account = account;
    this.#windows = windows;
  }

  /** Offset of the first byte in its page. */
  get start(): number {
    return Number(this.source.address % BigInt(PAGE));
  }

  /** Pages that are pinned now. */
  get pinned(): number {
    return this.#runs.reduce((sum, run) => sum + run.last - run.first + 1, 0);
  }

  /**
   * Holds pages [first, last]; all or nothing.
   * @throws IommuError EFAULT, EINVAL for what cannot be pinned; ENOMEM above the limit
   */
  hold(first: number, last: number): void {
    this.#cut(first);
    this.#cut(last + 1);
    const fresh: Run[] = [];
    try {
      for (const gap of this.#gaps(first, last)) fresh.push({ ...gap, holders: 0, pin: this.#pin(gap.first, gap.last), offset: 0 });
      if (this.source.kind !== "dmabuf") this.account.charge(fresh.reduce((sum, run) => sum + run.last - run.first + 1, 0));
    } catch (error) {
      for (const run of fresh) run.pin.release(0, run.last - run.first + 1);
      throw error;
    }
    this.#runs = [...this.#runs, ...fresh].sort((a, b) => a.first - b.first);
    for (const run of this.#runs) if (run.first >= first && run.last <= last) run.holders++;
  }

  drop(first: number, last: number): void {
    this.#cut(first);
    this.#cut(last + 1);
    let released = 0;
    this.#runs = this.#runs.filter((run) => {
      if (run.first < first || run.last > last || --run.holders > 0) return true;
      const count = run.last - run.first + 1;
      run.pin.release(run.offset, count);
      released += count;
      return false;
    });
    if (this.source.kind !== "dmabuf") this.account.refund(released);
  }

  /** Pages of [first, last] that nobody holds. */
  *#gaps(first: number, last: number): Generator<{ first: number; last: number }> {
    let next = first;
    for (const run of this.#runs) {
      if (run.last < next || run.first > last) continue;
      if (run.first > next) yield { first: next, last: run.first - 1 };
      next = run.last + 1;
    }
    if (next <= last) yield { first: next, last };
  }

  /** Makes a run begin at `page` if one lies across it. */
  #cut(page: number): void {
    const at = this.#runs.findIndex((run) => run.first < page && page <= run.last);
    if (at === -1) return;
    const run = this.#runs[at];
    this.#runs.splice(at + 1, 0, { ...run, first: page, offset: run.offset + page - run.first });
    run.last = page - 1;
  }

  #pin(first: number, last: number): PinnedMemory {
    const { source } = this;
    const begin = source.address - (source.address % BigInt(PAGE)) + BigInt(first * PAGE);
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
    const length = Math.ceil((this.start + Number(this.length)) / PAGE) * PAGE;
    if (this.#mapped++ === 0) {
      try {
        this.#base = this.#windows.open(this.source.address - BigInt(this.start), length, this);
      } catch (error) {
        this.#mapped--;
        throw error;
      }
    }
    return (this.#base ?? 0) + this.start + Number(offset);
  }

  close(): void {
    if (--this.#mapped > 0) return;
    const length = Math.ceil((this.start + Number(this.length)) / PAGE) * PAGE;
    this.#windows.close(this.#base ?? 0, length);
    this.#base = undefined;
  }

  /** The frame that is pinned as page `page`. */
  frame(page: number): FrameIdentity | undefined {
    const run = this.#run(page);
    return run?.pin.frame?.(run.offset + page - run.first);
  }

  #run(page: number): Run | undefined {
    return this.#runs.find((run) => run.first <= page && page <= run.last);
  }

  /** DMA: bytes of the window, whose offset 0 is the beginning of page 0. Only pinned pages answer. */
  read(offset: number, target: Uint8Array): void {
    this.#each(offset, target.length, (run, at, from, count) => run.pin.read(at, target.subarray(from, from + count)));
  }

  write(offset: number, source: Uint8Array): void {
    this.#each(offset, source.length, (run, at, from, count) => run.pin.write(at, source.subarray(from, from + count)));
  }

  #each(offset: number, length: number, visit: (run: Run, at: number, from: number, count: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const run = this.#run(Math.floor(at / PAGE)) ?? refuse("EFAULT", `page ${Math.floor(at / PAGE)} of the mapping is not pinned`);
      const count = Math.min(length - done, (run.last + 1) * PAGE - at);
      visit(run, at - run.first * PAGE + run.offset * PAGE, done, count);
      done += count;
    }
  }

  /**
   * Copies between `bytes` and the memory from byte `offset` on, as an access in the kernel does (3.9 and its corrections).
   * @param current the memory of the calling process: its own mappings are used as they are now
   * @param slow pretend that another process calls
   */
  copy(offset: bigint, bytes: Uint8Array, write: boolean, current: UserMemory | undefined, slow: boolean): void {
    if (write && !this.writable) refuse("EPERM", "the memory was mapped without WRITEABLE", { rule: "IOMMU_IOAS_MAP_WRITEABLE" });
    const { source } = this;
    if (source.kind === "dmabuf") return refuse("EINVAL", "the memory behind a dma-buf cannot be read or written here");
    const from = this.start + Number(offset);
    const onePage = Math.floor(from / PAGE) === Math.floor((from + bytes.length - 1) / PAGE);
    if (source.kind === "user") {
      const own = current === source.memory && !slow;
      if ((own || onePage) && source.memory.alive) {
        const address = source.address + offset;
        return write ? source.memory.write(address, bytes) : source.memory.read(address, bytes);
      }
    }
    const first = Math.floor(from / PAGE);
    const last = Math.floor((from + bytes.length - 1) / PAGE);
    // What is pinned already is used; the rest is pinned for the moment, without charge.
    for (const gap of [...this.#gaps(first, last)]) {
      const pin = this.#pin(gap.first, gap.last);
      this.#transfer(pin, gap.first, Math.max(from, gap.first * PAGE), Math.min(from + bytes.length, (gap.last + 1) * PAGE), from, bytes, write);
      pin.release(0, gap.last - gap.first + 1);
    }
    for (const run of this.#runs) {
      const begin = Math.max(from, run.first * PAGE);
      const end = Math.min(from + bytes.length, (run.last + 1) * PAGE);
      if (begin < end) this.#transfer(run.pin, run.first - run.offset, begin, end, from, bytes, write);
    }
  }

  #transfer(pin: PinnedMemory, pinFirst: number, begin: number, end: number, from: number, bytes: Uint8Array, write: boolean): void {
    const part = bytes.subarray(begin - from, end - from);
    if (write) pin.write(begin - pinFirst * PAGE, part);
    else pin.read(begin - pinFirst * PAGE, part);
  }
}
