/**
 * A guest's driver of a virtio-iommu over MMIO: sets up both queues in guest memory, sends requests, takes fault events. It reaches the
 * device through registers and memory only.
 */
import type { MmioHandler } from "@iommukit/core";
import { AVAIL_NO_INTERRUPT, Desc, DESCRIPTOR_BYTES, DeviceStatus, EVENT_BYTES, EVENT_QUEUE, MmioReg, REQUEST_QUEUE } from "./spec.js";
import type { GuestMemory } from "./virtqueue.js";

const SIZE = 64;
const QUEUE_PAGES = 0x1000;
const AVAIL = 0x400;
const USED = 0x800;
/** Of each buffer. */
const BUFFER_BYTES = 0x400;

/** Bytes of guest memory that a driver takes. */
export const DRIVER_BYTES: number = 2 * QUEUE_PAGES + SIZE * BUFFER_BYTES * 2;

/** One queue as a driver keeps it: descriptor i stands for buffer i. */
class DriverQueue {
  readonly memory: GuestMemory;
  readonly base: number;
  readonly buffers: number;
  readonly #flags: number;
  #available = 0;
  #used = 0;

  /** @param flags of the available ring */
  constructor(memory: GuestMemory, base: number, buffers: number, flags: number) {
    this.memory = memory;
    this.base = base;
    this.buffers = buffers;
    this.#flags = flags;
  }

  number(at: number, size: 2 | 4): number {
    const bytes = new Uint8Array(4);
    this.memory.read(at, bytes.subarray(0, size));
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  store(at: number, value: number, size: 2 | 4): void {
    this.memory.write(at, new Uint8Array(Uint32Array.of(value).buffer).subarray(0, size));
  }

  describe(index: number, address: number, length: number, flags: number, next: number): void {
    const view = new DataView(new ArrayBuffer(DESCRIPTOR_BYTES));
    view.setBigUint64(0, BigInt(address), true);
    view.setUint32(8, length, true);
    view.setUint16(12, flags, true);
    view.setUint16(14, next, true);
    this.memory.write(this.base + DESCRIPTOR_BYTES * index, new Uint8Array(view.buffer));
  }

  offer(head: number): void {
    this.store(this.base + AVAIL, this.#flags, 2);
    this.store(this.base + AVAIL + 4 + 2 * (this.#available % SIZE), head, 2);
    this.#available = (this.#available + 1) & 0xffff;
    this.store(this.base + AVAIL + 2, this.#available, 2);
  }

  /** The next used buffer, with the bytes that were written. */
  take(): { head: number; written: number } | undefined {
    if (this.number(this.base + USED + 2, 2) === this.#used) return undefined;
    const at = this.base + USED + 4 + 8 * (this.#used % SIZE);
    this.#used = (this.#used + 1) & 0xffff;
    return { head: this.number(at, 4), written: this.number(at + 4, 4) };
  }
}

export class VirtioIommuGuestDriver {
  readonly #registers: MmioHandler;
  readonly #requests: DriverQueue;
  readonly #events: DriverQueue;

  /** @param base of `DRIVER_BYTES` of guest memory @param features to take */
  constructor(registers: MmioHandler, memory: GuestMemory, base: number, features: bigint) {
    this.#registers = registers;
    const buffers = base + 2 * QUEUE_PAGES;
    this.#requests = new DriverQueue(memory, base, buffers, AVAIL_NO_INTERRUPT);
    this.#events = new DriverQueue(memory, base + QUEUE_PAGES, buffers + SIZE * BUFFER_BYTES, 0);
    this.#set(MmioReg.STATUS, 0);
    this.#set(MmioReg.STATUS, DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER);
    for (const half of [0, 1]) {
      this.#set(MmioReg.DRIVER_FEATURES_SEL, half);
      this.#set(MmioReg.DRIVER_FEATURES, Number((features >> BigInt(32 * half)) & 0xffff_ffffn));
    }
    this.#set(MmioReg.STATUS, this.#get(MmioReg.STATUS) | DeviceStatus.FEATURES_OK);
    if ((this.#get(MmioReg.STATUS) & DeviceStatus.FEATURES_OK) === 0) throw new Error(`the device does not take features 0x${features.toString(16)}`);
    for (const [index, queue] of [this.#requests, this.#events].entries()) this.#start(index, queue.base);
    this.#set(MmioReg.STATUS, this.#get(MmioReg.STATUS) | DeviceStatus.DRIVER_OK);
    for (let i = 0; i < SIZE; i++) this.#offerEvent(i);
  }

  #get(register: number): number {
    return Number(this.#registers.read(register, 4));
  }

  #set(register: number, value: number): void {
    this.#registers.write(register, 4, BigInt(value));
  }

  #start(index: number, base: number): void {
    this.#set(MmioReg.QUEUE_SEL, index);
    this.#set(MmioReg.QUEUE_SIZE, SIZE);
    for (const [register, at] of [[MmioReg.QUEUE_DESC, base], [MmioReg.QUEUE_DRIVER, base + AVAIL], [MmioReg.QUEUE_DEVICE, base + USED]] as const) {
      this.#set(register, at % 2 ** 32);
      this.#set(register + 4, Math.floor(at / 2 ** 32));
    }
    this.#set(MmioReg.QUEUE_READY, 1);
  }

  /** Sends a request and returns the answer of `room` bytes; undefined when the device does not answer: it is broken. */
  request(bytes: Uint8Array, room: number): Uint8Array | undefined {
    const queue = this.#requests;
    const answer = queue.buffers + BUFFER_BYTES;
    queue.memory.write(queue.buffers, bytes);
    queue.memory.write(answer, new Uint8Array(room));
    queue.describe(0, queue.buffers, bytes.length, Desc.NEXT, 1);
    queue.describe(1, answer, room, Desc.WRITE, 0);
    queue.offer(0);
    this.#set(MmioReg.QUEUE_NOTIFY, REQUEST_QUEUE);
    const done = queue.take();
    if (done === undefined) return undefined;
    const result = new Uint8Array(room);
    queue.memory.read(answer, result);
    return result;
  }

  /** The next fault event; its buffer is offered again. */
  event(): DataView | undefined {
    const queue = this.#events;
    const done = queue.take();
    if (done === undefined) return undefined;
    const bytes = new Uint8Array(EVENT_BYTES);
    queue.memory.read(queue.buffers + done.head * BUFFER_BYTES, bytes);
    this.#offerEvent(done.head);
    this.#set(MmioReg.QUEUE_NOTIFY, EVENT_QUEUE);
    return new DataView(bytes.buffer);
  }

  #offerEvent(index: number): void {
    this.#events.describe(index, this.#events.buffers + index * BUFFER_BYTES, EVENT_BYTES, Desc.WRITE, 0);
    this.#events.offer(index);
  }
}
