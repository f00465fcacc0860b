/** QEMU's `edu` device (1234:11e8): identification, a factorial, interrupts by register, DMA of 4 KiB (QEMU docs, specs/edu). */
import type { DmaPort } from "../bus/types.js";
import type { DeviceModel, PciBar, PciCapability, PciDevice, PciHost, PciIdentity, PciInterrupts } from "./types.js";

const BAR_BYTES = 0x10_0000;
const ID = 0x0100_00ed;
const REG = { ID: 0, LIVE: 4, FACTORIAL: 8, STATUS: 0x20, IRQ_STATUS: 0x24, IRQ_RAISE: 0x60, IRQ_ACK: 0x64, SOURCE: 0x80, DESTINATION: 0x88, COUNT: 0x90, COMMAND: 0x98 } as const;
/** The device's own memory as it appears in DMA addresses. */
const BUFFER_AT = 0x4_0000n;
const BUFFER_BYTES = 4096;
const RUN = 1n;
const FROM_DEVICE = 2n;
const IRQ_WHEN_DONE = 4n;
const DMA_IRQ = 0x100;
/** QEMU's default dma_mask: 28 bits. */
const DMA_MASK = 0xfff_ffffn;

class EduDevice implements PciDevice {
  readonly identity: PciIdentity = { vendorId: 0x1234, deviceId: 0x11e8, classCode: 0x00ff00, revision: 0x10, subsystem: { vendorId: 0x1af4, deviceId: 0x1100 } };
  readonly bars: readonly PciBar[] = [{ index: 0, size: BAR_BYTES }];
  readonly pasidBits = 0;
  readonly ats = false;
  readonly resettable = false;
  readonly interrupts: PciInterrupts = { intx: true, msiVectors: 1, msixVectors: 0 };
  /** MSI, 64-bit addresses, one vector. */
  readonly capabilities: readonly PciCapability[] = [{ offset: 0x40, bytes: Uint8Array.of(0x05, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) }];
  readonly #port: DmaPort;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  readonly #dma = new Map<number, bigint>();
  #live = 0;
  #factorial = 0;
  #interruptStatus = 0;

  readonly #host: PciHost;

  constructor(port: DmaPort, host: PciHost) {
    this.#port = port;
    this.#host = host;
  }

  get pinAsserted(): boolean {
    return this.#interruptStatus !== 0;
  }

  #raise(bits: number): void {
    this.#interruptStatus |= bits;
    if (this.#interruptStatus !== 0) this.#host.interrupt(0);
  }

  reset(): void {
    this.#buffer.fill(0);
    this.#dma.clear();
    this.#live = 0;
    this.#factorial = 0;
    this.#interruptStatus = 0;
  }

  /** Below 0x80 registers are read by 4 bytes, above by 4 or 8; everything else reads all ones. */
  readBar(_bar: number, offset: number, size: number): bigint {
    const ones = (1n << BigInt(8 * size)) - 1n;
    if (size !== 4 && (offset < REG.SOURCE || size !== 8)) return ones;
    switch (offset) {
      case REG.ID:
        return BigInt(ID);
      case REG.LIVE:
        return BigInt(this.#live >>> 0);
      case REG.FACTORIAL:
        return BigInt(this.#factorial >>> 0);
      case REG.STATUS:
        return 0n;
      case REG.IRQ_STATUS:
        return BigInt(this.#interruptStatus);
      case REG.SOURCE:
      case REG.DESTINATION:
      case REG.COUNT:
      case REG.COMMAND:
        return (this.#dma.get(offset) ?? 0n) & ones;
      default:
        return ones;
    }
  }

  writeBar(_bar: number, offset: number, size: number, value: bigint): void {
    if (size !== 4 && (offset < REG.SOURCE || size !== 8)) return;
    const number = Number(value & 0xffff_ffffn);
    if (offset === REG.LIVE) this.#live = ~number;
    else if (offset === REG.FACTORIAL) this.#factorial = factorial(number);
    else if (offset === REG.IRQ_RAISE) this.#raise(number);
    else if (offset === REG.IRQ_ACK) this.#interruptStatus &= ~number;
    else if (offset === REG.SOURCE || offset === REG.DESTINATION || offset === REG.COUNT) this.#dma.set(offset, value);
    else if (offset === REG.COMMAND && (value & RUN) !== 0n) this.#transfer(value);
  }

  #transfer(command: bigint): void {
    const outwards = (command & FROM_DEVICE) !== 0n;
    const [source, destination] = [this.#dma.get(REG.SOURCE) ?? 0n, this.#dma.get(REG.DESTINATION) ?? 0n];
    const own = (outwards ? source : destination) - BUFFER_AT;
    const count = this.#dma.get(REG.COUNT) ?? 0n;
    if (own >= 0n && own + count <= BigInt(BUFFER_BYTES)) {
      const part = this.#buffer.subarray(Number(own), Number(own + count));
      if (outwards) this.#port.write(destination & DMA_MASK, part);
      else this.#port.read(source & DMA_MASK, part);
    }
    if ((command & IRQ_WHEN_DONE) !== 0n) this.#raise(DMA_IRQ);
  }
}

/** Modulo 2^32, as the device does it. */
function factorial(n: number): number {
  let product = 1;
  // From 34! on every product is 0 modulo 2^32.
  for (let i = 2; i <= Math.min(n, 34); i++) product = Math.imul(product, i);
  return product;
}

export const eduModel: DeviceModel = {
  name: "edu",
  about: "QEMU's edu: identification, factorial, interrupts by register, DMA",
  create: (port, _options, host) => new EduDevice(port, host),
};
