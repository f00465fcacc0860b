/**
 * A thread with the filter, and so has the program that it starts: filters are inherited. The thread does little, since its
 * own calls go to the door as well.
 */
import { spawn } from "node:child_process";
import { parentPort, workerData } from "node:worker_threads";
import { addressOf, errno, system } from "../system.js";
import { filterProgram } from "./filter.js";
import type { FromSpawner, SpawnerData, ToSpawner } from "./messages.js";

const SYS = { PRCTL: 157, SECCOMP: 317 } as const;
const PR_SET_NO_NEW_PRIVS = 38;
const SET_MODE_FILTER = 1;
/** NEW_LISTENER, WAIT_KILLABLE_RECV: a signal must not make a call again that has been served. */
const FLAGS = (1 << 3) | (1 << 5);

const port = parentPort;
if (port === null) throw new Error("this is the program of a thread");
const { program, argv0, args, env } = workerData as SpawnerData;
const post = (message: FromSpawner): void => port.postMessage(message);

const code = filterProgram();
/** struct sock_fprog: u16 length, pointer. */
const header = BigUint64Array.of(BigInt(code.length / 8), addressOf(code));

const listener = install();
if (listener < 0) {
  post({ kind: "refused", errno: errno() });
} else {
  port.on("message", (message: ToSpawner) => (message.kind === "go" ? start() : child?.kill(message.signal)));
  post({ kind: "listener", fd: listener });
}

function install(): number {
  const { syscall } = system();
  if (syscall(SYS.PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0) !== 0) return -1;
  return syscall(SYS.SECCOMP, SET_MODE_FILTER, FLAGS, addressOf(header), 0, 0, 0);
}

let child: ReturnType<typeof spawn> | undefined;

function start(): void {
  child = spawn(program, args, { argv0, env, stdio: "inherit" });
  child.on("error", (error) => post({ kind: "failed", message: error.message }));
  child.on("exit", (code, signal) => post({ kind: "exit", code, signal }));
  if (child.pid !== undefined) post({ kind: "started", pid: child.pid });
}
