/**
 * Parts of files that clients have mapped, until the last mapping of each is gone. Every mapping has an open file of its own,
 * which the kernel closes with the mapping's last copy, in whatever process: inotify tells.
 */
import { closeSync, openSync, readSync } from "node:fs";
import type { Door, MappedPart } from "../door.js";
import { allMappings } from "../mappings.js";
import { cString, syscall } from "../system.js";
import type { Epoll } from "./epoll.js";
import { EPOLLIN } from "./epoll.js";

const SYS = { INOTIFY_ADD_WATCH: 254, INOTIFY_INIT1: 294 } as const;
const IN_NONBLOCK_CLOEXEC = 0o2004000;
const IN_CLOSE = 0x18;
/** struct inotify_event without a name: int watch, u32 mask, cookie, length. */
const EVENT_BYTES = 16;

interface Mapped {
  readonly part: MappedPart;
  readonly length: number;
  /** Who mapped it, and where. */
  readonly pid: number;
  address: bigint;
}

/** A mapping in the making. */
export interface BegunMapping {
  /** To map, and then to close. */
  readonly fd: number;
  done(address: bigint): void;
  failed(): void;
}

export class MappedRegions {
  readonly #door: Door;
  readonly #fd: number = syscall("inotify_init1", SYS.INOTIFY_INIT1, IN_NONBLOCK_CLOEXEC);
  readonly #mapped = new Map<number, Set<Mapped>>();

  constructor(door: Door, epoll: Epoll) {
    this.#door = door;
    epoll.add(this.#fd, EPOLLIN);
  }

  begin(part: MappedPart, length: number, pid: number): BegunMapping {
    const path = `/proc/self/fd/${part.shared.fd}`;
    const watch = syscall("inotify_add_watch", SYS.INOTIFY_ADD_WATCH, this.#fd, cString(path), IN_CLOSE);
    const mapped: Mapped = { part, length, pid, address: 0n };
    const all = this.#mapped.get(watch) ?? new Set();
    this.#mapped.set(watch, all.add(mapped));
    return {
      fd: openSync(path, "r+"),
      done: (address) => void (mapped.address = address),
      failed: () => this.#end(all, mapped),
    };
  }

  /** Takes what inotify tells; false when it is not from there. */
  changed(fd: number): boolean {
    if (fd !== this.#fd) return false;
    const events = Buffer.alloc(EVENT_BYTES * 64);
    for (;;) {
      let got: number;
      try {
        got = readSync(fd, events);
      } catch {
        return true; // no more
      }
      for (let at = 0; at < got; at += EVENT_BYTES + events.readUInt32LE(at + 12)) this.#closed(events.readInt32LE(at));
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** One open file of those that a watch stands for was closed: whose is it? */
  #closed(watch: number): void {
    const all = this.#mapped.get(watch);
    if (all === undefined) return;
    for (const mapped of all) if (!isMapped(mapped)) this.#end(all, mapped);
  }

  #end(all: Set<Mapped>, mapped: Mapped): void {
    all.delete(mapped);
    this.#door.unmap(mapped.part.region);
  }
}

function isMapped({ part, length, pid, address }: Mapped): boolean {
  for (const { file, start, last } of allMappings(pid)) {
    if (file === part.shared.key && start < address + BigInt(length) && last >= address) return true;
  }
  return false;
}
