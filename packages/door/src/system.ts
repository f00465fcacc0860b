/** System calls that Node has no function for, by koffi; loaded when the first is needed. */
import { closeSync } from "node:fs";
import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";

type Call = (number: number, a: number, b: number, c: number) => number;

/** Numbers that x86-64 and arm64 share. */
const SYS = { PIDFD_GETFD: 438, PIDFD_OPEN: 434 } as const;

interface System {
  readonly call: Call;
  readonly poll: (fds: Int16Array, count: number, timeout: number) => number;
  readonly preadv2: (fd: number, vector: { readonly base: Uint8Array; readonly length: number }, count: number, position: number, flags: number) => number;
  readonly errno: () => number;
}

let loaded: System | undefined;

function system(): System {
  if (loaded === undefined) {
    const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
    const libc = koffi.load("libc.so.6");
    koffi.struct("IoVector", { base: "uint8_t *", length: "size_t" });
    loaded = {
      call: libc.func("syscall", "long", ["long", "long", "long", "long"]) as Call,
      poll: libc.func("poll", "int", ["int16_t *", "unsigned long", "int"]) as System["poll"],
      preadv2: libc.func("preadv2", "long", ["int", "IoVector *", "int", "long", "int"]) as System["preadv2"],
      errno: () => koffi.errno(),
    };
  }
  return loaded;
}

function checked(result: number, what: string): number {
  if (result >= 0) return result;
  throw new Error(`${what}: ${getSystemErrorName(-system().errno())}`);
}

/** A descriptor of our own for descriptor `fd` of process `pid`: the same open file. */
export function takeDescriptor(pid: number, fd: number): number {
  const { call } = system();
  const process = checked(call(SYS.PIDFD_OPEN, pid, 0, 0), `pidfd_open of process ${pid}`);
  try {
    return checked(call(SYS.PIDFD_GETFD, process, fd, 0), `pidfd_getfd of descriptor ${fd} of process ${pid}`);
  } finally {
    closeSync(process);
  }
}

const POLLOUT = 4;

/** True when a write would not wait. */
export function isWritable(fd: number): boolean {
  // struct pollfd: int fd; short events, revents.
  const set = new Int16Array(4);
  new Int32Array(set.buffer)[0] = fd;
  set[2] = POLLOUT;
  return system().poll(set, 1, 0) === 1 && (set[3] & POLLOUT) !== 0;
}

const RWF_NOWAIT = 8;
const COUNT_BYTES = 8;

/** Takes the count of an eventfd without waiting, however its owner opened it; false when nobody signalled it. */
export function takeCount(fd: number): boolean {
  return system().preadv2(fd, { base: new Uint8Array(COUNT_BYTES), length: COUNT_BYTES }, 1, -1, RWF_NOWAIT) === COUNT_BYTES;
}
