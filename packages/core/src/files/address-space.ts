/** A process's address space inside this process: mappings of frames, with protections, private copies and fork. */
import { refuse } from "../errors.js";
import type { MemoryBackend } from "../memory/types.js";
import { type Frame, FrameObject, PAGE, PinnedFrames } from "./frames.js";
import type { MmapRegion, PageCounters, PinnedMemory, UserMemory } from "./types.js";

export interface Protection {
  readonly read: boolean;
  readonly write: boolean;
}

/** What a mapping shows. */
export type Backing =
  | { readonly kind: "frames"; readonly object: FrameObject; readonly size?: () => number; readonly copyOnWrite: boolean; readonly copyOnFork: boolean }
  /** Registers of a device: neither pinned nor counted. Access may raise SIGBUS. */
  | { readonly kind: "device"; readonly backend: MemoryBackend; readonly writeBlock?: MmapRegion["writeBlock"]; readonly retain: () => void; readonly unmapped: () => void };

interface Mapping {
  start: bigint;
  end: bigint;
  protection: Protection;
  readonly backing: Backing;
  /** Page of the object at `start`. */
  first: number;
  /** Private copies of a private file mapping, by page of the object. */
  readonly copies: FrameObject;
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const BIG_PAGE = BigInt(PAGE);

export class AddressSpace implements UserMemory {
  #withDevices: UserMemory | undefined;
  alive = true;
  readonly counters: PageCounters = { pinned: 0, locked: 0 };
  #mappings: Mapping[] = [];

  /** @throws IommuError EEXIST when the place is taken */
  map(start: bigint, length: bigint, protection: Protection, backing: Backing, first = 0): void {
    const end = start + ((length + BIG_PAGE - 1n) / BIG_PAGE) * BIG_PAGE;
    if (this.#mappings.some((m) => start < m.end && m.start < end)) refuse("EEXIST", `${hex(start)} is mapped already`, { argument: "address" });
    this.#mappings.push({ start, end, protection, backing, first, copies: new FrameObject(false) });
  }

  /** Removes whole pages; mappings are cut where need be. */
  unmap(start: bigint, length: bigint): void {
    const end = start + ((length + BIG_PAGE - 1n) / BIG_PAGE) * BIG_PAGE;
    this.#split(start);
    this.#split(end);
    const gone = this.#mappings.filter((m) => m.start >= start && m.end <= end);
    this.#mappings = this.#mappings.filter((m) => !gone.includes(m));
    for (const { backing } of gone) if (backing.kind === "device") backing.unmapped();
  }

  protect(start: bigint, length: bigint, protection: Protection): void {
    const end = start + length;
    this.#split(start);
    this.#split(end);
    for (const mapping of this.#mappings) if (mapping.start >= start && mapping.end <= end) mapping.protection = protection;
  }

  #split(at: bigint): void {
    const mapping = this.#mappings.find((m) => m.start < at && at < m.end);
    if (mapping === undefined) return;
    const first = mapping.first + Number((at - mapping.start) / BIG_PAGE);
    if (mapping.backing.kind === "device") mapping.backing.retain();
    this.#mappings.push({ ...mapping, start: at, first });
    mapping.end = at;
  }

  /** A child's copy: shared memory stays shared, private memory is copied. */
  fork(): AddressSpace {
    const child = new AddressSpace();
    child.#mappings = this.#mappings.map((mapping) => {
      const { backing } = mapping;
      if (backing.kind === "device") backing.retain();
      const own = backing.kind === "frames" && backing.copyOnFork ? { ...backing, object: backing.object.copy() } : backing;
      return { ...mapping, backing: own, copies: mapping.copies.copy() };
    });
    return child;
  }

  /** The process ends: device mappings go, pinned frames stay. */
  exit(): void {
    this.alive = false;
    const mappings = this.#mappings;
    this.#mappings = [];
    for (const { backing } of mappings) if (backing.kind === "device") backing.unmapped();
  }

