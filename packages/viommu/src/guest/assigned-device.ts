/**
 * A device of the host as a guest has it: the program that runs the guest hands register accesses on to its VFIO file. What the device does by
 * DMA is between it and the host's IOMMU; the guest's bus sees none of it.
 */
import type { DeviceModel, PciBar, PciDevice, PciHost, PciIdentity, PciInterrupts } from "@iommukit/core";
import type { BoundDevice } from "../host/host-calls.js";
import type { GuestProgram } from "./types.js";

/** vfio_pci regions: BARs come first. */
const BARS = 6;
const CONFIG_REGION = 7;
/** PCI configuration space. */
const COMMAND = 4n;
const MEMORY = 2;
const BUS_MASTER = 4;
const HEADER_BYTES = 64;
/** VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX */
const [MSI, MSIX] = [1, 2];
/** VFIO_DEVICE_SET_IRQS */
const SET_IRQS = 0x3b6e;
/** vfio_irq_set: DATA_EVENTFD and ACTION_TRIGGER; bytes in front of its descriptors. */
const TRIGGER_BY_EVENTFD = 4 | 32;
const IRQ_SET_BYTES = 20;
/** As many as one structure of descriptors takes. */
const MAX_VECTORS = 256;
/** vfio_device_info.flags */
const RESETTABLE = 1;

export interface AssignedFunction extends BoundDevice {
  /** Width of PASIDs that the guest is shown, 0 for none; 8 unless given. */
  readonly pasidBits?: number;
  /** The guest is shown its translation cache, and that it asks for pages. */
  readonly pageRequests?: boolean;
}

/** A model of a guest's machine; its option `function` says which of `functions` it is. */
export function assignedModel(program: GuestProgram, functions: readonly AssignedFunction[]): DeviceModel {
  return {
    name: "assigned",
    about: "a device of the host, handed on",
    // The host's device masters its own bus.
    ungated: true,
    create: (_port, options, host) => new AssignedDevice(program, functions[Number(options.function)], host),
  };
}

class AssignedDevice implements PciDevice {
  readonly identity: PciIdentity;
  readonly bars: readonly PciBar[];
  readonly pasidBits: number;
  readonly ats: boolean;
  readonly pageRequests: boolean;
  readonly resettable: boolean;
  readonly interrupts: PciInterrupts;
  readonly #program: GuestProgram;
  readonly #fd: number;
  readonly #host: PciHost;
  /** Where each region of the file begins. */
  readonly #offsets: readonly bigint[];
  /** Of the host's function; undefined until it was set. */
  #mastering: boolean | undefined;

  constructor(program: GuestProgram, { fd, pasidBits = 8, pageRequests = false }: AssignedFunction, host: PciHost) {
    this.#program = program;
    this.#fd = fd;
    this.#host = host;
    this.pasidBits = pasidBits;
    this.ats = pageRequests;
    this.pageRequests = pageRequests;
    this.resettable = (Number(program.ioctl(fd, "VFIO_DEVICE_GET_INFO").flags) & RESETTABLE) !== 0;
    const regions = Array.from({ length: CONFIG_REGION + 1 }, (_, index) => program.ioctl(fd, "VFIO_DEVICE_GET_REGION_INFO", { index }));
    this.#offsets = regions.map(({ offset }) => BigInt(offset as bigint | number));
    this.bars = regions.slice(0, BARS).flatMap(({ size }, index) => (Number(size) > 0 ? [{ index, size: Number(size) }] : []));
    this.interrupts = this.#takeInterrupts();
    this.identity = identityOf(program.pread(fd, this.#offsets[CONFIG_REGION], HEADER_BYTES));
  }

  /** Each message of the host's device becomes one of the guest's function, which sends it where the guest has programmed it to. */
  #takeInterrupts(): PciInterrupts {
    const counts = [MSI, MSIX].map((index) => Math.min(Number(this.#program.ioctl(this.#fd, "VFIO_DEVICE_GET_IRQ_INFO", { index }).count), MAX_VECTORS));
    const [msiVectors, msixVectors] = counts;
    const count = msixVectors || msiVectors;
    if (count > 0) {
      const events = Array.from({ length: count }, (_, vector) => this.#program.install({ kind: "event", signal: () => this.#host.interrupt(vector) }));
      const header = [IRQ_SET_BYTES + 4 * count, TRIGGER_BY_EVENTFD, msixVectors > 0 ? MSIX : MSI, 0, count];
      this.#program.rawIoctl(this.#fd, SET_IRQS, new Uint8Array(Int32Array.of(...header, ...events).buffer));
    }
    return { intx: false, msiVectors, msixVectors };
  }

  /** The guest's bus mastering becomes the host's: before each register that could start a DMA. */
  #follow(): void {
    const mastering = this.#host.busMaster === true;
    if (this.#mastering === mastering) return;
    this.#mastering = mastering;
    this.#program.pwrite(this.#fd, this.#offsets[CONFIG_REGION] + COMMAND, Uint8Array.of(MEMORY | (mastering ? BUS_MASTER : 0), 0));
  }

  readBar(bar: number, offset: number, size: number): bigint {
    const bytes = this.#program.pread(this.#fd, this.#offsets[bar] + BigInt(offset), size);
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  writeBar(bar: number, offset: number, size: number, value: bigint): void {
    this.#follow();
    this.#program.pwrite(this.#fd, this.#offsets[bar] + BigInt(offset), new Uint8Array(BigUint64Array.of(value).buffer, 0, size));
  }

  /** The host's VFIO keeps the command register. */
  reset(): void {
    if (this.resettable) this.#program.ioctl(this.#fd, "VFIO_DEVICE_RESET");
  }
}

/** The type 0 header (PCI Local Bus 3.0, 6.1). */
function identityOf(config: Uint8Array): PciIdentity {
  const view = new DataView(config.buffer, config.byteOffset, config.length);
  return {
    vendorId: view.getUint16(0x00, true),
    deviceId: view.getUint16(0x02, true),
    revision: view.getUint8(0x08),
    classCode: view.getUint32(0x08, true) >>> 8,
    subsystem: { vendorId: view.getUint16(0x2c, true), deviceId: view.getUint16(0x2e, true) },
  };
}
