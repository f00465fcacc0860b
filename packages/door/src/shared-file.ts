/** Memory that a client maps: a file without a name, which both sides reach. */
import { closeSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import type { SharedPages } from "@iommukit/core";
import { fileKey } from "./mappings.js";

export class SharedFile {
  readonly fd: number;
  /** As `ProcessMapping.file` names it. */
  readonly key: string;

  /** Moves the pages into a fresh file. */
  constructor(pages: SharedPages) {
    const path = join(tmpdir(), `iommukit-${randomBytes(8).toString("hex")}`);
    this.fd = openSync(path, "wx+", 0o600);
    rmSync(path);
    ftruncateSync(this.fd, pages.length);
    this.key = fileKey(this.fd);
    pages.moveTo({
      read: (offset, target) => void readSync(this.fd, target, 0, target.length, offset),
      write: (offset, source) => void writeSync(this.fd, source, 0, source.length, offset),
    });
  }

  close(): void {
    closeSync(this.fd);
  }
}
