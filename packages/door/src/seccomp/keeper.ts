/**
 * A process beside the door that starts the program and outlives the door: without anyone at the listener, every call that the
 * filter sends there would fail with ENOSYS, opens of ordinary files too. When the door has gone, calls to it fail with EIO here
 * and all others take their way.
 */
import { closeSync, readlinkSync, readSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { pollNow, POLLHUP, POLLIN, watch } from "../system.js";
import { Listener, type Notification } from "./listener.js";
import type { FromSpawner, ToKeeper } from "./messages.js";
import { readString } from "./remote-memory.js";
import { FIRST_FD, SYS } from "./syscalls.js";

const EIO = 5;
/** More calls than can have been taken back between two that were served. */
const TAKEN_SINCE = 1024;
/** Inherited: a word that says which call the door serves. */
const SERVING_FD = 4;
const BY_FD: ReadonlySet<number> = new Set([SYS.ioctl, SYS.mmap, SYS.pread64, SYS.pwrite64, SYS.preadv, SYS.pwritev, SYS.preadv2, SYS.pwritev2]);
const BY_HIGH_FD: ReadonlySet<number> = new Set([SYS.read, SYS.write, SYS.readv, SYS.writev]);
const OPENS: ReadonlyMap<number, number> = new Map([[SYS.open, 0], [SYS.creat, 0], [SYS.openat, 1], [SYS.openat2, 1]]);

let worker: Worker | undefined;
let listener: Listener | undefined;
/** The program has been started, or will be at once. */
let going = false;

// Ctrl-C reaches the whole foreground group: the program decides.
for (const signal of ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

process.on("message", (message: ToKeeper) => {
  if (message.kind === "go") going = true;
  if (message.kind === "start") start(message);
  else worker?.postMessage(message, []);
});
process.on("disconnect", () => {
  if (listener === undefined || !going) process.exit();
  takeOver(listener);
});

function start(data: ToKeeper): void {
  worker = new Worker(new URL("./spawner.js", import.meta.url), { workerData: data });
  worker.on("message", (message: FromSpawner) => {
    if (message.kind === "listener") listener = new Listener(message.fd);
    if (message.kind === "exit" || message.kind === "failed") void ended(message);
    else tell(message);
  });
}

function tell(message: FromSpawner): void {
  if (process.connected) process.send?.(message);
}

/** Children of the program may live on: their calls are the door's, and after it ours. */
async function ended(message: FromSpawner): Promise<void> {
  for (const fd of [0, 1, 2]) closeSync(fd);
  tell(message);
  await worker?.terminate();
}

function takeOver(from: Listener): void {
  // The call in whose middle the door died: the one that it has written down, or taken since. Ids count up (kernel/seccomp.c), those of
  // calls that were taken back among them, and the kernel takes no answer for a call that nobody has received.
  const serving = new BigUint64Array(1);
  readSync(SERVING_FD, serving, 0, 8, 0);
  for (let i = 0; i < TAKEN_SINCE; i++) from.answer(BigInt.asUintN(64, serving[0] + BigInt(i)), -EIO);
  watch(from.fd, () => {
    const events = pollNow(from.fd, POLLIN);
    if ((events & POLLIN) === 0) {
      if (events & POLLHUP) process.exit(); // nobody is left
      return;
    }
    const call = from.receive();
    if (call === undefined) return;
    if (isTheDoors(call)) from.answer(call.id, -EIO);
    else from.proceed(call.id);
  });
}

function isTheDoors(call: Notification): boolean {
  const { tid, nr } = call;
  const fd = call.int(0);
  if (BY_FD.has(nr)) return isSocket(tid, nr === SYS.mmap ? call.int(4) : fd);
  // A socket of the program's own may have such a number; it is not worth telling them apart here.
  if (BY_HIGH_FD.has(nr)) return fd >= FIRST_FD && isSocket(tid, fd);
  const path = OPENS.get(nr);
  return path !== undefined && /^\/dev\/(iommu$|vfio\/)/.test(readString(tid, call.word(path)) ?? "");
}

function isSocket(tid: number, fd: number): boolean {
  try {
    return readlinkSync(`/proc/${tid}/fd/${fd}`).startsWith("socket:");
  } catch {
    return false;
  }
}
