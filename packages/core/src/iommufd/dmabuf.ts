/** A dma-buf: memory of a device that others may map until its owner revokes it. */
import { refuse } from "../errors.js";
import type { KernelFile } from "../files/types.js";
import type { MemoryBackend } from "../memory/types.js";
import type { SharedBuffer } from "./pages.js";

export class DmabufFile implements KernelFile, SharedBuffer {
  readonly path = "anon_inode:dmabuf";
  readonly size: number;
  readonly backend: MemoryBackend;
  readonly listeners: Set<() => void> = new Set<() => void>();
  /** It is made of one range, which is all that an IOAS takes. */
  readonly mappable: boolean;
  /** No descriptor is left. */
  closed = false;
  #revoked = false;

  constructor(size: number, backend: MemoryBackend, mappable = true) {
    this.size = size;
    this.backend = backend;
    this.mappable = mappable;
  }

  get revoked(): boolean {
    return this.#revoked;
  }

  /** Takes the memory away from everybody at once; giving it back maps nothing again. */
  revoke(revoked: boolean): void {
    this.#revoked = revoked;
    if (revoked) for (const listener of [...this.listeners]) listener();
  }

  ioctl(): number {
    return refuse("ENOTTY", "a dma-buf takes no such ioctl", { argument: "request" });
  }

  /** Mappings keep the memory. */
  release(): void {
    this.closed = true;
  }
}
