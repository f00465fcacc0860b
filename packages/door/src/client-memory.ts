/** A client's memory through /proc/PID/mem, and what may be done to it by /proc/PID/maps. */
import { closeSync, existsSync, openSync, readSync, writeSync } from "node:fs";
import { type FrameIdentity, IommuError, type PageCounters, type PinnedMemory, type UserMemory } from "@iommukit/core";
import type { FrameRegistry } from "./frames.js";
import { framesOf, mappingsOf } from "./mappings.js";
import { PinnedRange } from "./pinned-range.js";

function fault(address: bigint, what: string): IommuError {
  return new IommuError("EFAULT", { message: `user address 0x${address.toString(16)} ${what}`, rule: "the caller's memory" });
}

/** Positions are numbers: Node takes a bigint position of writeSync for "wherever the file stands". */
function position(address: bigint, length: number): number {
  if (address + BigInt(length) > BigInt(Number.MAX_SAFE_INTEGER)) throw fault(address, "is no user address");
  return Number(address);
}

/** One open /proc/PID/mem, shared by the client and its pins. It stays good for reaching nothing after the process has died. */
export class ProcessMemory {
  readonly #fd: number;
  readonly pid: number;
  #users = 1;

  constructor(pid: number) {
    this.pid = pid;
    try {
      this.#fd = openSync(`/proc/${pid}/mem`, "r+");
    } catch (error) {
      throw new IommuError("EFAULT", { message: `the memory of process ${pid} cannot be reached: ${String(error)}`, rule: "the caller's memory" });
    }
  }

  read(address: bigint, target: Uint8Array): void {
    const at = position(address, target.length);
    for (let done = 0; done < target.length; ) {
      const got = this.#attempt(address + BigInt(done), () => readSync(this.#fd, target, done, target.length - done, at + done));
      if (got === 0) throw fault(address + BigInt(done), "is not mapped");
      done += got;
    }
  }

  write(address: bigint, source: Uint8Array): void {
    const at = position(address, source.length);
    for (let done = 0; done < source.length; ) {
      const put = this.#attempt(address + BigInt(done), () => writeSync(this.#fd, source, done, source.length - done, at + done));
      if (put === 0) throw fault(address + BigInt(done), "is not mapped");
      done += put;
    }
  }

  #attempt(address: bigint, access: () => number): number {
    try {
      return access();
    } catch {
      throw fault(address, `of process ${this.pid} is not mapped`);
    }
  }

  /** @throws IommuError EFAULT unless every page of the range is mapped with the wanted right */
  check(address: bigint, length: bigint, writable: boolean): void {
    for (const _ of mappingsOf(this.pid, address, length, writable)) {
      // Asking for them is the check.
    }
  }

  retain(): this {
    this.#users++;
    return this;
  }

  /** One user less; the last one closes the file. */
  close(): void {
    if (--this.#users === 0) closeSync(this.#fd);
  }
}

/** Memory of one client process for the length of its connections. */
export class ClientMemory implements UserMemory {
  /** What the door charges to the process; the process's own VmPin and VmLck do not move. */
  readonly counters: PageCounters = { pinned: 0, locked: 0 };
  readonly #pid: number;
  readonly #frames: FrameRegistry;
  #open: ProcessMemory | undefined;
  #ended = false;
  #withDevices: UserMemory | undefined;

  constructor(pid: number, frames: FrameRegistry) {
    this.#pid = pid;
    this.#frames = frames;
  }

  get #memory(): ProcessMemory {
    this.#open ??= new ProcessMemory(this.#pid);
    return this.#open;
  }

  read(address: bigint, target: Uint8Array): void {
    this.#memory.read(address, target);
  }

  /** /proc/PID/mem would write through a read-only page: the map is asked first. */
  write(address: bigint, source: Uint8Array): void {
    this.#memory.check(address, BigInt(source.length), true);
    this.#memory.write(address, source);
  }

  pin(address: bigint, length: bigint, writable: boolean): PinnedMemory {
    return this.#pin(address, length, writable, false);
  }

  /** Type1 pins memory of devices too. */
  get withDevices(): UserMemory {
    const { counters } = this;
    const isAlive = (): boolean => this.alive;
    this.#withDevices ??= {
      read: (address, target) => this.read(address, target),
      write: (address, source) => this.write(address, source),
      pin: (address, length, writable) => this.#pin(address, length, writable, true),
      frame: (address, writable) => this.frame(address, writable),
      counters,
      get alive() {
        return isAlive();
      },
    };
    return this.#withDevices;
  }

  #pin(address: bigint, length: bigint, writable: boolean, devices: boolean): PinnedMemory {
    const mappings = [...mappingsOf(this.#pid, address, length, writable)];
    const device = devices ? undefined : mappings.find((mapping) => this.#frames.isDevice(mapping));
    if (device) throw fault(device.start, "shows memory of a device, which iommufd does not pin");
    return new PinnedRange(this.#memory, mappings, address, length, this.#frames);
  }

  frame(address: bigint, writable: boolean): FrameIdentity {
    const [mapping] = mappingsOf(this.#pid, address, 1n, writable);
    const { space, first } = framesOf(this.#pid, mapping, address, address);
    return this.#frames.at(space, first);
  }

  /** False once the process has ended: its number may be another's then. */
  get alive(): boolean {
    return !this.#ended && existsSync(`/proc/${this.#pid}`);
  }

  close(): void {
    this.#ended = true;
    this.#open?.close();
    this.#open = undefined;
  }
}
