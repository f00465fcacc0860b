/**
 * The seam between uAPI objects and doors: files that understand ioctls, and
 * the caller's world (memory, descriptors, credentials) that they may reach.
 * Core implements `KernelFile`; a door implements `CallContext`.
 */
import type { MemoryBackend } from "../memory/types.js";

/** A caller's address space. Every failure is `IommuError` EFAULT. */
export interface UserMemory {
  read(address: bigint, target: Uint8Array): void;
  /** Respects page protections. */
  write(address: bigint, source: Uint8Array): void;
  /**
   * Holds [address, address + length) for DMA. Throws EFAULT if any page is
   * not mapped, or not writable when `writable`.
   */
  pin(address: bigint, length: bigint, writable: boolean): PinnedMemory;
}

/** Pinned user memory; offset 0 is the address that was pinned. */
export interface PinnedMemory extends MemoryBackend {
  release(): void;
}

/** Whom a call comes from. */
export interface CallContext {
  readonly pid: number;
  readonly memory: UserMemory;
  /** The file behind the caller's descriptor number; throws EBADF; undefined for a descriptor that is not ours. */
  file(fd: number): KernelFile | undefined;
  /** Gives the caller a new descriptor for `file` and returns its number. Throws EMFILE. */
  install(file: KernelFile): number;
  /** Capability names without CAP_: "IPC_LOCK", "SYS_RESOURCE". */
  readonly capabilities: ReadonlySet<string>;
  /** RLIMIT_MEMLOCK in bytes. */
  readonly memlockLimit: bigint;
}

/** What a client may map of a file. */
export interface MmapRegion {
  readonly length: number;
  readonly backend: MemoryBackend;
}

/**
 * An open file of ours. Methods throw `IommuError`; a missing method means
 * EINVAL for read and write, ENODEV for mmap, as in Linux.
 */
export interface KernelFile {
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
  mmap?(context: CallContext, position: bigint, length: number): MmapRegion;
  /** The last descriptor is gone. Never throws. */
  release(): void;
}

/** The device nodes of a machine. */
export interface DeviceNodes {
  /** Paths that exist, sorted: "/dev/iommu", "/dev/vfio/devices/vfio0". */
  readonly paths: readonly string[];
  /** Opens a node. Throws ENOENT. */
  open(context: CallContext, path: string): KernelFile;
}
