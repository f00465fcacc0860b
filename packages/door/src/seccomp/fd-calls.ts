/** Calls on a descriptor. */
import { closeSync } from "node:fs";
import { type KernelFile, refuse } from "@iommukit/core";
import { attempt, ioctl as ioctlOf, IO_BYTES, read, write } from "../calls.js";
import type { NewDescriptors } from "../client.js";
import { isDrained, type ServedFile } from "../open-files.js";
import { addressOf, syscall, takeDescriptorBy } from "../system.js";
import type { Call, Outcome } from "./call.js";
import { errnoOf } from "./listener.js";
import { statDescriptor } from "./path-calls.js";
import { deviceStat } from "./stat.js";
import { F_DUPFD_CLOEXEC, FIRST_FD, SYS } from "./syscalls.js";

const EIO = 5;
const EMFILE = 24;
const EINVAL = 22;
const MOST_PARTS = 1024;
const SYS_RECVFROM = 45;
const MSG_DONTWAIT = 0x40;

/** Descriptors that a call makes: numbers at once, the files under them when the call has succeeded. */
class PromisedDescriptors implements NewDescriptors {
  readonly #call: Call;
  readonly #files = new Map<number, KernelFile>();

  constructor(call: Call) {
    this.#call = call;
  }

  install(file: KernelFile): number {
    const fd = this.#call.task.freeNumber();
    if (fd === undefined) return refuse("EMFILE", `the process may have no descriptor from ${FIRST_FD} on`, { rule: "RLIMIT_NOFILE" });
    this.#files.set(fd, file);
    return fd;
  }

  uninstall(fd: number): void {
    this.#files.get(fd)?.release();
    this.#files.delete(fd);
    this.#call.task.freed(fd);
  }

  /** Returns 0 or a negative errno. */
  keep(): number {
    const { id, task, services } = this.#call;
    let result = 0;
    // Like those of Linux they close on exec.
    for (const [fd, file] of this.#files) result = services.fakes.give(id, task, fd, file, { closeOnExec: true, answer: false }) || result;
    return result;
  }
}

function ioctl(call: Call): Outcome {
  const served = call.served(call.int(0));
  if (served === undefined) return "proceed";
  const descriptors = new PromisedDescriptors(call);
  const result = ioctlOf(served, call.task.client, call.memory, descriptors, Number(call.word(1) & 0xffff_ffffn), call.word(2));
  return descriptors.keep() || result;
}

interface Part {
  readonly address: bigint;
  readonly length: number;
}

type Transfer = (call: Call, served: ServedFile, part: Part, position: bigint | undefined) => number;

function readPart(call: Call, { file }: ServedFile, { address, length }: Part, position: bigint | undefined): number {
  const { result, bytes } = read(file, call.task.client, position, Math.min(length, IO_BYTES));
  return attempt(() => {
    try {
      call.memory.write(address, bytes);
    } catch (error) {
      if (position === undefined) file.unread?.();
      throw error;
    }
    return result;
  });
}

function writePart(call: Call, { file }: ServedFile, { address, length }: Part, position: bigint | undefined): number {
  return attempt(() => {
    const bytes = new Uint8Array(Math.min(length, IO_BYTES));
    call.memory.read(address, bytes);
    return write(file, call.task.client, position, bytes);
  });
}

const byte = new Uint8Array(1);

/** Takes the byte that says "readable" out of the client's end. */
function drain(call: Call, fd: number, served: ServedFile): void {
  if (!isDrained(served)) return;
  served.readable = false;
  const theirs = takeDescriptorBy(call.task.pidfd, call.task.pid, fd);
  try {
    syscall("recv", SYS_RECVFROM, theirs, addressOf(byte), 1, MSG_DONTWAIT);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error; // the client may have taken it
  } finally {
    closeSync(theirs);
  }
}

/** @param position undefined for read(2) and write(2) */
function transfer(call: Call, each: Transfer, parts: readonly Part[], position: bigint | undefined): number {
  const fd = call.int(0);
  const served = call.served(fd);
  if (served === undefined) return -EIO;
  let done = 0;
  for (const part of parts) {
    const result = each(call, served, part, position === undefined ? undefined : position + BigInt(done));
    if (result < 0) return done > 0 ? done : result;
    done += result;
    if (result < part.length) break;
  }
  drain(call, fd, served);
  return done;
}

function plain(each: Transfer, positioned: boolean): (call: Call) => Outcome {
  return (call) => {
    if (call.served(call.int(0)) === undefined) return "proceed";
    const length = call.word(2) > BigInt(IO_BYTES) ? IO_BYTES : Number(call.word(2));
    return transfer(call, each, [{ address: call.word(1), length }], positioned ? call.word(3) : undefined);
  };
}

function vector(each: Transfer, positioned: boolean): (call: Call) => Outcome {
  return (call) => {
    if (call.served(call.int(0)) === undefined) return "proceed";
    const count = Number(call.word(2));
    if (count > MOST_PARTS) return -EINVAL;
    return attempt(() => {
      // struct iovec: address, length.
      const words = new BigUint64Array(2 * count);
      call.memory.read(call.word(1), new Uint8Array(words.buffer));
      const parts = Array.from({ length: count }, (_, i) => ({ address: words[2 * i], length: Number(words[2 * i + 1]) }));
      return transfer(call, each, parts, positioned ? call.word(3) : undefined);
    });
  };
}

/** Copies get high numbers too, where reads and writes of them are seen. */
function duplicate(call: Call, fd: number, least: number, closeOnExec: boolean): Outcome {
  if (call.served(fd) === undefined) return "proceed";
  const { task, services, id } = call;
  const as = task.freeNumberFrom(least);
  if (as === undefined) return -EMFILE;
  const copy = takeDescriptorBy(task.pidfd, task.pid, fd);
  try {
    services.listener.addDescriptor(id, { fd: copy, as, closeOnExec, answer: true });
    return "answered";
  } catch (error) {
    return -(errnoOf(error) ?? EIO);
  } finally {
    closeSync(copy);
  }
}

export const FD_CALLS: ReadonlyMap<number, (call: Call) => Outcome> = new Map([
  [SYS.ioctl, ioctl],
  [SYS.read, plain(readPart, false)],
  [SYS.write, plain(writePart, false)],
  [SYS.pread64, plain(readPart, true)],
  [SYS.pwrite64, plain(writePart, true)],
  [SYS.readv, vector(readPart, false)],
  [SYS.writev, vector(writePart, false)],
  [SYS.preadv, vector(readPart, true)],
  [SYS.pwritev, vector(writePart, true)],
  [SYS.preadv2, vector(readPart, true)],
  [SYS.pwritev2, vector(writePart, true)],
  [SYS.fstat, (call) => statDescriptor(call, call.int(0), call.word(1), deviceStat)],
  [SYS.dup, (call) => duplicate(call, call.int(0), FIRST_FD, false)],
  [SYS.fcntl, (call) => duplicate(call, call.int(0), call.int(2), call.int(1) === F_DUPFD_CLOEXEC)],
] satisfies [number, (call: Call) => Outcome][]);
