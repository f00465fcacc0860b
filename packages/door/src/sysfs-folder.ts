/**
 * The tree that a client sees in the place of /sys: ordinary files in a temporary folder. A watcher removes it when this
 * process ends in whatever way: its standard input closes then.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { DeviceNodes, SysfsEntry } from "@iommukit/core";

export class SysfsFolder {
  readonly path: string;
  readonly #watcher: ChildProcess;
  readonly #unwatch: (() => void) | undefined;

  constructor(nodes: DeviceNodes) {
    this.path = mkdtempSync(join(tmpdir(), "iommukit-sys-"));
    this.#watcher = spawn("/bin/sh", ["-c", 'cat >/dev/null; rm -rf -- "$1"', "sh", this.path], { stdio: ["pipe", "ignore", "ignore"], detached: true });
    this.#watcher.on("error", () => undefined); // without a shell, close() alone tidies up
    this.#watcher.unref();
    for (const entry of nodes.sysfs ?? []) this.#put(entry);
    // In the course of the call that changes something: who made it finds the files as they are now.
    this.#unwatch = nodes.watch?.(({ added, removed }) => {
      for (const gone of removed) rmSync(join(this.path, gone), { recursive: true, force: true });
      for (const entry of added) this.#put(entry);
    });
  }

  #put(entry: SysfsEntry): void {
    const path = join(this.path, entry.path);
    mkdirSync(entry.kind === "folder" ? path : dirname(path), { recursive: true });
    if (entry.kind === "link") {
      rmSync(path, { force: true });
      symlinkSync(entry.target, path);
    }
    if (entry.kind === "file") writeFileSync(path, entry.content, { mode: 0o644 });
    else if (entry.kind === "attribute") writeFileSync(path, "", { mode: 0o200 });
  }

  close(): void {
    this.#unwatch?.();
    rmSync(this.path, { recursive: true, force: true });
    this.#watcher.stdin?.destroy();
  }
}
