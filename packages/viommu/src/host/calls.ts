/** What virtual IOMMUs need of the program that runs the guest. */

/** The calls of a program: ioctl(2) by names. */
export interface Calls {
  ioctl(fd: number, name: string, fields?: Readonly<Record<string, number | bigint>>): Readonly<Record<string, unknown>>;
}

/** Calls of a program that hands over structures, and reads and answers what descriptors report. Refusals are thrown as `IommuError`. */
export interface Program extends Calls {
  read(fd: number, length: number): Uint8Array;
  write(fd: number, bytes: Uint8Array): number;
  /** Memory of the program, for structures to lie in. */
  readonly memory: { map(length: number): { readonly address: bigint; readonly bytes: Uint8Array } };
}

/** A part of the guest's memory in the program that runs it. */
export interface GuestRam {
  readonly base: bigint;
  readonly size: bigint;
  /** Address in the program. */
  readonly address: bigint;
}
