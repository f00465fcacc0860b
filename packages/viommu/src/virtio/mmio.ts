/** Registers of virtio over MMIO (virtio 1.3, 4.2.2). */
import type { MmioHandler } from "@iommukit/core";
import { MMIO_MAGIC, MMIO_VERSION, MmioReg } from "./spec.js";
import type { VirtioTransport } from "./transport.js";
import { MAX_QUEUE_SIZE } from "./virtqueue.js";

const VENDOR_ID = 0x554d_4d49;
const WORD = 2 ** 32;

export class VirtioMmio implements MmioHandler {
  readonly #transport: VirtioTransport;
  #deviceSelect = 0;
  #driverSelect = 0;
  #queue = 0;

  constructor(transport: VirtioTransport) {
    this.#transport = transport;
  }

  read(offset: number, size: number): bigint {
    if (offset >= MmioReg.CONFIG) return this.#config(offset - MmioReg.CONFIG, size);
    return size === 4 ? BigInt(this.#register(offset)) : 0n;
  }

  #config(offset: number, size: number): bigint {
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#transport.device.config[offset + i] ?? 0);
    return value;
  }

  #register(offset: number): number {
    const transport = this.#transport;
    switch (offset) {
      case MmioReg.MAGIC:
        return MMIO_MAGIC;
      case MmioReg.VERSION:
        return MMIO_VERSION;
      case MmioReg.DEVICE_ID:
        return transport.device.deviceId;
      case MmioReg.VENDOR_ID:
        return VENDOR_ID;
      case MmioReg.DEVICE_FEATURES:
        return this.#deviceSelect < 2 ? Number(BigInt.asUintN(32, transport.features >> BigInt(32 * this.#deviceSelect))) : 0;
      case MmioReg.QUEUE_SIZE_MAX:
        return this.#queue < transport.queues.length ? MAX_QUEUE_SIZE : 0;
      case MmioReg.QUEUE_READY:
        return Number(transport.queues[this.#queue]?.ready ?? false);
      case MmioReg.INTERRUPT_STATUS:
        return transport.interrupts;
      case MmioReg.STATUS:
        return transport.status;
      default:
        return 0;
    }
  }

  write(offset: number, size: number, value: bigint): void {
    const transport = this.#transport;
    if (offset >= MmioReg.CONFIG) {
      const bytes = new Uint8Array(BigUint64Array.of(value).buffer).slice(0, size);
      transport.writeConfig(offset - MmioReg.CONFIG, bytes);
      return;
    }
    if (size !== 4) return;
    const word = Number(value);
    switch (offset) {
      case MmioReg.DEVICE_FEATURES_SEL:
        this.#deviceSelect = word;
        break;
      case MmioReg.DRIVER_FEATURES_SEL:
        this.#driverSelect = word;
        break;
      case MmioReg.DRIVER_FEATURES:
        this.#takeFeatures(value);
        break;
      case MmioReg.QUEUE_SEL:
        this.#queue = word;
        break;
      case MmioReg.QUEUE_NOTIFY:
        transport.notify(word);
        break;
      case MmioReg.INTERRUPT_ACK:
        transport.interrupts &= ~word;
        break;
      case MmioReg.STATUS:
        transport.status = word & 0xff;
        break;
      default:
        if (this.#queue < transport.queues.length) this.#writeQueue(offset, word);
    }
  }

  #takeFeatures(value: bigint): void {
    if (this.#driverSelect > 1) return;
    const shift = BigInt(32 * this.#driverSelect);
    const kept = this.#transport.driverFeatures & ~(0xffff_ffffn << shift);
    this.#transport.driverFeatures = kept | (value << shift);
  }

  /** A queue's parts are set while it is not ready (4.2.2.2). */
  #writeQueue(offset: number, word: number): void {
    const queue = this.#transport.queues[this.#queue];
    if (offset === MmioReg.QUEUE_READY) queue.ready = (word & 1) === 1;
    else if (offset === MmioReg.QUEUE_SIZE) this.#transport.setQueueSize(this.#queue, word);
    else if (!queue.ready) {
      if (offset === MmioReg.QUEUE_DESC || offset === MmioReg.QUEUE_DESC + 4) queue.descriptors = half(queue.descriptors, word, offset > MmioReg.QUEUE_DESC);
      if (offset === MmioReg.QUEUE_DRIVER || offset === MmioReg.QUEUE_DRIVER + 4) queue.driver = half(queue.driver, word, offset > MmioReg.QUEUE_DRIVER);
      if (offset === MmioReg.QUEUE_DEVICE || offset === MmioReg.QUEUE_DEVICE + 4) queue.device = half(queue.device, word, offset > MmioReg.QUEUE_DEVICE);
    }
  }
}

/** An address with one of its halves written anew. */
function half(address: number, word: number, high: boolean): number {
  return high ? word * WORD + (address % WORD) : Math.floor(address / WORD) * WORD + word;
}
