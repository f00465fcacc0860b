/** The ring of a copy engine's channel: descriptors in pinned memory of its client. */
import type { Interval, PinnedRange } from "@iommukit/core";
import { Descriptor, DESCRIPTOR_BYTES } from "./copy-layout.js";

export class CopyRing {
  readonly #memory: PinnedRange;
  readonly #offset: number;
  readonly #size: number;
  head = 0;
  tail = 0;

  /** @param address of descriptor 0; @param size how many there are */
  constructor(memory: PinnedRange, address: bigint, size: number) {
    this.#memory = memory;
    this.#offset = Number(address - memory.iova);
    this.#size = size;
  }

  meets({ start, last }: Interval): boolean {
    const { iova, length } = this.#memory;
    return iova <= last && start < iova + length;
  }

  /** The descriptor at the head, as it is now: the client may change it later. Undefined when the memory is gone. */
  next(): Uint8Array | undefined {
    const bytes = new Uint8Array(DESCRIPTOR_BYTES);
    return this.#memory.read(this.#offset + this.head * DESCRIPTOR_BYTES, bytes) ? bytes : undefined;
  }

  /** Tells the client how the descriptor at the head has ended, and goes on. False when the memory is gone. */
  complete(status: number, moved: number): boolean {
    const told = this.#memory.write(this.#offset + this.head * DESCRIPTOR_BYTES + Descriptor.STATUS, new Uint8Array(Uint32Array.of(status, moved).buffer));
    this.head = (this.head + 1) % this.#size;
    return told;
  }

  release(): void {
    this.#memory.unpin();
  }
}
