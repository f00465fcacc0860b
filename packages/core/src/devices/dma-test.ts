/**
 * A PCI device for tests and examples: it copies bytes by DMA when told to.
 * Vendor 0x1d1d and device 0x0001 are not registered with the PCI-SIG for this use.
 *
 * It interrupts by MSI or MSI-X, 16 vectors each. BAR 2 is 64 KiB of memory of its own, which may be mapped; BAR 4 holds the
 * MSI-X table.
 *
 * BAR 0, 4096 bytes, little-endian; registers take aligned accesses of 4 or 8 bytes
 * (an 8-byte register also takes its halves), the buffer any aligned size.
 *
 * | offset | bytes | register | access | meaning |
 * | --- | --- | --- | --- | --- |
 * | 0x000 | 4 | MAGIC | RO | 0x54414d44, "DMAT" |
 * | 0x004 | 4 | VERSION | RO | 1 |
 * | 0x008 | 8 | SOURCE | RW | address that READ and COPY read from |
 * | 0x010 | 8 | DESTINATION | RW | address that WRITE and COPY write to |
 * | 0x018 | 4 | LENGTH | RW | bytes, at most 2048; more is refused (STATUS 3) |
 * | 0x01c | 4 | PASID | RW | bits 19:0 PASID, bit 31: send it |
 * | 0x020 | 4 | COMMAND | WO | 1 READ memory into the buffer, 2 WRITE the buffer to memory, 3 COPY memory to memory; starts at once |
 * | 0x024 | 4 | STATUS | RO | 0 idle, 1 done, 2 refused by the IOMMU, 3 bad command |
 * | 0x028 | 4 | MOVED | RO | bytes that arrived before the refusal |
 * | 0x030 | 8 | FAULT_ADDRESS | RO | first address that was refused |
 * | 0x038 | 4 | COUNT | RO | commands executed since reset |
 * | 0x03c | 4 | INTERRUPT | RW | bits 15:0 vector, bit 31: send it when a command has ended |
 * | 0x800 | 2048 | BUFFER | RW | what READ fills and WRITE sends |
 */
import type { DmaOptions, DmaPort } from "../bus/types.js";
import { SharedPages } from "../memory/shared-pages.js";
import type { DeviceModel, PciBar, PciCapability, PciDevice, PciHost, PciIdentity, PciInterrupts } from "./types.js";

export const DmaTestRegister = {
  MAGIC: 0x00,
  VERSION: 0x04,
  SOURCE: 0x08,
  DESTINATION: 0x10,
  LENGTH: 0x18,
  PASID: 0x1c,
  COMMAND: 0x20,
  STATUS: 0x24,
  MOVED: 0x28,
  FAULT_ADDRESS: 0x30,
  COUNT: 0x38,
  INTERRUPT: 0x3c,
  BUFFER: 0x800,
} as const;

export const DmaTestCommand = { READ: 1, WRITE: 2, COPY: 3 } as const;
export const DmaTestStatus = { IDLE: 0, DONE: 1, REFUSED: 2, BAD_COMMAND: 3 } as const;

const R = DmaTestRegister;
const MAGIC = 0x54414d44;
const BAR_BYTES = 4096;
const BUFFER_BYTES = 2048;
/** Writable 4-byte halves. */
const WRITABLE = new Set([R.SOURCE, R.SOURCE + 4, R.DESTINATION, R.DESTINATION + 4, R.LENGTH, R.PASID, R.INTERRUPT]);
const MEMORY_BYTES = 0x1_0000;
const VECTORS = 16;
const MSIX_BAR = 4;
const MSIX_PENDING = 0x800;
/** MSI: 64-bit addresses, 16 messages (PCI 3.0, 6.8.1). MSI-X: table and pending bits in BAR 4 (6.8.2). */
const CAPABILITIES: readonly PciCapability[] = [
  { offset: 0x50, bytes: Uint8Array.of(0x05, 0, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) },
  { offset: 0x60, bytes: Uint8Array.of(0x11, 0, VECTORS - 1, 0, MSIX_BAR, 0, 0, 0, MSIX_BAR, MSIX_PENDING >> 8, 0, 0) },
];

