/** Memory as the driver of a software mdev reaches it: by IOVA, through its access object. */
import { IommuError } from "../errors.js";
import type { Access } from "./access.js";
import type { FaultAnswer } from "./software-faults.js";

const PAGE = 4096n;

/** Memory that does not move until it is let go of. */
export interface PinnedRange {
  /** Of whole pages. */
  readonly iova: bigint;
  readonly length: bigint;
  /** False: it is gone, with its process, or because that has unmapped it. @param offset from `iova` on */
  read(offset: number, target: Uint8Array): boolean;
  /** The same. */
  write(offset: number, source: Uint8Array): boolean;
  /** UNMAP of what it meets waits for this. */
  unpin(): void;
}

export class SoftwareMemory {
  readonly #access: Access;

  constructor(access: Access) {
    this.#access = access;
  }

  /** Reads without pinning. @throws IommuError ENOENT, EPERM, EINVAL while it is being unmapped, EFAULT */
  read(iova: bigint, target: Uint8Array): void {
    this.#access.copy(iova, target, false, undefined, true);
  }

  write(iova: bigint, source: Uint8Array): void {
    this.#access.copy(iova, source, true, undefined, true);
  }

  /**
   * Raises a fault: user space is asked to make a page usable.
   * @param permissions READ and WRITE of `Prot` @param answered "success": try again; "invalid": give up. Later, never during this call
   * @returns false when nobody listens, or too many are waiting: give up at once
   */
  requestPage(address: bigint, permissions: number, answered: FaultAnswer): boolean {
    return this.#access.faults?.raise(address, permissions, answered) ?? false;
  }

  /** Answers to what was asked so far are of no interest any more. */
  withdrawRequests(): void {
    this.#access.faults?.withdraw();
  }

  /**
   * Pins the pages that hold a range.
   * @param writable they will be written; else read @throws IommuError as for `read`, ENOMEM
   */
  pin(iova: bigint, length: bigint, writable: boolean): PinnedRange {
    const first = iova - (iova % PAGE);
    const whole = length === 0n ? 0n : ((iova + length - first + PAGE - 1n) / PAGE) * PAGE;
    const pages = this.#access.pin(first, whole, writable);
    const move = (offset: number, bytes: Uint8Array, write: boolean): boolean => still(() => {
      for (let done = 0; done < bytes.length; ) {
        const at = offset + done;
        const { pages: memory, page } = pages[Math.floor(at / 4096)];
        const part = bytes.subarray(done, done + Math.min(bytes.length - done, 4096 - (at % 4096)));
        if (write) memory.write(page * 4096 + (at % 4096), part);
        else memory.read(page * 4096 + (at % 4096), part);
        done += part.length;
      }
    });
    return {
      iova: first,
      length: whole,
      read: (offset, target) => move(offset, target, false),
      write: (offset, source) => move(offset, source, true),
      unpin: () => this.#access.unpin(first, whole),
    };
  }
}

/** Pins hold pages of other processes as well as a door can. */
function still(move: () => void): boolean {
  try {
    move();
    return true;
  } catch (error) {
    if (error instanceof IommuError) return false;
    throw error;
  }
}
