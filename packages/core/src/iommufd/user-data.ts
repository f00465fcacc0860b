/** Vendor data of requests in the caller's memory: read and written by drivers, by the rules that are the same for all. */
import type { InvalidationEntries, UserData } from "../driver/types.js";
import { refuse } from "../errors.js";
import { copyTail } from "../files/copy-in.js";
import type { UserBytes } from "../files/types.js";

export class CallerData implements UserData {
  readonly type: number;
  readonly length: number;
  readonly #memory: UserBytes;
  readonly #address: bigint;

  constructor(memory: UserBytes, type: number, length: number, address: bigint) {
    this.#memory = memory;
    this.type = type;
    this.length = length;
    this.#address = address;
  }

  read(least: number, size: number): Uint8Array {
    if (this.length < least || this.length > size) {
      refuse("EINVAL", `data_len ${this.length} is not between ${least} and ${size}`, { argument: "data_len" });
    }
    const bytes = new Uint8Array(size);
    this.#memory.read(this.#address, bytes.subarray(0, this.length));
    return bytes;
  }

  write(bytes: Uint8Array): void {
    this.#memory.write(this.#address, bytes.subarray(0, this.length));
  }
}

export class CallerEntries implements InvalidationEntries {
  readonly type: number;
  readonly entryLength: number;
  readonly count: number;
  /** What goes back to the caller as entry_num. */
  done = 0;
  readonly #memory: UserBytes;
  readonly #address: bigint;

  constructor(memory: UserBytes, type: number, entryLength: number, count: number, address: bigint) {
    this.#memory = memory;
    this.type = type;
    this.entryLength = entryLength;
    this.count = count;
    this.#address = address;
  }

  read(index: number, least: number, size: number): Uint8Array {
    if (this.entryLength < least || this.entryLength > size) {
      refuse("EINVAL", `entry_len ${this.entryLength} is not between ${least} and ${size}`, { argument: "entry_len" });
    }
    const bytes = new Uint8Array(size);
    this.#memory.read(this.#address + BigInt(index * this.entryLength), bytes.subarray(0, this.entryLength));
    return bytes;
  }

  readAll(size: number): Uint8Array[] {
    return Array.from({ length: this.count }, (_, index) => {
      const address = this.#address + BigInt(index * this.entryLength);
      copyTail(this.#memory, address, size, this.entryLength, "entry_len");
      const bytes = new Uint8Array(size);
      this.#memory.read(address, bytes.subarray(0, Math.min(size, this.entryLength)));
      return bytes;
    });
  }

  handled(count: number): void {
    this.done = count;
  }
}
