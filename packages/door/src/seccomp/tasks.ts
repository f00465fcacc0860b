/** Threads that call, by the process they belong to. */
import { closeSync, openSync, readFileSync } from "node:fs";
import { refuse } from "@iommukit/core";
import type { Client } from "../client.js";
import type { Door } from "../door.js";
import { addressOf, cString, errno, isAlive, openPidfd, system } from "../system.js";
import type { Epoll } from "./epoll.js";
import { EPOLLIN } from "./epoll.js";
import { FIRST_FD } from "./syscalls.js";

const SYS = { TGKILL: 234, NEWFSTATAT: 262, PRLIMIT64: 302 } as const;
const ESRCH = 3;
const RLIMIT_NOFILE = 7;
/** Threads that are remembered; more are looked up again. */
const MOST_THREADS = 4096;

/** struct stat: u64 st_ino at 8, u32 st_mode at 24. */
const status = new DataView(new ArrayBuffer(144));
const statusBytes = new Uint8Array(status.buffer);
const S_IFMT = 0o170000;
const S_IFSOCK = 0o140000;

/** A process that uses the door. */
export class Task {
  readonly client: Client;
  readonly pidfd: number;
  /** Its /proc/PID/fd: shorter ways lead from there. */
  readonly #descriptors: number;
  /** Numbers below it are, or were, in use by descriptors of ours. */
  #next = FIRST_FD;
  /** Numbers that have become free, as far as we know. */
  readonly #free: number[] = [];

  /** @throws SystemError when it has died */
  constructor(door: Door, pid: number) {
    this.#descriptors = openSync(`/proc/${pid}/fd`, "r");
    try {
      this.pidfd = openPidfd(pid);
    } catch (error) {
      closeSync(this.#descriptors);
      throw error;
    }
    this.client = door.client(pid);
  }

  /** The socket behind a descriptor; undefined when it is none. */
  socketInode(fd: number): bigint | undefined {
    if (!this.#stat(fd) || (status.getUint32(24, true) & S_IFMT) !== S_IFSOCK) return undefined;
    return status.getBigUint64(8, true);
  }

  #stat(fd: number): boolean {
    return system().syscall(SYS.NEWFSTATAT, this.#descriptors, cString(String(fd)), addressOf(statusBytes), 0, 0, 0) === 0;
  }

  close(): void {
    closeSync(this.#descriptors);
    closeSync(this.pidfd);
  }

  get pid(): number {
    return this.client.pid;
  }

  /** A number that a descriptor of ours may have; undefined when the process's limit is reached. */
  freeNumber(): number | undefined {
    const limit = this.#limit();
    for (let fd = this.#free.pop() ?? this.#next++; fd < limit; fd = this.#free.pop() ?? this.#next++) {
      if (!this.#stat(fd)) return fd;
    }
    this.#next = FIRST_FD; // the next time, look at all of them again
    return undefined;
  }

  /** The lowest from `least` on, for F_DUPFD. */
  freeNumberFrom(least: number): number | undefined {
    const limit = this.#limit();
    for (let fd = Math.max(least, FIRST_FD); fd < limit; fd++) if (!this.#stat(fd)) return fd;
    return undefined;
  }

  /** A descriptor of ours has been closed. */
  freed(fd: number): void {
    this.#free.push(fd);
  }

  /** 0 once it has died. */
  #limit(): number {
    const limits = new BigUint64Array(2);
    system().syscall(SYS.PRLIMIT64, this.pid, RLIMIT_NOFILE, 0, addressOf(limits), 0, 0);
    return Number(limits[0]);
  }
}

export class Tasks {
  readonly #door: Door;
  readonly #epoll: Epoll;
  readonly #byPid = new Map<number, Task>();
  readonly #byTid = new Map<number, Task>();
  readonly #byPidfd = new Map<number, Task>();

  constructor(door: Door, epoll: Epoll) {
    this.#door = door;
    this.#epoll = epoll;
  }

  /** The process of a thread that has called before. */
  known(tid: number): Task | undefined {
    const task = this.#byTid.get(tid);
    return task !== undefined && isThreadOf(task, tid) ? task : undefined;
  }

  /** @throws IommuError EFAULT when the thread has died */
  of(tid: number): Task {
    const known = this.known(tid);
    if (known !== undefined) return known;
    try {
      return this.#lookUp(tid);
    } catch (error) {
      return refuse("EFAULT", `thread ${tid} cannot be reached: ${error instanceof Error ? error.message : String(error)}`, { rule: "/proc/TID/status" });
    }
  }

  #lookUp(tid: number): Task {
    const pid = Number(/^Tgid:\s*(\d+)$/m.exec(readFileSync(`/proc/${tid}/status`, "latin1"))?.[1]);
    let task = this.#byPid.get(pid);
    if (task !== undefined && !isAlive(task.pidfd)) this.#end(task);
    task = this.#byPid.get(pid) ?? this.#begin(pid);
    if (this.#byTid.size >= MOST_THREADS) this.#byTid.clear();
    this.#byTid.set(tid, task);
    return task;
  }

  /** The process whose end a descriptor has told; false when it is no such descriptor. */
  ended(pidfd: number): boolean {
    const task = this.#byPidfd.get(pidfd);
    if (task) this.#end(task);
    return task !== undefined;
  }

  freed(pid: number, fd: number): void {
    this.#byPid.get(pid)?.freed(fd);
  }

  close(): void {
    for (const task of this.#byPid.values()) this.#end(task);
  }

  #begin(pid: number): Task {
    const task = new Task(this.#door, pid);
    this.#byPid.set(pid, task);
    this.#byPidfd.set(task.pidfd, task);
    this.#epoll.add(task.pidfd, EPOLLIN);
    return task;
  }

  #end(task: Task): void {
    this.#byPid.delete(task.pid);
    this.#byPidfd.delete(task.pidfd);
    for (const [tid, other] of this.#byTid) if (other === task) this.#byTid.delete(tid);
    this.#epoll.remove(task.pidfd);
    task.close();
    this.#door.endClient(task.pid);
  }
}

/** Numbers of threads are used again. */
function isThreadOf({ pid, pidfd }: Task, tid: number): boolean {
  const { syscall: call } = system();
  return isAlive(pidfd) && (call(SYS.TGKILL, pid, tid, 0, 0, 0, 0) === 0 || errno() !== ESRCH);
}
