/** What a process has mapped, by /proc/PID/maps, and which page frame an address shows. */
import { fstatSync, readFileSync } from "node:fs";
import { IommuError } from "@iommukit/core";
import type { FrameRun } from "./frames.js";

const PAGE = 4096n;

export interface ProcessMapping {
  readonly start: bigint;
  /** Inclusive. */
  readonly last: bigint;
  /** "rwxp", "rw-s" */
  readonly rights: string;
  /** Offset in the file at `start`. */
  readonly offset: bigint;
  /** "00:01 1042": which file, when there is one. */
  readonly file: string | undefined;
  readonly name: string;
}

export function* allMappings(pid: number): Generator<ProcessMapping> {
  let text = "";
  try {
    text = readFileSync(`/proc/${pid}/maps`, "latin1");
  } catch {
    return; // the process is gone: nothing is mapped
  }
  for (const line of text.split("\n")) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) ([rwxps-]{4}) ([0-9a-f]+) (\S+) (\d+)\s*(.*)$/.exec(line);
    if (match === null) continue;
    const [, start, end, rights, offset, device, inode, name] = match;
    yield {
      start: BigInt(`0x${start}`),
      last: BigInt(`0x${end}`) - 1n,
      rights,
      offset: BigInt(`0x${offset}`),
      file: inode === "0" ? undefined : `${device} ${inode}`,
      name,
    };
  }
}

/** The mappings that cover a range. @throws IommuError EFAULT unless each byte is mapped with the wanted right */
export function* mappingsOf(pid: number, address: bigint, length: bigint, writable: boolean): Generator<ProcessMapping> {
  let next = address;
  const end = address + length;
  if (length === 0n) return;
  for (const mapping of allMappings(pid)) {
    if (mapping.last < next) continue;
    if (mapping.start > next) break;
    if (!mapping.rights.includes(writable ? "w" : "r")) {
      throw new IommuError("EFAULT", { message: `user address 0x${next.toString(16)} of process ${pid} is ${writable ? "not writable" : "not readable"}`, rule: "the caller's memory" });
    }
    yield mapping;
    next = mapping.last + 1n;
    if (next >= end) return;
  }
  throw new IommuError("EFAULT", { message: `user address 0x${next.toString(16)} of process ${pid} is not mapped`, rule: "the caller's memory" });
}

/** The frames behind the part [start, last] of a mapping: of shared memory by its file, of private memory by its process. */
export function framesOf(pid: number, mapping: ProcessMapping, start: bigint, last: bigint): FrameRun {
  const first = start / PAGE;
  const count = Number(last / PAGE - first) + 1;
  if (mapping.file !== undefined && mapping.rights.endsWith("s")) return { space: mapping.file, first: first - mapping.start / PAGE + mapping.offset / PAGE, count };
  return { space: String(pid), first, count };
}

/** "00:01 1042", as /proc/PID/maps has it. */
export function fileKey(fd: number): string {
  return identityOf(fstatSync(fd, { bigint: true }));
}

export function identityOf({ dev, ino }: { readonly dev: bigint; readonly ino: bigint }): string {
  // Linux's encoding of a device number: minor in bits 7:0 and from 20 up, major in bits 19:8.
  const major = (dev >> 8n) & 0xfffn;
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xfff00n);
  return `${hexByte(major)}:${hexByte(minor)} ${ino}`;
}

function hexByte(value: bigint): string {
  return value.toString(16).padStart(2, "0");
}
