/** Memory of a thread that waits for its answer. Its page protections hold, unlike through /proc/PID/mem. */
import { IommuError, type UserBytes } from "@iommukit/core";
import { addressOf, system } from "../system.js";
import type { Listener } from "./listener.js";

const PAGE = 4096;
const SCRATCH = 64 * 1024;
const SYS = { read: 310, write: 311 } as const;
/** Kept, so that their addresses stay. */
const scratch = new Uint8Array(SCRATCH);
/** struct iovec of both sides: address, length. */
const vectors = new BigUint64Array(4);
let addresses: { readonly scratch: bigint; readonly local: bigint; readonly remote: bigint } | undefined;

function kept(): NonNullable<typeof addresses> {
  if (addresses === undefined) {
    const local = addressOf(vectors);
    addresses = { scratch: addressOf(scratch), local, remote: local + 16n };
  }
  return addresses;
}

/** Bytes that were transferred through the scratch memory; less than wanted where the range is not accessible. */
function transfer(direction: "read" | "write", tid: number, address: bigint, length: number): number {
  const { scratch: base, local, remote } = kept();
  vectors[0] = base;
  vectors[2] = address;
  vectors[1] = vectors[3] = BigInt(length);
  return Math.max(0, system().syscall(SYS[direction], tid, local, 1, remote, 1, 0));
}

/** A string up to its NUL; undefined when it is not accessible or longer than `most` bytes. */
export function readString(tid: number, address: bigint, most: number = PAGE): string | undefined {
  let text = "";
  for (let at = address; text.length < most; ) {
    // Not into the next page: it need not be there.
    const wanted = Math.min(256, PAGE - Number(at % BigInt(PAGE)));
    const got = transfer("read", tid, at, wanted);
    const end = scratch.subarray(0, got).indexOf(0);
    text += Buffer.from(scratch.buffer, 0, end === -1 ? got : end).toString("latin1");
    if (end !== -1) return Buffer.from(text, "latin1").toString("utf8");
    if (got < wanted) return undefined;
    at += BigInt(got);
  }
  return undefined;
}

/** Arguments of one call. */
export class CallMemory implements UserBytes {
  readonly #listener: Listener;
  readonly #id: bigint;
  readonly #tid: number;

  constructor(listener: Listener, id: bigint, tid: number) {
    this.#listener = listener;
    this.#id = id;
    this.#tid = tid;
  }

  read(address: bigint, target: Uint8Array): void {
    for (let done = 0; done < target.length; ) {
      const length = Math.min(SCRATCH, target.length - done);
      if (transfer("read", this.#tid, address + BigInt(done), length) !== length) this.#fault(address, "cannot be read");
      target.set(scratch.subarray(0, length), done);
      done += length;
    }
    this.#mustWait(address);
  }

  write(address: bigint, source: Uint8Array): void {
    this.#mustWait(address);
    for (let done = 0; done < source.length; ) {
      const length = Math.min(SCRATCH, source.length - done);
      scratch.set(source.subarray(done, done + length));
      if (transfer("write", this.#tid, address + BigInt(done), length) !== length) this.#fault(address, "cannot be written");
      done += length;
    }
  }

  /** The thread's number means the caller only while it waits. */
  #mustWait(address: bigint): void {
    if (!this.#listener.isWaiting(this.#id)) this.#fault(address, "is gone: it died in this call");
  }

  #fault(address: bigint, why: string): never {
    throw new IommuError("EFAULT", { message: `user address 0x${address.toString(16)} of thread ${this.#tid} ${why}`, rule: "process_vm_readv(2)" });
  }
}
