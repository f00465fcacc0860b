/**
 * What can stand behind a range of physical addresses.
 *
 * Physical addresses are numbers: 52 bits fit a double exactly.
 */

/** Memory that lives elsewhere: a client's pages, a file. Offsets count from the window's start. */
export interface MemoryBackend {
  /** Fills `target` from `offset`. Throws `IommuError` EFAULT when the memory is gone. */
  read(offset: number, target: Uint8Array): void;
  /** Stores `source` at `offset`. Throws `IommuError` EFAULT when the memory is gone or read-only. */
  write(offset: number, source: Uint8Array): void;
}

/** Registers. Sizes are 1, 2, 4 or 8 bytes; an access the device does not decode reads all ones and writes nothing. */
export interface MmioHandler {
  read(offset: number, size: number): bigint;
  write(offset: number, size: number, value: bigint): void;
}
