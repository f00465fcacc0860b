/** Descriptors of a client that are not the door's: files of memory, for MAP_FILE. */
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { type FrameIdentity, type MemoryFile, type PinnedMemory, refuse } from "@iommukit/core";
import type { FrameRegistry, HeldFrames } from "./frames.js";
import type { HeldDescriptors, OwnedDescriptor } from "./held-descriptors.js";
import { fileKey } from "./mappings.js";

const PAGE = 4096n;

/** A file of memory that a client has open: memfd, tmpfs, hugetlbfs. It is held by a descriptor of our own while pages are pinned. */
export class ForeignMemoryFile implements MemoryFile {
  readonly kind = "memory";
  readonly identity: string;
  readonly #path: string;
  readonly #frames: FrameRegistry;
  /** Opened when the descriptor was named: the client may close its own. */
  readonly #owned: OwnedDescriptor;

  constructor(path: string, frames: FrameRegistry, held: HeldDescriptors) {
    this.#path = path;
    this.#frames = frames;
    this.#owned = held.own(openSync(path, "r+"), this);
    this.identity = fileKey(this.#owned.fd);
  }

  pin(offset: bigint, length: bigint): PinnedMemory {
    if (!this.#owned.isOpen) refuse("EFAULT", `${this.#path} was let go of`, { argument: "fd" });
    const { size } = fstatSync(this.#owned.fd, { bigint: true });
    const end = ((size + PAGE - 1n) / PAGE) * PAGE;
    if (offset + length > end) refuse("EINVAL", `0x${offset.toString(16)} + 0x${length.toString(16)} lies behind the end of ${this.#path} at 0x${size.toString(16)}`, { argument: "fd" });
    const file = this.identity;
    const frames = this.#frames.hold([{ space: file, first: offset / PAGE, count: Number(length / PAGE) }]);
    return new PinnedFile(openSync(`/proc/self/fd/${this.#owned.fd}`, "r+"), Number(offset), frames);
  }
}

class PinnedFile implements PinnedMemory {
  readonly #fd: number;
  readonly #offset: number;
  readonly #frames: HeldFrames;

  constructor(fd: number, offset: number, frames: HeldFrames) {
    this.#fd = fd;
    this.#offset = offset;
    this.#frames = frames;
  }

  frame(page: number): FrameIdentity | undefined {
    return this.#frames.frame(page);
  }

  read(offset: number, target: Uint8Array): void {
    const got = readSync(this.#fd, target, 0, target.length, this.#offset + offset);
    target.fill(0, got);
  }

  write(offset: number, source: Uint8Array): void {
    writeSync(this.#fd, source, 0, source.length, this.#offset + offset);
  }

  release(first: number, count: number): void {
    if (this.#frames.release(first, count)) closeSync(this.#fd);
  }
}
