/**
 * A client inside this process: an address space of buffers and a table of descriptors,
 * so that library code reads like the C program it stands for.
 */
import { decodeStruct, encodeStruct, EXTENSION_IOCTLS, IOCTLS, storeFields, structLayout, type StructValues } from "../abi/index.js";
import { nodesOf } from "../abi/nodes.js";
import { refuse } from "../errors.js";
import { SimulatedMemfd } from "./frames.js";
import { SimulatedEventfd } from "./simulated-eventfd.js";
import type { CallContext, DeviceNodes, KernelFile, OpenFile, PageCounters, PinnedMemory, UserMemory } from "./types.js";

const PAGE = 4096n;

interface Mapping {
  readonly start: bigint;
  readonly bytes: Uint8Array;
  readonly writable: boolean;
  /** Physical address in the machine, of memory that lies in its RAM. */
  readonly physical: number | undefined;
}

interface MapOptions {
  readonly address?: bigint;
  readonly writable?: boolean;
  readonly bytes?: Uint8Array;
  /** Page-aligned. */
  readonly physical?: number;
}

/** User memory made of byte arrays at addresses. */
export class SimulatedMemory implements UserMemory {
  readonly alive = true;
  readonly counters: PageCounters = { pinned: 0, locked: 0 };
  readonly #mappings: Mapping[] = [];
  #next = 0x7f00_0000_0000n;

  /**
   * Maps `length` bytes (rounded up to pages) of zeros, at `address` or wherever there is room, aligned to 2 MiB; or `bytes` that are there
   * already, whole pages: memory that is shared with somebody, as a guest's is. `physical` is where the machine has these bytes as its RAM.
   * @throws IommuError EEXIST when the place is taken
   */
  map(length: number, options: MapOptions = {}): { address: bigint; bytes: Uint8Array } {
    const size = BigInt(Math.ceil(length / 4096)) * PAGE;
    if (options.bytes && BigInt(options.bytes.length) !== size) refuse("EINVAL", `${options.bytes.length} bytes are not the ${size} to be mapped`, { argument: "bytes" });
    const address = options.address ?? this.#next;
    if (this.#mappings.some((m) => address < m.start + BigInt(m.bytes.length) && m.start < address + size)) {
      refuse("EEXIST", `0x${address.toString(16)} is mapped already`, { argument: "address" });
    }
    if (options.address === undefined) this.#next += ((size + 0x1f_ffffn) / 0x20_0000n) * 0x20_0000n;
    const bytes = options.bytes ?? new Uint8Array(Number(size));
    this.#mappings.push({ start: address, bytes, writable: options.writable ?? true, physical: options.physical });
    return { address, bytes };
  }

  /** Forgets the mapping that begins at `address`. Pinned memory stays reachable for DMA. */
  unmap(address: bigint): void {
    const at = this.#mappings.findIndex((mapping) => mapping.start === address);
    if (at === -1) refuse("EINVAL", `no mapping begins at 0x${address.toString(16)}`, { argument: "address" });
    this.#mappings.splice(at, 1);
  }

  read(address: bigint, target: Uint8Array): void {
    this.#each(address, BigInt(target.length), false, (part, done) => target.set(part, done));
  }

  write(address: bigint, source: Uint8Array): void {
    this.#each(address, BigInt(source.length), true, (part, done) => part.set(source.subarray(done, done + part.length)));
  }

  pin(address: bigint, length: bigint, writable: boolean): PinnedMemory {
    const whole = this.#mappings.find((m) => address >= m.start && address + length <= m.start + BigInt(m.bytes.length));
    if (whole && (whole.writable || !writable)) return new PinnedPart(whole.bytes, Number(address - whole.start));
    const parts: Uint8Array[] = [];
    this.#each(address, length, writable, (part) => parts.push(part));
    return new PinnedParts(parts);
  }

