/** One descriptor of the copy engine on its way: page by page, so that it can go on where it stopped. */
import { IommuError, Prot, type SoftwareMemory } from "@iommukit/core";
import { Descriptor, DescriptorFlag, FaultReason, LENGTH_LIMIT } from "./copy-layout.js";

const PAGE = 4096n;
const PATTERN_BYTES = 8;

/** An access that the memory refused. */
export interface CopyFault {
  readonly address: bigint;
  readonly write: boolean;
  /** Of `FaultReason`. */
  readonly reason: number;
}

const REASONS: Readonly<Record<string, number>> = { ENOENT: FaultReason.NOT_MAPPED, EPERM: FaultReason.NO_RIGHT, EINVAL: FaultReason.UNMAPPING };

export class CopyTransfer {
  readonly interrupts: boolean;
  /** Nothing was asked that the engine does not do. */
  readonly good: boolean;
  moved = 0;
  readonly #source: bigint;
  readonly #destination: bigint;
  readonly #length: number;
  readonly #pattern: Uint8Array | undefined;

  constructor(descriptor: Uint8Array) {
    const view = new DataView(descriptor.buffer, descriptor.byteOffset);
    const flags = view.getUint32(Descriptor.FLAGS, true);
    this.#source = view.getBigUint64(Descriptor.SOURCE, true);
    this.#destination = view.getBigUint64(Descriptor.DESTINATION, true);
    this.#length = view.getUint32(Descriptor.LENGTH, true);
    this.#pattern = (flags & DescriptorFlag.FILL) === 0 ? undefined : descriptor.slice(Descriptor.SOURCE, Descriptor.SOURCE + PATTERN_BYTES);
    this.interrupts = (flags & DescriptorFlag.INTERRUPT) !== 0;
    this.good = this.#length <= LENGTH_LIMIT && (flags & ~(DescriptorFlag.INTERRUPT | DescriptorFlag.FILL)) === 0;
  }

  /** Moves what is left, up to the first fault; undefined when all is done. */
  run(memory: SoftwareMemory): CopyFault | undefined {
    while (this.moved < this.#length) {
      const source = BigInt.asUintN(64, this.#source + BigInt(this.moved));
      const destination = BigInt.asUintN(64, this.#destination + BigInt(this.moved));
      const room = this.#pattern ? PAGE : PAGE - (source % PAGE);
      const bytes = new Uint8Array(Math.min(this.#length - this.moved, Number(room), Number(PAGE - (destination % PAGE))));
      const fault = this.#fetch(memory, source, bytes) ?? attempt(destination, true, () => memory.write(destination, bytes));
      if (fault) return fault;
      this.moved += bytes.length;
    }
    return undefined;
  }

  #fetch(memory: SoftwareMemory, source: bigint, bytes: Uint8Array): CopyFault | undefined {
    const pattern = this.#pattern;
    if (pattern === undefined) return attempt(source, false, () => memory.read(source, bytes));
    for (let i = 0; i < bytes.length; i++) bytes[i] = pattern[(this.moved + i) % PATTERN_BYTES];
    return undefined;
  }
}

export function rightOf({ write }: CopyFault): number {
  return write ? Prot.WRITE : Prot.READ;
}

function attempt(address: bigint, write: boolean, run: () => void): CopyFault | undefined {
  const reason = refusalOf(run);
  return reason === FaultReason.NONE ? undefined : { address, write, reason };
}

/** What memory refuses, as the engine says it. */
export function refusalOf(run: () => void): number {
  try {
    run();
    return FaultReason.NONE;
  } catch (error) {
    if (error instanceof IommuError) return REASONS[error.errno] ?? FaultReason.MEMORY;
    throw error;
  }
}
