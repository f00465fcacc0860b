/**
 * The tree that a client sees in the place of /sys: ordinary files in a temporary folder. A watcher removes it when this
 * process ends in whatever way: its standard input closes then.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { SysfsEntry } from "@iommukit/core";

export class SysfsFolder {
  readonly path: string;
  readonly #watcher: ChildProcess;

  constructor(entries: readonly SysfsEntry[]) {
    this.path = mkdtempSync(join(tmpdir(), "iommukit-sys-"));
    this.#watcher = spawn("/bin/sh", ["-c", 'cat >/dev/null; rm -rf -- "$1"', "sh", this.path], { stdio: ["pipe", "ignore", "ignore"], detached: true });
    this.#watcher.on("error", () => undefined); // without a shell, close() alone tidies up
    this.#watcher.unref();
    const made = new Set<string>();
    const folder = (path: string): void => {
      if (!made.has(path)) mkdirSync(path, { recursive: true });
      made.add(path);
    };
    for (const entry of entries) {
      const path = join(this.path, entry.path);
      if (entry.kind === "folder") {
        folder(path);
        continue;
      }
      folder(dirname(path));
      if (entry.kind === "link") symlinkSync(entry.target, path);
      else writeFileSync(path, entry.content, { mode: 0o644 });
    }
  }

  close(): void {
    rmSync(this.path, { recursive: true, force: true });
    this.#watcher.stdin?.destroy();
  }
}