  ram(address: bigint, length: bigint): number | undefined {
    const whole = this.#mappings.find((m) => address >= m.start && address + length <= m.start + BigInt(m.bytes.length));
    return whole?.physical === undefined ? undefined : (whole.physical + Number(address - whole.start)) / Number(PAGE);
  }

  #each(address: bigint, length: bigint, writable: boolean, visit: (part: Uint8Array, done: number) => void): void {
    for (let done = 0n; done < length; ) {
      const at = address + done;
      const mapping = this.#mappings.find((m) => at >= m.start && at < m.start + BigInt(m.bytes.length));
      if (mapping === undefined) return refuse("EFAULT", `user address 0x${at.toString(16)} is not mapped`, { rule: "the caller's memory" });
      if (writable && !mapping.writable) return refuse("EFAULT", `user address 0x${at.toString(16)} is read-only`, { rule: "the caller's memory" });
      const from = Number(at - mapping.start);
      const part = mapping.bytes.subarray(from, Math.min(mapping.bytes.length, from + Number(length - done)));
      visit(part, Number(done));
      done += BigInt(part.length);
    }
  }
}

/** The usual case: memory of one mapping. */
class PinnedPart implements PinnedMemory {
  readonly #bytes: Uint8Array;
  readonly #first: number;

  constructor(bytes: Uint8Array, first: number) {
    this.#bytes = bytes;
    this.#first = first;
  }

  read(offset: number, target: Uint8Array): void {
    target.set(this.#bytes.subarray(this.#first + offset, this.#first + offset + target.length));
  }

  write(offset: number, source: Uint8Array): void {
    this.#bytes.set(source, this.#first + offset);
  }

  release(): void {
    // Byte arrays need no unpinning.
  }
}

class PinnedParts implements PinnedMemory {
  readonly #parts: readonly Uint8Array[];

  constructor(parts: readonly Uint8Array[]) {
    this.#parts = parts;
  }

  read(offset: number, target: Uint8Array): void {
    this.#each(offset, target.length, (part, done) => target.set(part, done));
  }

  write(offset: number, source: Uint8Array): void {
    this.#each(offset, source.length, (part, done) => part.set(source.subarray(done, done + part.length)));
  }

  release(): void {
    // Byte arrays need no unpinning.
  }

  #each(offset: number, length: number, visit: (part: Uint8Array, done: number) => void): void {
    let start = 0;
    let done = 0;
    for (const part of this.#parts) {
      const from = offset + done - start;
      if (done < length && from < part.length) {
        const slice = part.subarray(from, Math.min(part.length, from + length - done));
        visit(slice, done);
        done += slice.length;
      }
      start += part.length;
    }
  }
}

/** A process of its own as far as the machine can tell. */
export class SimulatedClient implements CallContext {
  readonly pid: number;
  readonly memory: SimulatedMemory = new SimulatedMemory();
  readonly capabilities: Set<string> = new Set<string>();
  readonly process: SimulatedMemory = this.memory;
  readonly user: { locked: number } = { locked: 0 };
  memlockLimit: bigint = 2n ** 63n;
  readonly #nodes: DeviceNodes;
  readonly #files = new Map<number, OpenFile>();
  readonly #argument: bigint;

  constructor(nodes: DeviceNodes, pid = 1) {
    this.#nodes = nodes;
    this.pid = pid;
    this.#argument = this.memory.map(4096).address;
  }

  file(fd: number): OpenFile | undefined {
    return this.#files.get(fd) ?? refuse("EBADF", `descriptor ${fd} is not open`, { argument: "fd" });
  }

  /** memfd_create and ftruncate. */
  memfd(length: number): number {
    return this.install(new SimulatedMemfd(length, false));
  }

  eventfd(): number {
    return this.install(new SimulatedEventfd());
  }

  /** What was signalled since the last time. */
  eventCount(fd: number): number {
    const file = this.file(fd);
    if (!(file instanceof SimulatedEventfd)) return refuse("EINVAL", `descriptor ${fd} is not an eventfd`, { argument: "fd" });
    const { count } = file;
    file.count = 0;
    return count;
  }

