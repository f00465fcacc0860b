/**
 * A PCI device for tests and examples: it copies bytes by DMA when told to.
 * Vendor 0x1d1d and device 0x0001 are not registered with the PCI-SIG for this use.
 *
 * Options: `stalls` makes it one whose requests the IOMMU may hold back until software has seen to a fault, as an accelerator on a chip.
 * `ats` gives it a translation cache, `pri` page requests on top: an access without permission then waits until the page is there.
 * Either makes it a PCI Express function with the ATS, PRI and PASID extended capabilities, whose enables software sees and the IOMMU's side
 * owns, as under vfio-pci: CONTROL is the device's own switch.
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
 * | 0x024 | 4 | STATUS | RO | 0 idle, 1 done, 2 refused by the IOMMU, 3 bad command, 4 waiting for a page: a COMMAND is ignored meanwhile |
 * | 0x028 | 4 | MOVED | RO | bytes that arrived before the refusal |
 * | 0x030 | 8 | FAULT_ADDRESS | RO | first address that was refused |
 * | 0x038 | 4 | COUNT | RO | commands executed since reset |
 * | 0x03c | 4 | INTERRUPT | RW | bits 15:0 vector, bit 31: send it when a command has ended |
 * | 0x040 | 4 | CONTROL | RW | bit 0: ATS is on, bit 1: PRI is on. Only with the options; on after a reset; the device turns ATS off when a translation request is answered Unsupported Request, PRI on a response failure |
 * | 0x044 | 4 | CACHED | RO | translations that the device holds |
 * | 0x048 | 4 | INVALIDATIONS | RO | invalidation requests it got since reset |
 * | 0x04c | 4 | PAGE_REQUESTS | RO | page requests it sent since reset |
 * | 0x800 | 2048 | BUFFER | RW | what READ fills and WRITE sends |
 */
import type { DmaOptions, DmaPort, DmaResult } from "../bus/types.js";
import { SharedPages } from "../memory/shared-pages.js";
import { AtsCapabilities, EXPRESS_CAPABILITY } from "./ats-capabilities.js";
import { DeviceTlb } from "./device-tlb.js";
import { StallingDma } from "./stalling-dma.js";
import type { DeviceModel, PciBar, PciCapability, PciDevice, PciExtendedCapability, PciHost, PciIdentity, PciInterrupts } from "./types.js";

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
  CONTROL: 0x40,
  CACHED: 0x44,
  INVALIDATIONS: 0x48,
  PAGE_REQUESTS: 0x4c,
  BUFFER: 0x800,
} as const;

export const DmaTestCommand = { READ: 1, WRITE: 2, COPY: 3 } as const;
export const DmaTestStatus = { IDLE: 0, DONE: 1, REFUSED: 2, BAD_COMMAND: 3, WAITING: 4 } as const;

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

/** Bits of CONTROL. */
const CONTROL_ATS = 1;
const CONTROL_PRI = 2;

interface Features {
  readonly ats: boolean;
  readonly pri: boolean;
  readonly stalls: boolean;
}

class DmaTestDevice implements PciDevice {
  readonly identity: PciIdentity = { vendorId: 0x1d1d, deviceId: 0x0001, classCode: 0xff0000, revision: 1 };
  readonly bars: readonly PciBar[] = [
    { index: 0, size: BAR_BYTES },
    { index: 2, size: MEMORY_BYTES, memory: new SharedPages(MEMORY_BYTES) },
    { index: MSIX_BAR, size: 4096, msixTable: { start: 0, end: 16 * VECTORS } },
  ];
  readonly interrupts: PciInterrupts = { intx: false, msiVectors: VECTORS, msixVectors: VECTORS };
  readonly capabilities: readonly PciCapability[];
  readonly extendedCapabilities?: readonly PciExtendedCapability[];
  readonly pasidBits = 20;
  readonly ats: boolean;
  readonly pageRequests: boolean;
  readonly stalls: boolean;
  readonly resettable = true;
  readonly #port: DmaPort;
  readonly #host: PciHost;
  readonly #features: Features;
  readonly #tlb: DeviceTlb | undefined;
  readonly #stalling: StallingDma | undefined;
  readonly #bytes = new Uint8Array(BAR_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);