class DmaTestDevice implements PciDevice {
  readonly identity: PciIdentity = { vendorId: 0x1d1d, deviceId: 0x0001, classCode: 0xff0000, revision: 1 };
  readonly bars: readonly PciBar[] = [
    { index: 0, size: BAR_BYTES },
    { index: 2, size: MEMORY_BYTES, memory: new SharedPages(MEMORY_BYTES) },
    { index: MSIX_BAR, size: 4096, msixTable: { start: 0, end: 16 * VECTORS } },
  ];
  readonly interrupts: PciInterrupts = { intx: false, msiVectors: VECTORS, msixVectors: VECTORS };
  readonly capabilities = CAPABILITIES;
  readonly pasidBits = 20;
  readonly ats = false;
  readonly resettable = true;
  readonly #port: DmaPort;
  readonly #bytes = new Uint8Array(BAR_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);

  readonly #host: PciHost;

  constructor(port: DmaPort, host: PciHost) {
    this.#port = port;
    this.#host = host;
    this.reset();
  }

  reset(): void {
    this.#bytes.fill(0);
    this.#view.setUint32(R.MAGIC, MAGIC, true);
    this.#view.setUint32(R.VERSION, 1, true);
  }

  /** The pending bits of MSI-X are never set: an interrupt is not held back. */
  readBar(bar: number, offset: number, size: number): bigint {
    if (bar !== 0) return 0n;
    let value = 0n;
    for (let i = Math.min(size, BAR_BYTES - offset) - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#bytes[offset + i]);
    return value;
  }

  writeBar(bar: number, offset: number, size: number, value: bigint): void {
    if (bar !== 0) return;
    if (offset >= R.BUFFER) {
      for (let i = 0; i < size && offset + i < BAR_BYTES; i++) this.#bytes[offset + i] = Number((value >> BigInt(8 * i)) & 0xffn);
      return;
    }
    for (let i = 0; i + 4 <= size; i += 4) {
      const half = Number((value >> BigInt(8 * i)) & 0xffff_ffffn);
      if (offset + i === R.COMMAND) this.#execute(half);
      else if (WRITABLE.has(offset + i)) this.#view.setUint32(offset + i, half, true);
    }
  }

  #execute(command: number): void {
    this.#run(command);
    const interrupt = this.#view.getUint32(R.INTERRUPT, true);
    if (interrupt >>> 31 === 1) this.#host.interrupt(interrupt & 0xffff);
  }

  #run(command: number): void {
    const length = this.#view.getUint32(R.LENGTH, true);
    this.#view.setUint32(R.MOVED, 0, true);
    this.#view.setBigUint64(R.FAULT_ADDRESS, 0n, true);
    if (command < DmaTestCommand.READ || command > DmaTestCommand.COPY || length > BUFFER_BYTES) {
      this.#view.setUint32(R.STATUS, DmaTestStatus.BAD_COMMAND, true);
      return;
    }
    this.#view.setUint32(R.COUNT, this.#view.getUint32(R.COUNT, true) + 1, true);
    const copy = command === DmaTestCommand.COPY;
    // COPY has a buffer of its own: it leaves the register buffer alone.
    const data = copy ? new Uint8Array(length) : this.#bytes.subarray(R.BUFFER, R.BUFFER + length);
    const pasid = this.#view.getUint32(R.PASID, true);
    const options: DmaOptions = pasid >>> 31 === 1 ? { pasid: pasid & 0xfffff } : {};
    if (command !== DmaTestCommand.WRITE && !this.#move("read", R.SOURCE, data, options)) return;
    if (command !== DmaTestCommand.READ && !this.#move("write", R.DESTINATION, data, options)) return;
    this.#view.setUint32(R.STATUS, DmaTestStatus.DONE, true);
    this.#view.setUint32(R.MOVED, length, true);
  }

  #move(direction: "read" | "write", register: number, data: Uint8Array, options: DmaOptions): boolean {
    const address = this.#view.getBigUint64(register, true);
    const result = this.#port[direction](address, data, options);
    if (result.ok) return true;
    this.#view.setUint32(R.STATUS, DmaTestStatus.REFUSED, true);
    this.#view.setUint32(R.MOVED, result.moved, true);
    this.#view.setBigUint64(R.FAULT_ADDRESS, BigInt.asUintN(64, address + BigInt(result.moved)), true);
    return false;
  }
}

export const dmaTestModel: DeviceModel = {
  name: "dma-test",
  about: "copies bytes by DMA on command; registers in BAR 0",
  create(port, options, host) {
    const unknown = Object.keys(options)[0];
    if (unknown !== undefined) throw new RangeError(`the dma-test device has no option "${unknown}"`);
    return new DmaTestDevice(port, host);
  },
};
