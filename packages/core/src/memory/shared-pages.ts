/** Memory that a driver shares with a client by mmap(2). A door may move it to where the client can see it too. */
import type { MemoryBackend } from "./types.js";

export class SharedPages implements MemoryBackend {
  readonly length: number;
  #home: MemoryBackend;

  /** Zeros, with `initial` at the beginning. */
  constructor(length: number, initial: Uint8Array = new Uint8Array(0)) {
    const bytes = new Uint8Array(length);
    bytes.set(initial);
    this.length = length;
    this.#home = {
      read: (offset, target) => target.set(bytes.subarray(offset, offset + target.length)),
      write: (offset, source) => bytes.set(source, offset),
    };
  }

  read(offset: number, target: Uint8Array): void {
    this.#home.read(offset, target);
  }

  write(offset: number, source: Uint8Array): void {
    this.#home.write(offset, source);
  }

  /** Copies everything to `home` and lives there from now on. */
  moveTo(home: MemoryBackend): void {
    const bytes = new Uint8Array(this.length);
    this.#home.read(0, bytes);
    home.write(0, bytes);
    this.#home = home;
  }
}
