/** Files that clients have open. A fake descriptor is one end of a socket: its inode is the file's name, however it was passed on. */
import { readlinkSync, statSync } from "node:fs";
import { type KernelFile, type OpenFile, refuse } from "@iommukit/core";
import { ClientEventfd } from "./client-eventfd.js";
import { ForeignMemoryFile } from "./foreign-file.js";
import type { FrameRegistry } from "./frames.js";
import { HeldDescriptors } from "./held-descriptors.js";
import { identityOf } from "./mappings.js";

const POLLIN = 1;

/** The door's end of that socket. */
export interface FileEnd {
  /** Leaves a byte in the client's end, which poll then calls readable. */
  wake(): void;
}

export interface ServedFile {
  readonly file: KernelFile;
  readonly end: FileEnd;
  /** What calls on it took from clients. */
  readonly held: HeldDescriptors;
  /** A byte waits at the client's end. */
  readable: boolean;
}

export class OpenFiles {
  readonly #files = new Map<bigint, ServedFile>();
  /** Those with a poll of their own. */
  readonly #polled = new Set<ServedFile>();

  get size(): number {
    return this.#files.size;
  }

  get(inode: bigint): ServedFile | undefined {
    return this.#files.get(inode);
  }

  /** @throws IommuError EINVAL when the socket has a file already */
  add(inode: bigint, file: KernelFile, end: FileEnd): void {
    if (this.#files.has(inode)) refuse("EINVAL", `socket ${inode} is an open file already`, { argument: "inode" });
    const served: ServedFile = { file, end, held: new HeldDescriptors(), readable: false };
    this.#files.set(inode, served);
    if (file.poll) this.#polled.add(served);
    else show(served); // always readable, as in Linux
  }

  /** The last descriptor is gone. */
  release(inode: bigint): void {
    const served = this.#files.get(inode);
    if (served === undefined) return;
    this.#files.delete(inode);
    this.#polled.delete(served);
    served.file.release();
    served.held.close();
  }

  releaseAll(): void {
    for (const inode of [...this.#files.keys()]) this.release(inode);
  }

  /** After a call: files that have something to read now say so. */
  showReadable(): void {
    for (const served of this.#polled) if (!served.readable && isReadable(served)) show(served);
  }

  /** Descriptor number of a client to file. @throws IommuError EBADF */
  of(pid: number, fd: number, frames: FrameRegistry, held: HeldDescriptors): OpenFile | undefined {
    const path = `/proc/${pid}/fd/${fd}`;
    let link: string;
    try {
      link = readlinkSync(path);
    } catch {
      return refuse("EBADF", `descriptor ${fd} is not open in process ${pid}`, { argument: "fd" });
    }
    const inode = socketInode(link);
    if (inode !== undefined) return this.#files.get(inode)?.file;
    try {
      if (link === "anon_inode:[eventfd]") return new ClientEventfd(pid, fd, held);
      if (!link.startsWith("/")) return undefined;
      return held.shared(identityOf(statSync(path, { bigint: true })), () => new ForeignMemoryFile(path, frames, held));
    } catch {
      return undefined;
    }
  }
}

/** What /proc/PID/fd/N says of a socket. */
export function socketInode(link: string): bigint | undefined {
  const match = /^socket:\[(\d+)\]$/.exec(link);
  return match === null ? undefined : BigInt(match[1]);
}

/** True when the byte at the client's end has to go: there is nothing left to read. */
export function isDrained(served: ServedFile): boolean {
  return served.readable && !isReadable(served);
}

function isReadable({ file }: ServedFile): boolean {
  return file.poll === undefined || (file.poll() & POLLIN) !== 0;
}

function show(served: ServedFile): void {
  served.readable = true;
  served.end.wake();
}
