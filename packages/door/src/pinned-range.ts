/**
 * A range of a client's memory that is pinned. Shared memory is held by its file, so that it survives the process;
 * private memory is reached through the process while it lives.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { type FrameIdentity, IommuError, type PinnedMemory } from "@iommukit/core";
import type { ProcessMemory } from "./client-memory.js";
import type { FrameRegistry, HeldFrames } from "./frames.js";
import { framesOf, type ProcessMapping } from "./mappings.js";

const PAGE = 4096n;

/** A part of the range, and how its bytes are reached. */
interface Part {
  readonly start: bigint;
  readonly last: bigint;
  /** A descriptor of the mapped file, with the file offset of `start`. */
  readonly file: { readonly fd: number; readonly offset: bigint } | undefined;
}

export class PinnedRange implements PinnedMemory {
  readonly #address: bigint;
  readonly #parts: readonly Part[];
  readonly #process: ProcessMemory;
  readonly #frames: HeldFrames;

  /** @param mappings those that cover the range */
  constructor(process: ProcessMemory, mappings: readonly ProcessMapping[], address: bigint, length: bigint, frames: FrameRegistry) {
    const { pid } = process;
    const last = address + length - 1n;
    this.#address = address - (address % PAGE);
    this.#process = process.retain();
    this.#parts = mappings.map((mapping) => ({ start: mapping.start, last: mapping.last, file: openMapped(pid, mapping) }));
    this.#frames = frames.hold(
      mappings.map((mapping) => framesOf(pid, mapping, mapping.start > this.#address ? mapping.start : this.#address, mapping.last < last ? mapping.last : last)),
    );
  }

  frame(page: number): FrameIdentity | undefined {
    return this.#frames.frame(page);
  }

  read(offset: number, target: Uint8Array): void {
    this.#each(offset, target.length, (part, at, from, count) => {
      if (part.file === undefined) this.#process.read(at, target.subarray(from, from + count));
      else if (readSync(part.file.fd, target, from, count, Number(part.file.offset + at - part.start)) !== count) throw gone(at);
    });
  }

  write(offset: number, source: Uint8Array): void {
    this.#each(offset, source.length, (part, at, from, count) => {
      if (part.file === undefined) this.#process.write(at, source.subarray(from, from + count));
      else if (writeSync(part.file.fd, source, from, count, Number(part.file.offset + at - part.start)) !== count) throw gone(at);
    });
  }

  #each(offset: number, length: number, visit: (part: Part, at: bigint, from: number, count: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = this.#address + BigInt(offset + done);
      const part = this.#parts.find((candidate) => at >= candidate.start && at <= candidate.last);
      if (part === undefined) throw gone(at);
      const room = part.last + 1n - at;
      const count = room < BigInt(length - done) ? Number(room) : length - done;
      visit(part, at, done, count);
      done += count;
    }
  }

  release(first: number, count: number): void {
    if (!this.#frames.release(first, count)) return;
    this.#process.close();
    for (const { file } of this.#parts) if (file) closeSync(file.fd);
  }
}

/** The file behind a shared mapping, where the system lets us open it. */
function openMapped(pid: number, mapping: ProcessMapping): { fd: number; offset: bigint } | undefined {
  if (mapping.file === undefined || !mapping.rights.endsWith("s")) return undefined;
  try {
    const fd = openSync(`/proc/${pid}/map_files/${mapping.start.toString(16)}-${(mapping.last + 1n).toString(16)}`, "r+");
    return { fd, offset: mapping.offset };
  } catch {
    return undefined; // reached through the process then
  }
}

function gone(address: bigint): IommuError {
  return new IommuError("EFAULT", { message: `user address 0x${address.toString(16)} was pinned and cannot be reached any more`, rule: "the caller's memory" });
}
