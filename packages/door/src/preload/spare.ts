/**
 * A descriptor that the shim made for a file that a call may make. The first time a call comes without one: everything is
 * undone, and the shim asks again with one.
 */
import type { KernelFile } from "@iommukit/core";
import { AskAgain } from "../calls.js";
import type { NewDescriptors } from "../client.js";

export class Spare implements NewDescriptors {
  readonly #fd: number | undefined;
  /** The call needs one and has none. */
  wanted = false;
  file: KernelFile | undefined;

  /** @param fd its number in the client */
  constructor(fd: number | undefined) {
    this.#fd = fd;
  }

  install(file: KernelFile): number {
    if (this.#fd === undefined) {
      this.wanted = true;
      throw new AskAgain();
    }
    this.file = file;
    return this.#fd;
  }

  uninstall(): void {
    this.file?.release();
    this.file = undefined;
  }
}