  signal(fd: number): void {
    const file = this.file(fd);
    if (file?.kind === "event") file.signal();
    else refuse("EINVAL", `descriptor ${fd} is not an eventfd`, { argument: "fd" });
  }

  install(file: OpenFile): number {
    let fd = 3;
    while (this.#files.has(fd)) fd++;
    this.#files.set(fd, file);
    return fd;
  }

  uninstall(fd: number): void {
    this.close(fd);
  }

  open(path: string): number {
    return this.install(this.#nodes.open(this, path));
  }

  close(fd: number): void {
    const file = this.file(fd);
    this.#files.delete(fd);
    if (file?.kind === undefined) file?.release();
  }

  #get(fd: number): KernelFile {
    const file = this.file(fd);
    return file !== undefined && file.kind === undefined ? file : refuse("ENOTTY", `descriptor ${fd} is not a device`, { argument: "fd" });
  }

  /**
   * ioctl(2) with the struct's fields by name: encodes, calls, decodes.
   * `size` or `argsz` is filled in. Returns every field after the call.
   * @throws IommuError
   */
  ioctl(fd: number, name: string, fields: Readonly<Record<string, number | bigint>> = {}): StructValues {
    const file = this.#get(fd);
    const row = findByName(file.path, name);
    if (row.struct === undefined) {
      file.ioctl(this, row.request, 0n);
      return {};
    }
    const layout = structLayout(row.struct);
    const bytes = encodeStruct(row.struct, fields);
    const sizeField = layout.fields[0].name;
    if ((sizeField === "size" || sizeField === "argsz") && fields[sizeField] === undefined) {
      storeFields(row.struct, bytes, { [sizeField]: layout.size });
    }
    this.memory.write(this.#argument, bytes);
    file.ioctl(this, row.request, this.#argument);
    this.memory.read(this.#argument, bytes);
    return decodeStruct(row.struct, bytes);
  }

  /** ioctl(2) as it is: a request number, and its argument or the bytes that it points to, which hold what is there after the call. */
  rawIoctl(fd: number, request: number, argument: bigint | Uint8Array): number {
    if (typeof argument === "bigint") return this.#get(fd).ioctl(this, request, argument);
    this.memory.write(this.#argument, argument);
    try {
      return this.#get(fd).ioctl(this, request, this.#argument);
    } finally {
      this.memory.read(this.#argument, argument);
    }
  }

  pread(fd: number, position: bigint, length: number): Uint8Array {
    const file = this.#get(fd);
    const target = new Uint8Array(length);
    if (file.pread === undefined) return refuse("EINVAL", `${file.path} cannot be read`, { argument: "fd" });
    return target.subarray(0, file.pread(this, position, target));
  }

  read(fd: number, length: number): Uint8Array {
    const file = this.#get(fd);
    const target = new Uint8Array(length);
    if (file.read === undefined) return refuse("EINVAL", `${file.path} cannot be read`, { argument: "fd" });
    return target.subarray(0, file.read(this, target));
  }

  write(fd: number, source: Uint8Array): number {
    const file = this.#get(fd);
    if (file.write === undefined) return refuse("EINVAL", `${file.path} cannot be written`, { argument: "fd" });
    return file.write(this, source);
  }

  pwrite(fd: number, position: bigint, source: Uint8Array): number {
    const file = this.#get(fd);
    if (file.pwrite === undefined) return refuse("EINVAL", `${file.path} cannot be written`, { argument: "fd" });
    return file.pwrite(this, position, source);
  }
}

function findByName(path: string, name: string): { request: number; struct?: string } {
  const nodes = nodesOf(path);
  const row = [...IOCTLS, ...EXTENSION_IOCTLS].find((candidate) => nodes.includes(candidate.node) && candidate.name === name);
  return row ?? refuse("EINVAL", `${name} is not a request of ${path}`, { argument: "name" });
}
