/**
 * The memory behind one MAP. It is pinned when the first domain needs it and
 * unpinned when the last area goes: without a domain, user memory is not touched at all.
 * Extents stay extents: 1 GiB is one pin and one window.
 */
import type { PinnedMemory, UserMemory } from "../files/types.js";
import type { ClientWindows } from "../memory/windows.js";

export class Pages {
  readonly address: bigint;
  readonly length: bigint;
  readonly writable: boolean;
  readonly #user: UserMemory;
  readonly #windows: ClientWindows;
  #pinned: PinnedMemory | undefined;
  #base = 0;

  constructor(user: UserMemory, windows: ClientWindows, address: bigint, length: bigint, writable: boolean) {
    this.#user = user;
    this.#windows = windows;
    this.address = address;
    this.length = length;
    this.writable = writable;
  }

  /**
   * Physical address of the first byte; pins at the first call.
   * @throws IommuError EFAULT, ENOMEM
   */
  pin(): number {
    if (this.#pinned === undefined) {
      const pinned = this.#user.pin(this.address, this.length, this.writable);
      try {
        this.#base = this.#windows.open(this.address, Number(this.length), pinned);
      } catch (error) {
        pinned.release();
        throw error;
      }
      this.#pinned = pinned;
    }
    return this.#base;
  }

  /** No domain maps it any more. */
  unpin(): void {
    if (this.#pinned === undefined) return;
    this.#windows.close(this.#base, Number(this.length));
    this.#pinned.release();
    this.#pinned = undefined;
  }
}
