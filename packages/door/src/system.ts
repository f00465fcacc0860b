/** System calls that Node has no function for, by koffi; loaded when the first is needed. */
import { closeSync } from "node:fs";
import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";

/** Numbers that x86-64 and arm64 share. */
const SYS = { PIDFD_SEND_SIGNAL: 424, PIDFD_OPEN: 434, PIDFD_GETFD: 438 } as const;

type Word = number | bigint;

interface System {
  readonly koffi: typeof import("koffi");
  readonly syscall: (number: number, a: Word, b: Word, c: Word, d: Word, e: Word, f: Word) => number;
  readonly ioctl: (fd: number, request: number, argument: Uint8Array) => number;
  readonly poll: (fds: Int16Array, count: number, timeout: number) => number;
  readonly preadv2: (fd: number, parts: BigUint64Array, count: number, position: number, flags: number) => number;
}

let loaded: System | undefined;

export function system(): System {
  if (loaded === undefined) {
    const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
    const libc = koffi.load("libc.so.6");
    const word = "long";
    loaded = {
      koffi,
      syscall: libc.func("syscall", "long", [word, word, word, word, word, word, word]) as System["syscall"],
      ioctl: libc.func("ioctl", "int", ["int", "unsigned long", "void *"]) as System["ioctl"],
      poll: libc.func("poll", "int", ["void *", "unsigned long", "int"]) as System["poll"],
      preadv2: libc.func("preadv2", "long", ["int", "void *", "int", "long", "int"]) as System["preadv2"],
    };
  }
  return loaded;
}

export function errno(): number {
  return system().koffi.errno();
}

/** A system call that failed. */
export class SystemError extends Error {
  readonly errno: number;

  constructor(what: string, code: number) {
    super(`${what}: ${getSystemErrorName(-code)}`);
    this.errno = code;
  }
}

/** @throws SystemError */
export function checked(result: number, what: string): number {
  if (result >= 0) return result;
  throw new SystemError(what, errno());
}

/** @throws SystemError */
export function syscall(what: string, number: number, a: Word = 0, b: Word = 0, c: Word = 0, d: Word = 0, e: Word = 0, f: Word = 0): number {
  return checked(system().syscall(number, a, b, c, d, e, f), what);
}

/** Address of the bytes of an array, which stays as long as somebody holds the array. */
export function addressOf(bytes: Uint8Array | BigUint64Array | Int32Array): bigint {
  return system().koffi.address(bytes);
}

const text = new Uint8Array(8192);

/** Address of a string with a NUL behind it, until the next one. */
export function cString(value: string): bigint {
  const { written } = new TextEncoder().encodeInto(value, text.subarray(0, -1));
  text[written] = 0;
  return addressOf(text);
}

export function openPidfd(pid: number): number {
  return syscall(`pidfd_open of process ${pid}`, SYS.PIDFD_OPEN, pid);
}

/** False once the process has ended. */
export function isAlive(pidfd: number): boolean {
  return system().syscall(SYS.PIDFD_SEND_SIGNAL, pidfd, 0, 0, 0, 0, 0) === 0 || errno() !== 3;
}

/** A descriptor of our own for descriptor `fd` of a process: the same open file. */
export function takeDescriptorBy(pidfd: number, pid: number, fd: number): number {
  return syscall(`pidfd_getfd of descriptor ${fd} of process ${pid}`, SYS.PIDFD_GETFD, pidfd, fd);
}

export function takeDescriptor(pid: number, fd: number): number {
  const pidfd = openPidfd(pid);
  try {
    return takeDescriptorBy(pidfd, pid, fd);
  } finally {
    closeSync(pidfd);
  }
}

/** Calls `ready` in every turn of the event loop in which a descriptor is readable or hung up; returns how to end that. */
export function watch(fd: number, ready: () => void): () => void {
  let due = false;
  // Not at once: the callback of koffi runs outside the scopes in which promises and ticks have their turn.
  const handle = system().koffi.node.poll(fd, { readable: true }, () => {
    if (due) return;
    due = true;
    setImmediate(() => {
      due = false;
      ready();
    });
  });
  return () => handle.close();
}

export const POLLIN = 1;
const POLLOUT = 4;
export const POLLHUP = 16;

/** The events that stand, of those asked for. */
export function pollNow(fd: number, events: number): number {
  // struct pollfd: int fd; short events, revents.
  const set = new Int16Array(4);
  new Int32Array(set.buffer)[0] = fd;
  set[2] = events;
  return system().poll(set, 1, 0) === 1 ? set[3] : 0;
}

/** True when a write would not wait. */
export function isWritable(fd: number): boolean {
  return (pollNow(fd, POLLOUT) & POLLOUT) !== 0;
}

const RWF_NOWAIT = 8;
const COUNT_BYTES = 8;
const count = new BigUint64Array(1);

/** Takes the count of an eventfd without waiting, however its owner opened it; false when nobody signalled it. */
export function takeCount(fd: number): boolean {
  return system().preadv2(fd, BigUint64Array.of(addressOf(count), BigInt(COUNT_BYTES)), 1, -1, RWF_NOWAIT) === COUNT_BYTES;
}
