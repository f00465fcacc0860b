/** Runs a native program with the door open, and leaves nothing behind. */
import { spawn } from "node:child_process";
import { accessSync, closeSync, constants, openSync, readSync, statSync } from "node:fs";
import { constants as osConstants } from "node:os";
import { delimiter, join } from "node:path";
import type { DeviceNodes } from "@iommukit/core";
import { DoorServer } from "./server.js";
import { SysfsFolder } from "./sysfs-folder.js";
import { buildShim } from "./shim.js";

export interface RunOptions {
  readonly nodes: DeviceNodes;
  /** Program: a path, or a name to look up on the PATH. */
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** Capabilities, without CAP_, that calls are judged with besides the program's own. */
  readonly grant?: readonly string[];
  /** Receives standard output and error in place of this process's own. */
  readonly onOutput?: (text: string) => void;
  /** Receives warnings; standard error by default. */
  readonly warn?: (text: string) => void;
}

const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;
const FORWARDED = ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const;

/**
 * Returns the program's exit code; 128 + n when signal n ended it, 127 when there is
 * no such program, 126 when it cannot be executed.
 * @throws Error when the shim cannot be built
 */
export async function runProgram(options: RunOptions): Promise<number> {
  const warn = options.warn ?? ((text: string): void => void process.stderr.write(`iommu: ${text}\n`));
  const program = locate(options.command);
  if (program === undefined) {
    warn(`${options.command}: no such program`);
    return NOT_FOUND;
  }
  const problem = preloadProblem(program);
  if (problem !== undefined) warn(`${program} ${problem}: the preload door cannot reach it`);
  const shim = buildShim();
  const door = new DoorServer(options.nodes, options.grant);
  await door.listen();
  const sysfs = options.nodes.sysfs && new SysfsFolder(options.nodes.sysfs);
  try {
    return await execute(program, shim, door, sysfs?.path, options, warn);
  } finally {
    sysfs?.close();
    await door.close();
  }
}

async function execute(program: string, shim: string, door: DoorServer, sysfs: string | undefined, options: RunOptions, warn: (text: string) => void): Promise<number> {
  const preload = [shim, options.env?.LD_PRELOAD ?? process.env.LD_PRELOAD].filter((entry) => entry).join(":");
  const env = {
    ...process.env,
    ...options.env,
    LD_PRELOAD: preload,
    IOMMUKIT_DOOR: door.name,
    IOMMUKIT_TOKEN: door.token,
    IOMMUKIT_PARENT: String(process.pid),
    ...(sysfs && { IOMMUKIT_SYSFS: sysfs }),
  };
  const child = spawn(program, options.args, { argv0: options.command, env, stdio: options.onOutput ? ["inherit", "pipe", "pipe"] : "inherit" });
  if (options.onOutput) {
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => options.onOutput?.(chunk.toString("utf8")));
  }
  // Ctrl-C reaches the whole foreground group: the program decides, and this process waits for it.
  const ignore = (): void => {};
  const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on("SIGINT", ignore);
  process.on("SIGQUIT", ignore);
  for (const signal of FORWARDED) process.on(signal, forward);
  try {
    return await new Promise<number>((resolve) => {
      child.on("error", (error) => {
        warn(`${program} cannot be executed: ${error.message}`);
        resolve(NOT_EXECUTABLE);
      });
      child.on("close", (code, signal) => resolve(code ?? 128 + (signal ? osConstants.signals[signal] : 0)));
    });
  } finally {
    process.off("SIGINT", ignore);
    process.off("SIGQUIT", ignore);
    for (const signal of FORWARDED) process.off(signal, forward);
  }
}

/** As a shell does: a name with a slash is a path, another is looked up. */
function locate(command: string): string | undefined {
  const candidates = command.includes("/") ? [command] : (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, command));
  return candidates.find((path) => {
    try {
      accessSync(path, command.includes("/") ? constants.F_OK : constants.X_OK);
      return statSync(path).isFile();
    } catch {
      return false;
    }
  });
}

/** Why LD_PRELOAD will have no effect on a program; undefined when it will. */
export function preloadProblem(program: string): string | undefined {
  const { mode } = statSync(program);
  if ((mode & 0o6000) !== 0) return "is set-user-id or set-group-id";
  const header = Buffer.alloc(4096);
  let fd: number;
  try {
    fd = openSync(program, "r");
  } catch {
    return undefined; // executing it will say why
  }
  try {
    readSync(fd, header, 0, header.length, 0);
  } finally {
    closeSync(fd);
  }
  if (header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2) return undefined;
  const table = Number(header.readBigUInt64LE(32));
  const count = header.readUInt16LE(56);
  for (let i = 0; i < count && table + i * 56 + 4 <= header.length; i++) {
    if (header.readUInt32LE(table + i * 56) === 3) return undefined; // PT_INTERP: dynamically linked
  }
  return "is statically linked";
}
