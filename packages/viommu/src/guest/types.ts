/** What a guest's machine needs of the program that runs it. */
import type { EventFile } from "@iommukit/core";
import type { Program } from "../host/calls.js";

/** core's `SimulatedClient` has it. */
export interface GuestProgram extends Program {
  pread(fd: number, position: bigint, length: number): Uint8Array;
  pwrite(fd: number, position: bigint, bytes: Uint8Array): number;
  /** A descriptor of its own for an event. */
  install(file: EventFile): number;
  /** ioctl(2) with a structure's bytes. */
  rawIoctl(fd: number, request: number, bytes: Uint8Array): number;
  readonly memory: Program["memory"] & {
    map(length: number, options: { readonly bytes: Uint8Array; readonly physical?: number }): { readonly address: bigint };
  };
}
