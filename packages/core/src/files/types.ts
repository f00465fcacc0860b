/**
 * The seam between uAPI objects and doors: files that understand ioctls, and
 * the caller's world (memory, descriptors, credentials) that they may reach.
 * Core implements `KernelFile`; a door implements `CallContext`.
 */
import type { SharedPages } from "../memory/shared-pages.js";
import type { MemoryBackend } from "../memory/types.js";

/** Bytes at user addresses. Every failure is `IommuError` EFAULT. */
export interface UserBytes {
  read(address: bigint, target: Uint8Array): void;
  /** Respects page protections. */
  write(address: bigint, source: Uint8Array): void;
}

/** A process's address space. */
export interface UserMemory extends UserBytes {
  /**
   * Holds the pages of [address, address + length) for DMA. Throws EFAULT if any page is
   * not mapped, or not writable when `writable`.
   */
  pin(address: bigint, length: bigint, writable: boolean): PinnedMemory;
  /** False once its process is gone: nothing can be pinned any more, what is pinned stays. */
  readonly alive: boolean;
  /** VmPin and VmLck in pages; the charger moves them. */
  readonly counters: PageCounters;
  /** Which frame is behind an address now; undefined where the door cannot tell. @throws IommuError EFAULT */
  frame?(address: bigint, writable: boolean): FrameIdentity;
  /**
   * Page of the machine's physical memory where a range begins, when all of it lies in the machine's own RAM, in one piece: then devices reach
   * it there. Unless given, memory is the process's own, and gets a window when it is mapped for them.
   */
  ram?(address: bigint, length: bigint): number | undefined;
  /** The same, but pins memory of devices that the process has mapped too, as type1 does and iommufd does not. */
  readonly withDevices?: UserMemory | undefined;
}

export interface PageCounters {
  pinned: number;
  locked: number;
}

/** A page frame. */
export interface FrameIdentity {
  /** Two addresses show the same memory when their frames have the same key. */
  readonly key: unknown;
  /** How often the frame is pinned for DMA. */
  readonly pins: number;
  /** Part of a compound page, whose frames are not counted one by one. */
  readonly compound: boolean;
}

/** Pinned user memory; offset 0 is the beginning of its first page. */
export interface PinnedMemory extends MemoryBackend {
  /** Lets go of `count` pages from page `first` on. */
  release(first: number, count: number): void;
  frame?(page: number): FrameIdentity | undefined;
}

/** Whom a call comes from. */
export interface CallContext {
  readonly pid: number;
  /** For the arguments of this call. */
  readonly memory: UserBytes;
  /** The caller's address space; it outlives the call. */
  readonly process: UserMemory;
  /** False when the caller's mappings of registers could not work as the device's: then they are not offered. */
  readonly mapsRegisters?: boolean;
  /** Locked pages of the caller's user id, over all processes. */
  readonly user: { locked: number };
  /** The file behind the caller's descriptor number; throws EBADF; undefined for a descriptor that nobody here knows. */
  file(fd: number): OpenFile | undefined;
  /** Gives the caller a new descriptor for `file` and returns its number. Throws EMFILE. */
  install(file: KernelFile): number;
  /** Takes back a descriptor that `install` gave in this call. */
  uninstall(fd: number): void;
  /** Capability names without CAP_: "IPC_LOCK", "SYS_RESOURCE". */
  readonly capabilities: ReadonlySet<string>;
  /** RLIMIT_MEMLOCK in bytes. */
  readonly memlockLimit: bigint;
}

/** A file of memory (memfd): what MAP_FILE maps. */
export interface MemoryFile {
  readonly kind: "memory";
  /** Equal for descriptors of one file; unknown unless given. */
  readonly identity?: string;
  /** Holds pages from byte `offset` on. @throws IommuError EINVAL behind the end of the file */
  pin(offset: bigint, length: bigint, writable: boolean): PinnedMemory;
}

/** An eventfd. */
export interface EventFile {
  readonly kind: "event";
  signal(): void;
  /** Calls `run` each time somebody else signals it, and takes the count; at once when it was signalled before. Returns what ends it. */
  watch?(run: () => void): () => void;
  /** Nobody will signal it any more. */
  close?(): void;
}

export type OpenFile = KernelFile | MemoryFile | EventFile;

/** What a client may map of a file. */
export interface MmapRegion {
  readonly length: number;
  readonly backend: MemoryBackend;
  /** Set when it is memory without side effects, from byte `offset` of these pages on: a door may show it as such. */
  readonly memory?: { readonly pages: SharedPages; readonly offset: number };
  /** Registers take 64 aligned bytes at once. False: the device turned a deferrable write away, the sender is to try again. */
  writeBlock?(offset: number, bytes: Uint8Array, deferrable: boolean): boolean;
  /** The mapping was split, or inherited by a child: there is one more. */
  retain(): void;
  /** A mapping is gone. */
  unmapped(): void;
}

/** How a file is to be mapped. */
export interface MmapRequest {
  readonly position: bigint;
  readonly length: number;
  readonly shared: boolean;
  readonly executable: boolean;
}

/**
 * An open file of ours. Methods throw `IommuError`; a missing method means
 * EINVAL for read and write, ENODEV for mmap, as in Linux.
 */
export interface KernelFile {
  readonly kind?: undefined;
  /** The path that was opened, for logs. */
  readonly path: string;
  /** Returns a non-negative result. `argument` is the raw third argument of ioctl(2). */
  ioctl(context: CallContext, request: number, argument: bigint): number;
  /** pread(2): fills `target`, returns the number of bytes. */
  pread?(context: CallContext, position: bigint, target: Uint8Array): number;
  /** pwrite(2): returns the number of bytes taken. */
  pwrite?(context: CallContext, position: bigint, source: Uint8Array): number;
  read?(context: CallContext, target: Uint8Array): number;
  write?(context: CallContext, source: Uint8Array): number;
  /** What the last read gave never reached its reader. */
  unread?(): void;
  /** poll(2): the events that stand, of those asked for or not. Without it a file is always readable and writable. */
  poll?(): number;
  mmap?(context: CallContext, request: MmapRequest): MmapRegion;
  /** The last descriptor is gone. Never throws. */
  release(): void;
}

/** A file with its text or bytes, a link with its target as it stands in it, a folder, or a file that programs write. Paths are absolute. */
export type SysfsEntry =
  | { readonly path: string; readonly kind: "file"; readonly content: string | Uint8Array }
  | { readonly path: string; readonly kind: "link"; readonly target: string }
  | { readonly path: string; readonly kind: "folder" }
  | SysfsAttribute;

/** Write-only: "create", "remove". */
export interface SysfsAttribute {
  readonly path: string;
  readonly kind: "attribute";
  /** Takes what one write(2) brings. Throws what that call returns. */
  store(text: string): void;
}

export interface SysfsChange {
  /** New, or there before with another content. */
  readonly added: readonly SysfsEntry[];
  /** Each with everything below it. */
  readonly removed: readonly string[];
}

/** The device nodes of a machine. */
export interface DeviceNodes {
  /** Paths that exist at the moment, sorted: "/dev/iommu", "/dev/vfio/devices/vfio0". */
  readonly paths: readonly string[];
  /** What /sys and /dev/vfio show of the machine at the moment; nothing unless given. */
  readonly sysfs?: readonly SysfsEntry[];
  /** Calls `listener` after each change of `sysfs`, until what is returned is called. Absent where nothing changes. */
  watch?(listener: (change: SysfsChange) => void): () => void;
  /** Opens a node, or an attribute of `sysfs`. Throws ENOENT. */
  open(context: CallContext, path: string): KernelFile;
}