  constructor(port: DmaPort, host: PciHost, features: Features) {
    this.#port = port;
    this.#host = host;
    this.#features = features;
    this.ats = features.ats;
    this.pageRequests = features.pri;
    this.stalls = features.stalls;
    if (features.stalls) this.#stalling = new StallingDma(port);
    this.capabilities = features.ats ? [...CAPABILITIES, EXPRESS_CAPABILITY] : CAPABILITIES;
    if (features.ats) {
      this.#tlb = new DeviceTlb(port);
      this.extendedCapabilities = new AtsCapabilities(this.#tlb, { pageRequests: features.pri, pasidBits: this.pasidBits }).list;
    }
    this.reset();
  }

  reset(): void {
    this.#bytes.fill(0);
    this.#view.setUint32(R.MAGIC, MAGIC, true);
    this.#view.setUint32(R.VERSION, 1, true);
    this.#tlb?.reset();
    this.#stalling?.reset();
    this.#control(CONTROL_ATS | CONTROL_PRI);
  }

  /** Turns on what the device and its unit have of it. */
  #control(bits: number): void {
    if (this.#tlb === undefined) return;
    this.#tlb.enabled = (bits & CONTROL_ATS) !== 0 && this.#port.ats !== undefined;
    this.#tlb.pages.enabled = (bits & CONTROL_PRI) !== 0 && this.#features.pri && this.#port.ats !== undefined;
  }

  /** What the translation cache counts goes to its registers. The pending bits of MSI-X are never set: an interrupt is not held back. */
  readBar(bar: number, offset: number, size: number): bigint {
    if (bar !== 0) return 0n;
    if (this.#tlb) {
      const { enabled, cached, invalidations, pages } = this.#tlb;
      const values = [(enabled ? CONTROL_ATS : 0) | (pages.enabled ? CONTROL_PRI : 0), cached, invalidations, pages.sent];
      for (const [i, value] of values.entries()) this.#view.setUint32(R.CONTROL + 4 * i, value, true);
    }
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
      else if (offset + i === R.CONTROL) this.#control(half);
      else if (WRITABLE.has(offset + i)) this.#view.setUint32(offset + i, half, true);
    }
  }

  #execute(command: number): void {
    if (this.#view.getUint32(R.STATUS, true) === DmaTestStatus.WAITING) return;
    const length = this.#view.getUint32(R.LENGTH, true);
    if (command < DmaTestCommand.READ || command > DmaTestCommand.COPY || length > BUFFER_BYTES) return this.#end(DmaTestStatus.BAD_COMMAND, 0, 0n);
    this.#view.setUint32(R.COUNT, this.#view.getUint32(R.COUNT, true) + 1, true);
    this.#view.setUint32(R.STATUS, DmaTestStatus.WAITING, true);
    // COPY has a buffer of its own: it leaves the register buffer alone.
    const data = command === DmaTestCommand.COPY ? new Uint8Array(length) : this.#bytes.subarray(R.BUFFER, R.BUFFER + length);
    const pasid = this.#view.getUint32(R.PASID, true);
    const options: DmaOptions = pasid >>> 31 === 1 ? { pasid: pasid & 0xfffff } : {};
    const done = (): void => this.#end(DmaTestStatus.DONE, length, 0n);
    const write = (): void => this.#move("write", R.DESTINATION, data, options, done);
    if (command === DmaTestCommand.WRITE) write();
    else this.#move("read", R.SOURCE, data, options, command === DmaTestCommand.COPY ? write : done);
  }

  #move(direction: "read" | "write", register: number, data: Uint8Array, options: DmaOptions, next: () => void): void {
    const address = this.#view.getBigUint64(register, true);
    const ended = ({ ok, moved }: DmaResult): void => {
      if (ok) next();
      else this.#end(DmaTestStatus.REFUSED, moved, BigInt.asUintN(64, address + BigInt(moved)));
    };
    if (this.#tlb) this.#tlb.transfer(direction, address, data, options, ended);
    else if (this.#stalling) this.#stalling.transfer(direction, address, data, options, ended);
    else ended(this.#port[direction](address, data, options));
  }

  #end(status: number, moved: number, faultAddress: bigint): void {
    this.#view.setUint32(R.STATUS, status, true);
    this.#view.setUint32(R.MOVED, moved, true);
    this.#view.setBigUint64(R.FAULT_ADDRESS, faultAddress, true);
    const interrupt = this.#view.getUint32(R.INTERRUPT, true);
    if (interrupt >>> 31 === 1) this.#host.interrupt(interrupt & 0xffff);
  }
}

const OPTIONS = ["ats", "pri", "stalls"];

export const dmaTestModel: DeviceModel = {
  name: "dma-test",
  about: "copies bytes by DMA on command; registers in BAR 0; options: ats, pri, stalls",
  create(port, options, host) {
    for (const [name, value] of Object.entries(options)) {
      if (!OPTIONS.includes(name)) throw new RangeError(`the dma-test device has no option "${name}"; there are: ${OPTIONS.join(", ")}`);
      if (typeof value !== "boolean") throw new RangeError(`option ${name} of a dma-test device is ${JSON.stringify(value)}, not true or false`);
    }
    const pri = options.pri === true;
    // Page requests are of no use to a device that cannot ask for translations (PCIe 6.0, 10.4).
    const ats = options.ats === true || pri;
    const stalls = options.stalls === true;
    if (stalls && ats) throw new RangeError("requests of a dma-test device with a translation cache do not stall: options ats, pri and stalls");
    return new DmaTestDevice(port, host, { ats, pri, stalls });
  },
};
