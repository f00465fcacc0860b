/** The argument of an ioctl that came along with the request. */
import type { UserBytes } from "@iommukit/core";
import type { Copy } from "./protocol.js";

/** Reads and writes of it need no system call, and go back with the answer. */
export class InlineArgument implements UserBytes {
  readonly copies: Copy[] = [];
  readonly #behind: UserBytes;
  readonly #start: bigint;
  readonly #bytes: Uint8Array;

  constructor(behind: UserBytes, start: bigint, bytes: Uint8Array) {
    this.#behind = behind;
    this.#start = start;
    this.#bytes = Uint8Array.from(bytes);
  }

  #offset(address: bigint, length: number): number {
    const offset = address - this.#start;
    return offset >= 0n && offset + BigInt(length) <= BigInt(this.#bytes.length) ? Number(offset) : -1;
  }

  read(address: bigint, target: Uint8Array): void {
    const offset = this.#offset(address, target.length);
    if (offset === -1) this.#behind.read(address, target);
    else target.set(this.#bytes.subarray(offset, offset + target.length));
  }

  write(address: bigint, source: Uint8Array): void {
    const offset = this.#offset(address, source.length);
    if (offset === -1) {
      this.#behind.write(address, source);
      return;
    }
    this.#bytes.set(source, offset);
    this.copies.push({ address, bytes: Uint8Array.from(source) });
  }
}
