/** A process for replaying transcripts: descriptors by name, an address space, credentials, fork. */
import { IommuError, refuse } from "../errors.js";
import { AddressSpace } from "../files/address-space.js";
import type { CallContext, DeviceNodes, KernelFile, OpenFile, UserBytes } from "../files/types.js";

const FIRST_FD = 3;

/** An open file description: descriptors of several processes may share it. */
interface Description {
  readonly file: OpenFile;
  references: number;
}

export class SimulatedProcess {
  readonly space: AddressSpace;
  readonly user: { locked: number };
  readonly capabilities: Set<string>;
  memlockLimit: bigint;
  /** False for a process whose mappings of registers would not have worked. */
  mapsRegisters = true;
  readonly #nodes: DeviceNodes;
  readonly #descriptors: Map<number, Description>;
  readonly #names: Map<string, number>;

  constructor(nodes: DeviceNodes, capabilities: Iterable<string>, memlockLimit: bigint, parent?: SimulatedProcess) {
    this.#nodes = nodes;
    this.capabilities = new Set(capabilities);
    this.memlockLimit = memlockLimit;
    this.space = parent ? parent.space.fork() : new AddressSpace();
    this.user = parent ? parent.user : { locked: 0 };
    this.mapsRegisters = parent?.mapsRegisters ?? true;
    this.#descriptors = new Map(parent ? parent.#descriptors : []);
    this.#names = new Map(parent ? parent.#names : []);
    for (const description of this.#descriptors.values()) description.references++;
  }

  fork(): SimulatedProcess {
    return new SimulatedProcess(this.#nodes, this.capabilities, this.memlockLimit, this);
  }

  exit(): void {
    for (const fd of [...this.#descriptors.keys()]) this.closeNumber(fd);
    this.space.exit();
  }

  /** What a call sees; `memory` holds the argument of an ioctl. */
  context(memory: UserBytes = this.space): CallContext {
    // A mapping keeps its context: the limit is the process's as it is then.
    const limit = (): bigint => this.memlockLimit;
    return {
      mapsRegisters: this.mapsRegisters,
      pid: 1,
      memory,
      process: this.space,
      user: this.user,
      capabilities: this.capabilities,
      get memlockLimit() {
        return limit();
      },
      file: (fd) => (this.#descriptors.get(fd) ?? refuse("EBADF", `descriptor ${fd} is not open`, { argument: "fd" })).file,
      install: (file) => this.install(file),
      uninstall: (fd) => this.closeNumber(fd),
    };
  }

  install(file: OpenFile): number {
    let fd = FIRST_FD;
    while (this.#descriptors.has(fd)) fd++;
    this.#descriptors.set(fd, { file, references: 1 });
    return fd;
  }

  open(path: string): number {
    return this.install(this.#nodes.open(this.context(), path));
  }

  name(name: string, fd: number): void {
    this.#names.set(name, fd);
  }

  number(name: string): number {
    return this.#names.get(name) ?? -1;
  }

  file(name: string): OpenFile {
    const description = this.#descriptors.get(this.number(name));
    return description?.file ?? refuse("EBADF", `descriptor ${name} is not open`, { argument: "fd" });
  }

  kernelFile(name: string): KernelFile {
    const file = this.file(name);
    return file.kind === undefined ? file : refuse("ENOTTY", `descriptor ${name} is not a device`, { argument: "fd" });
  }

  close(name: string): void {
    this.closeNumber(this.number(name));
    this.#names.delete(name);
  }

  closeNumber(fd: number): void {
    const description = this.#descriptors.get(fd);
    if (description === undefined) throw new IommuError("EBADF", { message: `descriptor ${fd} is not open`, argument: "fd" });
    this.#descriptors.delete(fd);
    if (--description.references === 0 && description.file.kind === undefined) description.file.release();
  }
}

/** Above every address that a process can have: the recorded one's stack may be anywhere below 2^47. */
const ARGUMENT_END = 0x9000_0000_0000n;

/** The argument of an ioctl at the end of a mapping, before everything else of the process. */
export class ArgumentAt implements UserBytes {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  readonly #behind: UserBytes;

  constructor(bytes: Uint8Array, behind: UserBytes) {
    this.bytes = bytes;
    this.#behind = behind;
    this.address = ARGUMENT_END - BigInt(bytes.length);
  }

  #offset(address: bigint): number {
    const offset = address - this.address;
    return offset < 0n || offset > 0x1000_0000n ? -1 : Number(offset);
  }

  read(address: bigint, target: Uint8Array): void {
    const offset = this.#offset(address);
    if (offset === -1) return this.#behind.read(address, target);
    if (offset + target.length > this.bytes.length) refuse("EFAULT", `user address 0x${address.toString(16)} lies behind the argument`, { argument: "arg", rule: "the caller's memory" });
    target.set(this.bytes.subarray(offset, offset + target.length));
  }

  write(address: bigint, source: Uint8Array): void {
    const offset = this.#offset(address);
    if (offset === -1) return this.#behind.write(address, source);
    // What fits is stored, as by copy_to_user.
    const room = Math.max(0, this.bytes.length - offset);
    this.bytes.set(source.subarray(0, room), Math.min(offset, this.bytes.length));
    if (source.length > room) refuse("EFAULT", `user address 0x${address.toString(16)} lies behind the argument`, { argument: "arg", rule: "the caller's memory" });
  }
}
