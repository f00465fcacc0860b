/**
 * What every virtio transport keeps for its device (virtio 1.3, 2.1 to 2.4): status, features, queues, interrupts. The device
 * itself is behind `VirtioDevice`.
 */
import { DeviceStatus, Feature, Interrupt } from "./spec.js";
import { BrokenQueue, type GuestMemory, MAX_QUEUE_SIZE, Virtqueue } from "./virtqueue.js";

export interface VirtioDevice {
  readonly deviceId: number;
  /** Features it offers, those of the transport not among them. */
  readonly features: bigint;
  readonly queueCount: number;
  /** Configuration as it reads now. */
  readonly config: Uint8Array;
  /** @throws BrokenDevice */
  writeConfig(offset: number, bytes: Uint8Array): void;
  /** The driver has taken these features. */
  negotiated(features: bigint): void;
  /** The driver has put something on a queue. @throws BrokenQueue, BrokenDevice */
  notify(queue: number): void;
  reset(): void;
}

/** The driver broke a rule of the device. */
export class BrokenDevice extends Error {}

const TRANSPORT_FEATURES = Feature.INDIRECT_DESC | Feature.EVENT_IDX | Feature.VERSION_1;

export class VirtioTransport {
  readonly queues: readonly Virtqueue[];
  interrupts = 0;
  /** Why the device needs a reset. */
  broken: string | undefined;
  readonly device: VirtioDevice;
  readonly #onInterrupt: () => void;
  #status = 0;
  #driverFeatures = 0n;

  constructor(device: VirtioDevice, memory: GuestMemory, onInterrupt: () => void) {
    this.device = device;
    this.queues = Array.from({ length: device.queueCount }, () => new Virtqueue(memory));
    this.#onInterrupt = onInterrupt;
  }

  get features(): bigint {
    return this.device.features | TRANSPORT_FEATURES;
  }

  get driverFeatures(): bigint {
    return this.#driverFeatures;
  }

  /** Features are fixed once FEATURES_OK is set (3.1.1). */
  set driverFeatures(features: bigint) {
    if ((this.#status & DeviceStatus.FEATURES_OK) === 0) this.#driverFeatures = features;
  }

  get status(): number {
    return this.#status;
  }

  /** Writing 0 resets; bits are only ever added otherwise (2.1.1). FEATURES_OK does not stay for features that the device lacks. */
  set status(value: number) {
    if (value === 0) {
      this.#reset();
      return;
    }
    let added = value & ~this.#status & ~DeviceStatus.NEEDS_RESET;
    if ((added & DeviceStatus.FEATURES_OK) !== 0) {
      const wanted = this.#driverFeatures;
      if ((wanted & ~this.features) !== 0n || (wanted & Feature.VERSION_1) === 0n) added &= ~DeviceStatus.FEATURES_OK;
      else {
        for (const queue of this.queues) queue.eventIndex = (wanted & Feature.EVENT_IDX) !== 0n;
        this.device.negotiated(wanted);
      }
    }
    this.#status |= added;
  }

  get running(): boolean {
    return (this.#status & DeviceStatus.DRIVER_OK) !== 0 && this.broken === undefined;
  }

  /** The driver rings a queue's bell. */
  notify(queue: number): void {
    if (this.running && this.queues[queue]?.ready) this.#guarded(() => this.device.notify(queue));
  }

  writeConfig(offset: number, bytes: Uint8Array): void {
    if (this.broken === undefined) this.#guarded(() => this.device.writeConfig(offset, bytes));
  }

  /** Runs what a driver's mistake can break: the device then waits for a reset, and says so (2.1.2). */
  #guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof BrokenQueue) && !(error instanceof BrokenDevice)) throw error;
      this.fail(error.message);
    }
  }

  fail(why: string): void {
    this.broken = why;
    this.#status |= DeviceStatus.NEEDS_RESET;
    if ((this.#status & DeviceStatus.DRIVER_OK) !== 0) this.raise(Interrupt.CONFIG);
  }

  raise(interrupt: number): void {
    this.interrupts |= interrupt;
    this.#onInterrupt();
  }

  setQueueSize(queue: number, size: number): void {
    const legal = Number.isInteger(Math.log2(size)) && size <= MAX_QUEUE_SIZE;
    if (legal && !this.queues[queue].ready) this.queues[queue].size = size;
  }

  #reset(): void {
    this.#status = 0;
    this.#driverFeatures = 0n;
    this.interrupts = 0;
    this.broken = undefined;
    for (const queue of this.queues) queue.reset();
    this.device.reset();
  }
}
