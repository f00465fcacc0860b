/** A client process: what a call may reach of it, whichever way the call came. */
import type { CallContext, KernelFile, OpenFile, UserBytes } from "@iommukit/core";
import { ClientMemory } from "./client-memory.js";
import { effectiveCapabilities, memlockLimit } from "./credentials.js";
import type { FrameRegistry } from "./frames.js";
import type { HeldDescriptors } from "./held-descriptors.js";

/** Where a call puts files that it makes; how a client gets its descriptors is the transport's business. */
export interface NewDescriptors {
  /** Number of the descriptor that the caller has, or will have once the call succeeds. */
  install(file: KernelFile): number;
  uninstall(fd: number): void;
}

/** What an ioctl needs besides what every call has. */
export interface IoctlMeans {
  /** For the arguments of this call. */
  readonly memory: UserBytes;
  readonly descriptors: NewDescriptors;
  readonly held: HeldDescriptors;
}

/** What clients of one door have in common. */
export interface ClientEnvironment {
  readonly frames: FrameRegistry;
  /** Capabilities, without CAP_, that every client has besides its own. */
  readonly grant: readonly string[];
  /** Locked pages of the user that all clients run as. */
  readonly user: { locked: number };
  /** The file behind a client's descriptor; throws EBADF. */
  fileOf(pid: number, fd: number, held: HeldDescriptors): OpenFile | undefined;
}

export class Client {
  readonly pid: number;
  readonly memory: ClientMemory;
  /** Its transport brings accesses to registers that it maps. */
  mapsRegisters = false;
  /** What IA32_PASID would hold for its threads, and ENQCMD sends; none so far. */
  pasid: number | undefined;
  readonly #environment: ClientEnvironment;

  constructor(pid: number, environment: ClientEnvironment) {
    this.pid = pid;
    this.#environment = environment;
    this.memory = new ClientMemory(pid, environment.frames);
  }

  context(means?: IoctlMeans): CallContext {
    const { pid } = this;
    const { memory = this.memory, descriptors, held } = means ?? {};
    const { grant, user } = this.#environment;
    return {
      pid,
      memory,
      process: this.memory,
      user,
      file: (fd) => {
        if (held === undefined) throw new Error("only an ioctl names descriptors");
        return this.#environment.fileOf(pid, fd, held);
      },
      mapsRegisters: this.mapsRegisters,
      install: (file) => {
        if (descriptors === undefined) throw new Error("only an ioctl makes files");
        return descriptors.install(file);
      },
      uninstall: (fd) => descriptors?.uninstall(fd),
      get capabilities() {
        return new Set([...effectiveCapabilities(pid), ...grant]);
      },
      get memlockLimit() {
        return memlockLimit(pid);
      },
    };
  }
}
