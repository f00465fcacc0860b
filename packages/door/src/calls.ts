/** Calls on an open file, free of any transport: a result or a negative errno. */
import { IommuError, type KernelFile, type UserBytes } from "@iommukit/core";
import type { Client, NewDescriptors } from "./client.js";
import type { ServedFile } from "./open-files.js";
import { SystemError } from "./system.js";

export const EINVAL = 22;
const EIO = 5;
const EAGAIN = 11;
const ESPIPE = 29;
/** Bytes of one read or write; more is a short transfer. */
export const IO_BYTES = 4096;

/** Not a refusal, so that no log shows it: everything was undone, and the client asks again. */
export class AskAgain extends Error {}

/** Runs a call; a refusal becomes its negative errno, anything else EIO. */
export function attempt<T = number>(run: () => T): T | number {
  try {
    return run();
  } catch (error) {
    if (error instanceof IommuError) return -error.code;
    if (error instanceof AskAgain) return -EAGAIN;
    if (error instanceof SystemError) return -error.errno; // as a rule the client has died
    process.stderr.write(`iommu: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return -EIO;
  }
}

export function ioctl({ file, held }: ServedFile, client: Client, memory: UserBytes, descriptors: NewDescriptors, request: number, argument: bigint): number {
  return attempt(() => file.ioctl(client.context({ memory, descriptors, held }), request, argument));
}

export interface ReadAnswer {
  readonly result: number;
  readonly bytes: Uint8Array;
}

/** @param position undefined for read(2) */
export function read(file: KernelFile, client: Client, position: bigint | undefined, length: number): ReadAnswer {
  const bytes = new Uint8Array(length);
  const context = client.context();
  let result: number;
  if (position === undefined) result = attempt(() => file.read?.(context, bytes) ?? -EINVAL);
  else result = attempt(() => file.pread?.(context, position, bytes) ?? (file.read ? -ESPIPE : -EINVAL));
  return { result, bytes: bytes.subarray(0, Math.max(0, result)) };
}

/** @param position undefined for write(2) */
export function write(file: KernelFile, client: Client, position: bigint | undefined, bytes: Uint8Array): number {
  const context = client.context();
  if (position === undefined) return attempt(() => file.write?.(context, bytes) ?? -EINVAL);
  return attempt(() => file.pwrite?.(context, position, bytes) ?? -EINVAL);
}
