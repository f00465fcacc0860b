/** The argument of one ioctl as its handler touches it: these bytes become the step's `in` and `out`. */
import type { UserBytes } from "../../files/types.js";
import { readable } from "./recorded-memory.js";

/** A request's argument is never larger. */
const LIMIT = 1 << 20;
const PAGE = 4096n;

export class ArgumentWindow implements UserBytes {
  readonly #inner: UserBytes;
  readonly #behind: UserBytes;
  readonly #start: bigint;
  /** As they were before the call, as far as they were touched. */
  #before: number[] = [];
  readonly #writes: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
  /** A write was refused: a copy in ordinary memory would take it. */
  unwritable = false;

  /** @param inner the caller's memory; @param behind the same for everything but the argument */
  constructor(inner: UserBytes, behind: UserBytes, start: bigint) {
    this.#inner = inner;
    this.#behind = behind;
    this.#start = start;
  }

  get touched(): boolean {
    return this.#before.length > 0;
  }

  get before(): Uint8Array {
    return Uint8Array.from(this.#before);
  }

  get after(): Uint8Array {
    const bytes = this.before;
    for (const { offset, bytes: stored } of this.#writes) bytes.set(stored, offset);
    return bytes;
  }

  read(address: bigint, target: Uint8Array): void {
    const offset = this.#offset(address, target.length);
    if (offset === -1) return this.#behind.read(address, target);
    try {
      this.#inner.read(address, target);
    } catch (error) {
      this.#readable(address, target.length, offset);
      throw error;
    }
    this.#learn(offset, target);
  }

  write(address: bigint, source: Uint8Array): void {
    const offset = this.#offset(address, source.length);
    if (offset === -1) return this.#behind.write(address, source);
    const before = readable(this.#inner, address, source.length);
    try {
      this.#inner.write(address, source);
    } catch (error) {
      this.unwritable = true;
      throw error;
    }
    if (before) this.#learn(offset, before);
    this.#writes.push({ offset, bytes: Uint8Array.from(source) });
  }

  /** Where in the argument; -1 for other memory. The argument ends at the size that it names; without one, where touches leave a gap. */
  #offset(address: bigint, length: number): number {
    const offset = address - this.#start;
    if (offset < 0n || offset + BigInt(length) > BigInt(LIMIT)) return -1;
    const known = this.#before.length;
    const named = known >= 4 ? new DataView(this.before.buffer).getUint32(0, true) : LIMIT;
    const at = Number(offset);
    return at < known || (at === known && known < 4) || at + length <= named ? at : -1;
  }

  #learn(offset: number, bytes: Uint8Array): void {
    if (offset > this.#before.length) {
      const gap = readable(this.#inner, this.#start + BigInt(this.#before.length), offset - this.#before.length);
      if (gap === undefined) return;
      for (const byte of gap) this.#before.push(byte);
    }
    for (let i = this.#before.length - offset; i < bytes.length; i++) this.#before.push(bytes[i]);
  }

  /** The pages before the one that is not there. */
  #readable(address: bigint, length: number, offset: number): void {
    const border = Number((address / PAGE + 1n) * PAGE - address);
    if (border >= length) return;
    const part = readable(this.#inner, address, border);
    if (part) this.#learn(offset, part);
  }
}
