/** The preload door: the program finds our library in front of libc. */
import { spawn } from "node:child_process";
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { constants } from "node:os";
import type { Door } from "../door.js";
import type { Launched, LaunchOptions, Transport } from "../transport.js";
import { PreloadServer } from "./server.js";
import { buildShim } from "./shim.js";

export class PreloadTransport implements Transport {
  readonly #shim: string;
  readonly #server: PreloadServer;

  private constructor(shim: string, server: PreloadServer) {
    this.#shim = shim;
    this.#server = server;
  }

  /** @throws Error when the shim cannot be built */
  static async open(door: Door): Promise<PreloadTransport> {
    const shim = buildShim();
    const server = new PreloadServer(door);
    await server.listen();
    return new PreloadTransport(shim, server);
  }

  launch({ program, argv0, args, env, piped, sysfs, warn }: LaunchOptions): Promise<Launched> {
    const problem = preloadProblem(program);
    if (problem !== undefined) warn(`${program} ${problem}: the preload door cannot reach it, --door seccomp can`);
    const child = spawn(program, args, {
      argv0,
      stdio: piped ? ["inherit", "pipe", "pipe"] : "inherit",
      env: {
        ...env,
        LD_PRELOAD: [this.#shim, env.LD_PRELOAD].filter((entry) => entry).join(":"),
        IOMMUKIT_DOOR: this.#server.name,
        IOMMUKIT_TOKEN: this.#server.token,
        IOMMUKIT_PARENT: String(process.pid),
        ...(sysfs !== undefined && { IOMMUKIT_SYSFS: sysfs }),
      },
    });
    const exit = new Promise<number>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)));
    });
    return Promise.resolve({ outputs: [child.stdout, child.stderr], exit, kill: (signal) => void child.kill(signal) });
  }

  close(): Promise<void> {
    return this.#server.close();
  }
}

/** Why LD_PRELOAD will have no effect on a program; undefined when it will. */
function preloadProblem(program: string): string | undefined {
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
