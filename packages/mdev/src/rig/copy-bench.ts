/** For tests: a client with a channel of a copy engine, memory, and a ring. */
import {
  CopyControl, CopyRegister as R, Descriptor, DESCRIPTOR_BYTES, DescriptorFlag,
} from "../software/copy-layout.js";
import { type BoundMdev, Irq, type MdevClient } from "./mdev-client.js";

const COMMAND = 7;
export const RING = 0x10_0000n;
const RING_BYTES = 4096;

export interface Job {
  readonly source: bigint;
  readonly destination: bigint;
  readonly length: number;
  readonly flags?: number;
}

export class CopyBench {
  readonly client: MdevClient;
  readonly mdev: BoundMdev;
  readonly ioas: number;
  /** The client's own view of the ring. */
  ring: Uint8Array;
  readonly size: number;
  #tail = 0;

  constructor(client: MdevClient, node: string, size = 16) {
    this.client = client;
    this.mdev = client.bind(node);
    this.ioas = client.ioas();
    client.attach(this.mdev, this.ioas);
    client.command(this.mdev, COMMAND);
    this.ring = client.mapMemory(this.ioas, RING, RING_BYTES);
    this.size = size;
  }

  get(register: number, size = 4): number {
    return this.client.get(this.mdev, register, size);
  }

  put(register: number, value: number | bigint, size = 4): void {
    this.client.put(this.mdev, register, value, size);
  }

  /** Pins the ring; returns STATUS. */
  start(ring = RING): number {
    this.#tail = 0;
    this.put(R.RING, ring, 8);
    this.put(R.SIZE, this.size);
    this.put(R.CONTROL, CopyControl.RUN | CopyControl.INTERRUPTS);
    return this.get(R.STATUS);
  }

  interruptOn(): number {
    return this.client.interruptOn(this.mdev, Irq.MSI);
  }

  /** Writes descriptors and rings; returns the index of the first. */
  post(...jobs: readonly Job[]): number {
    const first = this.#tail;
    for (const { source, destination, length, flags = 0 } of jobs) {
      const view = this.#descriptor(this.#tail);
      view.setBigUint64(Descriptor.SOURCE, source, true);
      view.setBigUint64(Descriptor.DESTINATION, destination, true);
      view.setUint32(Descriptor.LENGTH, length, true);
      view.setUint32(Descriptor.FLAGS, flags, true);
      view.setBigUint64(Descriptor.STATUS, 0n, true);
      this.#tail = (this.#tail + 1) % this.size;
    }
    this.put(R.TAIL, this.#tail);
    return first;
  }

  copy(source: bigint, destination: bigint, length: number): number {
    return this.post({ source, destination, length });
  }

  fill(pattern: bigint, destination: bigint, length: number): number {
    return this.post({ source: pattern, destination, length, flags: DescriptorFlag.FILL });
  }

  /** What the engine wrote into a descriptor: [status, moved]. */
  outcome(index: number): number[] {
    const view = this.#descriptor(index);
    return [view.getUint32(Descriptor.STATUS, true), view.getUint32(Descriptor.MOVED, true)];
  }

  #descriptor(index: number): DataView {
    return new DataView(this.ring.buffer, this.ring.byteOffset + index * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES);
  }
}
