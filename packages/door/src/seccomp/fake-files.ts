/**
 * Files of the door as the client holds them: one end of a socket pair each. We hold the other end, which hangs up when the last
 * copy of the client's is gone, in whatever process it was.
 */
import { closeSync, fstatSync, writeSync } from "node:fs";
import type { KernelFile } from "@iommukit/core";
import type { OpenFiles } from "../open-files.js";
import { addressOf, syscall } from "../system.js";
import type { Epoll } from "./epoll.js";
import { errnoOf, type Listener } from "./listener.js";
import type { Task, Tasks } from "./tasks.js";

const SYS_SOCKETPAIR = 53;
const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;
const EMFILE = 24;
const EPIPE = 32;

interface FakeFile {
  readonly inode: bigint;
  /** Who got it first, and as which number. */
  readonly pid: number;
  readonly fd: number;
}

function wake(end: number): void {
  try {
    writeSync(end, Uint8Array.of(0));
  } catch (error) {
    if (errnoOf(error) !== EPIPE) throw error; // the client's last copy is gone: we are about to hear of it
  }
}

export class FakeFiles {
  readonly #files: OpenFiles;
  readonly #epoll: Epoll;
  readonly #tasks: Tasks;
  readonly #listener: Listener;
  /** By our end of the socket. */
  readonly #byEnd = new Map<number, FakeFile>();

  constructor(files: OpenFiles, epoll: Epoll, tasks: Tasks, listener: Listener) {
    this.#files = files;
    this.#epoll = epoll;
    this.#tasks = tasks;
    this.#listener = listener;
  }

  /** Gives a waiting client the file under a number that is free; returns 0 or a negative errno, and then the file is released. */
  give(id: bigint, task: Task, fd: number, file: KernelFile, options: { readonly closeOnExec: boolean; readonly answer: boolean }): number {
    let ends: readonly [number, number];
    try {
      ends = socketPair();
    } catch {
      file.release();
      return -EMFILE; // this process's own limit
    }
    const [ours, theirs] = ends;
    const inode = fstatSync(theirs, { bigint: true }).ino;
    this.#byEnd.set(ours, { inode, pid: task.pid, fd });
    this.#epoll.add(ours);
    this.#files.add(inode, file, { wake: () => wake(ours) });
    try {
      this.#listener.addDescriptor(id, { fd: theirs, as: fd, ...options });
      return 0;
    } catch (error) {
      this.hungUp(ours); // the client has died
      return -(errnoOf(error) ?? EMFILE);
    } finally {
      closeSync(theirs);
    }
  }

  /** Releases the file whose end has hung up; false when it is no such end. */
  hungUp(end: number): boolean {
    const fake = this.#byEnd.get(end);
    if (fake === undefined) return false;
    this.#byEnd.delete(end);
    this.#epoll.remove(end);
    closeSync(end);
    this.#tasks.freed(fake.pid, fake.fd);
    this.#files.release(fake.inode);
    return true;
  }

  close(): void {
    for (const end of this.#byEnd.keys()) this.hungUp(end);
  }
}

function socketPair(): readonly [number, number] {
  const ends = new Int32Array(2);
  syscall("socketpair", SYS_SOCKETPAIR, AF_UNIX, SOCK_STREAM_CLOEXEC, 0, addressOf(ends));
  return [ends[0], ends[1]];
}