  #at(address: bigint, write: boolean): Mapping {
    const mapping = this.#mappings.find((m) => address >= m.start && address < m.end);
    if (mapping === undefined) return refuse("EFAULT", `user address ${hex(address)} is not mapped`, { rule: "the caller's memory" });
    if (!mapping.protection.read || (write && !mapping.protection.write)) {
      return refuse("EFAULT", `user address ${hex(address)} is ${mapping.protection.read ? "read-only" : "not readable"}`, { rule: "the caller's memory" });
    }
    return mapping;
  }

  /** Frame behind an address; `own`: a private page of a file becomes the process's own. */
  #frame(address: bigint, write: boolean, own: boolean): Frame {
    const { backing, first, start, copies } = this.#at(address, write);
    if (backing.kind === "device") return refuse("EFAULT", `user address ${hex(address)} shows a device's registers`, { rule: "the caller's memory" });
    const page = first + Number((address - start) / BIG_PAGE);
    if (backing.size !== undefined && page * PAGE >= backing.size()) return refuse("EFAULT", `user address ${hex(address)} lies behind the end of its file`, { rule: "the caller's memory" });
    if (!backing.copyOnWrite) return backing.object.frame(page);
    const copy = copies.existing(page);
    if (copy !== undefined || !own) return copy ?? backing.object.frame(page);
    const made = backing.object.frame(page).copy();
    copies.place(page, made);
    return made;
  }

  frame(address: bigint, writable: boolean): Frame {
    return this.#frame(address, writable, writable);
  }

  read(address: bigint, target: Uint8Array): void {
    this.#each(address, target.length, (at, offset, from, count) => {
      const { backing, first, start } = this.#at(at, false);
      if (backing.kind === "device") backing.backend.read(Number(at - start) + first * PAGE, target.subarray(from, from + count));
      else target.set(this.#frame(at, false, false).bytes.subarray(offset, offset + count), from);
    });
  }

  write(address: bigint, source: Uint8Array): void {
    this.#each(address, source.length, (at, offset, from, count) => {
      const { backing, first, start } = this.#at(at, true);
      const part = source.subarray(from, from + count);
      if (backing.kind === "device") backing.backend.write(Number(at - start) + first * PAGE, part);
      else this.#frame(at, true, true).bytes.set(part, offset);
    });
  }

  /** 64 bytes at once, to registers that take them; false: turned away. */
  writeBlock(address: bigint, bytes: Uint8Array, deferrable: boolean): boolean {
    const { backing, first, start } = this.#at(address, true);
    if (backing.kind !== "device" || backing.writeBlock === undefined) return refuse("EFAULT", `${hex(address)} takes no blocks`, { argument: "address" });
    return backing.writeBlock(Number(address - start) + first * PAGE, bytes, deferrable);
  }

  pin(address: bigint, length: bigint, writable: boolean): PinnedMemory {
    if (!this.alive) refuse("EFAULT", "the process whose memory this was is gone", { rule: "the caller's memory" });
    const frames: Frame[] = [];
    const end = address + length;
    for (let at = address - (address % BIG_PAGE); at < end; at += BIG_PAGE) frames.push(this.#frame(at, writable, true));
    return new PinnedFrames(frames);
  }

  /** Type1's view: a range that lies in one mapping of a device is pinned as it is. */
  get withDevices(): UserMemory {
    const isAlive = (): boolean => this.alive;
    this.#withDevices ??= {
      read: (address, target) => this.read(address, target),
      write: (address, source) => this.write(address, source),
      pin: (address, length, writable) => this.#devicePin(address, length, writable) ?? this.pin(address, length, writable),
      frame: (address, writable) => this.frame(address, writable),
      counters: this.counters,
      get alive() {
        return isAlive();
      },
    };
    return this.#withDevices;
  }

  #devicePin(address: bigint, length: bigint, writable: boolean): PinnedMemory | undefined {
    const { backing, first, start, end } = this.#at(address, writable);
    if (backing.kind !== "device" || address + length > end) return undefined;
    const origin = Number(address - start) + first * PAGE;
    return {
      read: (offset, target) => backing.backend.read(origin + offset, target),
      write: (offset, source) => backing.backend.write(origin + offset, source),
      release: () => undefined,
    };
  }

  /** Visits page by page: address, offset in the page, offset in the buffer, bytes. */
  #each(address: bigint, length: number, visit: (at: bigint, offset: number, from: number, count: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = address + BigInt(done);
      if (at >= 1n << 64n) refuse("EFAULT", `user address ${hex(at)} is outside the address space`, { rule: "the caller's memory" });
      const offset = Number(at % BIG_PAGE);
      const count = Math.min(PAGE - offset, length - done);
      visit(at, offset, done, count);
      done += count;
    }
  }
}
