/** The seccomp door: the kernel sends a program's calls here, whatever makes them. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";
import type { Door } from "../door.js";
import { cString, syscall, system, takeDescriptor } from "../system.js";
import type { Launched, LaunchOptions, Transport } from "../transport.js";
import type { FromSpawner, ToKeeper } from "./messages.js";
import { SeccompServer } from "./server.js";
import { SYS } from "./syscalls.js";

const PAGE = 4096;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const EPERM = 1;
const EBUSY = 16;
const EINVAL = 22;
const ENOSYS = 38;

/** Run from source, as tests do, it is the built one: a process of its own knows no TypeScript. */
const KEEPER = fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "../../dist/seccomp/keeper.js" : "./keeper.js", import.meta.url));

export class SeccompTransport implements Transport {
  readonly #door: Door;
  #keeper: ChildProcess | undefined;
  #server: SeccompServer | undefined;

  /** @throws Error on systems that are not supported */
  constructor(door: Door) {
    if (process.platform !== "linux" || process.arch !== "x64") throw new Error(`the seccomp door is for x86-64 Linux, and this is ${process.arch} ${process.platform}: use --door preload`);
    this.#door = door;
  }

  async launch({ program, argv0, args, env, piped, sysfs, warn }: LaunchOptions): Promise<Launched> {
    const serving = sharedWord();
    const output = piped ? "pipe" : "inherit";
    const keeper = spawn(process.execPath, [KEEPER], { stdio: ["inherit", output, output, "ipc", serving.fd] });
    this.#keeper = keeper;
    closeSync(serving.fd);
    const send = (message: ToKeeper): void => void (keeper.connected && keeper.send(message));
    let started = 0;
    const exit = new Promise<number>((resolve, reject) => {
      const outputs = Promise.all([keeper.stdout, keeper.stderr].map((stream) => stream && new Promise((done) => stream.once("close", done))));
      keeper.on("message", (message: FromSpawner) => {
        if (message.kind === "started") started = message.pid;
        if (message.kind === "failed") reject(new Error(message.message));
        if (message.kind === "exit") void outputs.then(() => resolve(message.code ?? 128 + constants.signals[message.signal ?? "SIGKILL"]));
      });
      keeper.once("exit", () => {
        // Somebody killed it: the program would go on unwatched.
        if (started !== 0) kill(started);
        resolve(128 + constants.signals.SIGKILL);
      });
    });
    exit.catch(() => undefined); // until somebody waits for it
    const listener = new Promise<number>((resolve, reject) => {
      keeper.once("error", reject);
      keeper.once("exit", (code, signal) => reject(new Error(`the seccomp door's keeper ended with ${signal ?? code}`)));
      keeper.on("message", (message: FromSpawner) => {
        if (message.kind === "listener") resolve(message.fd);
        if (message.kind === "refused") reject(new Error(whyRefused(message.errno)));
      });
    });
    send({ kind: "start", program, argv0, args, env });
    this.#server = new SeccompServer(this.#door, { listener: takeListener(keeper.pid ?? 0, await listener), serving: serving.word, sysfs, warn });
    send({ kind: "go" });
    return { outputs: [keeper.stdout, keeper.stderr], exit, kill: (signal) => send({ kind: "signal", signal }) };
  }

  close(): Promise<void> {
    this.#server?.close();
    this.#keeper?.removeAllListeners();
    if (this.#keeper?.connected) this.#keeper.disconnect();
    this.#keeper?.unref();
    return Promise.resolve();
  }
}

function takeListener(pid: number, fd: number): number {
  try {
    return takeDescriptor(pid, fd);
  } catch (error) {
    throw new Error(`the seccomp door may not reach the processes it starts: ${(error as Error).message} (see /proc/sys/kernel/yama/ptrace_scope)`, { cause: error });
  }
}

/** Memory of one word that the keeper reads when this process has died. */
function sharedWord(): { readonly fd: number; readonly word: BigUint64Array } {
  const fd = syscall("memfd_create", SYS.memfd_create, cString("iommukit-serving"));
  syscall("ftruncate", 77, fd, PAGE);
  const address = syscall("mmap", SYS.mmap, 0, PAGE, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  return { fd, word: new BigUint64Array(system().koffi.view(BigInt(address), 8)) };
}

function whyRefused(errno: number): string {
  const reasons: Readonly<Record<number, string>> = {
    [EINVAL]: "this kernel has no SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: it takes Linux 5.19",
    [EBUSY]: "this process already runs under another seccomp listener, and Linux allows one",
    [EPERM]: "seccomp(2) is forbidden here, perhaps by a container's own filter",
    [ENOSYS]: "this kernel is built without seccomp filters",
  };
  return `the seccomp door cannot be opened: ${reasons[errno] ?? `seccomp(2) failed with errno ${errno}`}; --door preload needs none of it`;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it has ended as well
  }
}
