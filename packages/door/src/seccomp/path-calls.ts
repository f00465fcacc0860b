/** Calls that name a file by its path. */
import { accessSync, openSync, readlinkSync, writeSync } from "node:fs";
import { attempt } from "../calls.js";
import { cString, syscall } from "../system.js";
import type { Call, Outcome } from "./call.js";
import { handOver, onBehalf } from "./on-behalf.js";
import { isNode, redirected, statusOf, statusWith } from "./paths.js";
import { readString } from "./remote-memory.js";
import { deviceStat, deviceStatx, pathStat, pathStatx } from "./stat.js";
import { SYS } from "./syscalls.js";

const ENOENT = 2;
const EMFILE = 24;
const MFD_CLOEXEC = 1;
const O_ACCMODE = 3;
const AT_SYMLINK_NOFOLLOW = 0x100;
const O_CREAT_WRONLY_TRUNC = 0o1101;
const O_CLOEXEC = 0o2000000;

/** A path that may be ours; the others need no second look. */
function pathOf(call: Call, index: number): string | undefined {
  const path = readString(call.tid, call.word(index));
  return path !== undefined && /^\/(dev|sys|proc)\//.test(path) ? path : undefined;
}

function openNode(call: Call, path: string, closeOnExec: boolean): Outcome {
  const { door, fakes } = call.services;
  const { task } = call;
  const fd = task.freeNumber();
  if (fd === undefined) return -EMFILE;
  const opened = { file: undefined as ReturnType<typeof door.nodes.open> | undefined };
  const result = attempt(() => {
    opened.file = door.nodes.open(task.client.context(), path);
    return 0;
  });
  if (opened.file === undefined) return result;
  const given = fakes.give(call.id, task, fd, opened.file, { closeOnExec, answer: true });
  return given === 0 ? "answered" : given;
}

function open(call: Call, pathIndex: number, flags: number, mode: number): Outcome {
  const path = pathOf(call, pathIndex);
  if (path === undefined) return "proceed";
  const closeOnExec = (flags & O_CLOEXEC) !== 0;
  if (isNode(path)) return openNode(call, path, closeOnExec);
  const { sysfs, door } = call.services;
  const real = redirected(path, sysfs);
  if (real !== undefined && (flags & O_ACCMODE) !== 0) {
    const opened = openNode(call, path, closeOnExec);
    if (opened !== -ENOENT) return opened;
  }
  if (real !== undefined) return onBehalf(() => handOver(call, openSync(real, flags, mode), closeOnExec));
  const pid = statusOf(path, () => call.task.pid);
  const { pinned, locked } = pid === undefined ? { pinned: 0, locked: 0 } : door.pages(pid);
  if (pid === undefined || pinned + locked === 0) return "proceed";
  return onBehalf(() => {
    const copy = syscall("memfd_create", SYS.memfd_create, cString("status"), MFD_CLOEXEC);
    writeSync(copy, statusWith(pid, pinned, locked), 0, "latin1");
    return handOver(call, copy, closeOnExec);
  });
}

/** Stores what a node, or else a path of the tree, is like. */
function stat(call: Call, pathIndex: number, target: bigint, device: () => Uint8Array, ofPath: (path: string) => Uint8Array): Outcome {
  const path = pathOf(call, pathIndex);
  if (path === undefined) return "proceed";
  const real = redirected(path, call.services.sysfs);
  if (!isNode(path) && real === undefined) return "proceed";
  return onBehalf(() => {
    if (isNode(path) && !call.services.door.nodes.paths.includes(path)) return -ENOENT;
    const bytes = isNode(path) || real === undefined ? device() : ofPath(real);
    return attempt(() => {
      call.memory.write(target, bytes);
      return 0;
    });
  });
}

/** stat of a descriptor that is ours. */
export function statDescriptor(call: Call, fd: number, target: bigint, device: () => Uint8Array): Outcome {
  if (call.served(fd) === undefined) return "proceed";
  return attempt(() => {
    call.memory.write(target, device());
    return 0;
  });
}

function access(call: Call, pathIndex: number, mode: number): Outcome {
  const path = pathOf(call, pathIndex);
  if (path === undefined) return "proceed";
  if (isNode(path)) return call.services.door.nodes.paths.includes(path) ? 0 : -ENOENT;
  const real = redirected(path, call.services.sysfs);
  if (real === undefined) return "proceed";
  return onBehalf(() => {
    accessSync(real, mode);
    return 0;
  });
}

function readlink(call: Call, pathIndex: number, target: bigint, room: number): Outcome {
  const path = pathOf(call, pathIndex);
  const real = path === undefined ? undefined : redirected(path, call.services.sysfs);
  if (real === undefined || room <= 0) return "proceed";
  return onBehalf(() => {
    const link = Buffer.from(readlinkSync(real)).subarray(0, room);
    return attempt(() => {
      call.memory.write(target, link);
      return link.length;
    });
  });
}

/** struct open_how: u64 flags, mode, resolve. */
function openat2(call: Call): Outcome {
  const how = new BigUint64Array(2);
  return attemptOutcome(() => {
    call.memory.read(call.word(2), new Uint8Array(how.buffer));
    return open(call, 1, Number(how[0]), Number(how[1]));
  });
}

/** A bad pointer is the kernel's to refuse. */
function attemptOutcome(run: () => Outcome): Outcome {
  try {
    return run();
  } catch {
    return "proceed";
  }
}

const plainStat = (call: Call, pathIndex: number, target: bigint, flags: number): Outcome => stat(call, pathIndex, target, deviceStat, (path) => pathStat(path, flags));

/** A descriptor with an empty path, or a path. */
function newfstatat(call: Call): Outcome {
  const target = call.word(2);
  if (readString(call.tid, call.word(1), 1) === "") return statDescriptor(call, call.int(0), target, deviceStat);
  return plainStat(call, 1, target, call.int(3) & AT_SYMLINK_NOFOLLOW);
}

function statx(call: Call): Outcome {
  const target = call.word(4);
  if (readString(call.tid, call.word(1), 1) === "") return statDescriptor(call, call.int(0), target, deviceStatx);
  return stat(call, 1, target, deviceStatx, (path) => pathStatx(path, call.int(2) & AT_SYMLINK_NOFOLLOW, call.int(3)));
}

export const PATH_CALLS: ReadonlyMap<number, (call: Call) => Outcome> = new Map([
  [SYS.open, (call) => open(call, 0, call.int(1), call.int(2))],
  [SYS.creat, (call) => open(call, 0, O_CREAT_WRONLY_TRUNC, call.int(1))],
  [SYS.openat, (call) => open(call, 1, call.int(2), call.int(3))],
  [SYS.openat2, openat2],
  [SYS.stat, (call) => plainStat(call, 0, call.word(1), 0)],
  [SYS.lstat, (call) => plainStat(call, 0, call.word(1), AT_SYMLINK_NOFOLLOW)],
  [SYS.newfstatat, newfstatat],
  [SYS.statx, statx],
  [SYS.access, (call) => access(call, 0, call.int(1))],
  [SYS.faccessat, (call) => access(call, 1, call.int(2))],
  [SYS.faccessat2, (call) => access(call, 1, call.int(2))],
  [SYS.readlink, (call) => readlink(call, 0, call.word(1), call.int(2))],
  [SYS.readlinkat, (call) => readlink(call, 1, call.word(2), call.int(3))],
] satisfies [number, (call: Call) => Outcome][]);
