/** Runs a native program with the door open, and leaves nothing behind. */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { DeviceNodes } from "@iommukit/core";
import { Door, type DoorCounts } from "./door.js";
import { PreloadTransport } from "./preload/launch.js";
import { SeccompTransport } from "./seccomp/launch.js";
import { SysfsFolder } from "./sysfs-folder.js";
import type { Launched, Transport } from "./transport.js";

/** How the program's calls are met: by a library in front of its libc, or in the kernel, whatever makes them. */
export type DoorKind = "preload" | "seccomp";

export const DOORS: readonly DoorKind[] = ["preload", "seccomp"];

export interface RunOptions {
  readonly nodes: DeviceNodes;
  /** "preload" unless given. */
  readonly door?: DoorKind;
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
  /** Called before the program starts with a function that counts what clients hold. */
  readonly onStart?: (counts: () => DoorCounts) => void;
}

const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;
const FORWARDED = ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const;

/**
 * Returns the program's exit code; 128 + n when signal n ended it, 127 when there is
 * no such program, 126 when it cannot be executed.
 * @throws Error when this system cannot have the door, and why
 */
export async function runProgram(options: RunOptions): Promise<number> {
  const warn = options.warn ?? ((text: string): void => void process.stderr.write(`iommu: ${text}\n`));
  const program = locate(options.command);
  if (program === undefined) {
    warn(`${options.command}: no such program`);
    return NOT_FOUND;
  }
  const door = new Door(options.nodes, options.grant);
  const transport = await openTransport(options.door ?? "preload", door);
  const sysfs = options.nodes.sysfs && new SysfsFolder(options.nodes);
  options.onStart?.(() => door.counts);
  try {
    const { command: argv0, args, env, onOutput } = options;
    const launched = await transport.launch({ program, argv0, args, env: { ...process.env, ...env }, piped: onOutput !== undefined, sysfs: sysfs?.path, warn });
    for (const stream of launched.outputs) stream?.on("data", (chunk: Buffer) => onOutput?.(chunk.toString("utf8")));
    return await ended(launched).catch((error: unknown) => {
      warn(`${program} cannot be executed: ${error instanceof Error ? error.message : String(error)}`);
      return NOT_EXECUTABLE;
    });
  } finally {
    sysfs?.close();
    await transport.close();
    door.close();
  }
}

async function openTransport(kind: DoorKind, door: Door): Promise<Transport> {
  return kind === "seccomp" ? new SeccompTransport(door) : PreloadTransport.open(door);
}

/** Waits for the program, and passes signals on. */
async function ended({ exit, kill }: Launched): Promise<number> {
  // Ctrl-C reaches the whole foreground group: the program decides, and this process waits for it.
  const ignore = (): void => {};
  process.on("SIGINT", ignore);
  process.on("SIGQUIT", ignore);
  for (const signal of FORWARDED) process.on(signal, kill);
  try {
    return await exit;
  } finally {
    process.off("SIGINT", ignore);
    process.off("SIGQUIT", ignore);
    for (const signal of FORWARDED) process.off(signal, kill);
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
