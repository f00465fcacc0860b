/** What a walk has met: memory, FPD bits, and the flags that it owes to table entries. */

export interface ReferenceMemory {
  /** Undefined where nothing answers. */
  read64(address: bigint): bigint | undefined;
  /** False where nothing takes a flag. */
  writable(address: bigint): boolean;
}

export class Trail {
  /** An FPD on the way was 1 (7.2.1). */
  silent = false;
  /** Flags that may have been set by the end, whatever the answer: A and EA of entries that were met (3.6.2, 3.7.2). */
  readonly mayBeSet = new Map<bigint, bigint>();
  /** Flags that had to be set, and were. */
  readonly set = new Map<bigint, bigint>();

  may(address: bigint, flags: bigint): void {
    this.mayBeSet.set(address, (this.mayBeSet.get(address) ?? 0n) | flags);
  }

  must(address: bigint, flags: bigint): void {
    this.set.set(address, (this.set.get(address) ?? 0n) | flags);
  }
}
