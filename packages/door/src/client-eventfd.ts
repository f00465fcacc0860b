/** An eventfd of a client: the door holds the same open file and adds to its counter. */
import { writeSync } from "node:fs";
import type { EventFile } from "@iommukit/core";
import type { HeldDescriptors, OwnedDescriptor } from "./held-descriptors.js";
import { isWritable, takeCount, takeDescriptor } from "./system.js";

const ONE = new Uint8Array(BigUint64Array.of(1n).buffer);

export class ClientEventfd implements EventFile {
  readonly kind = "event";
  readonly #owned: OwnedDescriptor;

  /** @throws Error when the client is gone */
  constructor(pid: number, fd: number, held: HeldDescriptors) {
    this.#owned = held.own(takeDescriptor(pid, fd), this);
  }

  /** A counter that is full stays full, as in Linux: the door never waits. */
  signal(): void {
    const { fd } = this.#owned;
    if (isWritable(fd)) writeSync(fd, ONE);
  }

  /** libuv cannot wait for an eventfd: it is looked at every millisecond, as long as somebody watches. */
  watch(run: () => void): () => void {
    const look = setInterval(() => {
      if (takeCount(this.#owned.fd)) run();
    }, 1);
    look.unref();
    return () => clearInterval(look);
  }

  close(): void {
    this.#owned.close();
  }
}
