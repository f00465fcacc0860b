/**
 * A PCI function around a device: configuration space, BARs and the enables that gate them. It may be one of the bus, or a
 * mediated device's. Regions are those of vfio-pci: BARs 0-5, ROM, configuration space, VGA.
 */
import type { PciBar, PciDevice, PciHost } from "../devices/types.js";
import type { Platform } from "../machine/platforms.js";
import type { ProgrammedInterrupt } from "./irqs.js";

export const REGION_COUNT = 9;
export const CONFIG_REGION = 7;
const CONFIG_BYTES = 256;
/** With PCI Express. */
const EXTENDED_CONFIG_BYTES = 4096;
/** Version 1 in the header of an extended capability (PCIe 6.0, 7.6.3). */
const EXTENDED_VERSION = 0x1_0000;

/** Offsets in configuration space (PCI Local Bus 3.0, 6.1). */
const COMMAND = 0x04;
const BAR0 = 0x10;
/** In a BAR: its addresses are of I/O space (6.2.5.1). */
const BAR_IO = 1;
const COMMAND_MEMORY = 2;
const COMMAND_BUS_MASTER = 4;
const COMMAND_IO = 1;
const COMMAND_SERR = 0x100;
const COMMAND_INTX_DISABLE = 0x400;
/** Spaces, bus master, parity, SERR, INTx disable. */
const COMMAND_WRITABLE = COMMAND_IO | COMMAND_MEMORY | COMMAND_BUS_MASTER | 0x40 | COMMAND_SERR | COMMAND_INTX_DISABLE;
const STATUS_CAPABILITIES = 0x10;
const HEADER_TYPE = 0x0e;
const MULTI_FUNCTION = 0x80;
const CAPABILITIES_POINTER = 0x34;
const INTERRUPT_LINE = 0x3c;
const INTERRUPT_PIN = 0x3d;

/** What firmware decided about a function. */
export interface FunctionPlace {
  /** The device has more functions than this, which is the first. */
  readonly multiFunction: boolean;
  readonly platform: Platform;
}

export class PciFunction {
  readonly device: PciDevice;
  /** "0000:00:03.0", or a mediated device's UUID */
  readonly name: string;
  readonly #place: FunctionPlace;
  /** Where firmware put each BAR. */
  readonly #bars = new Map<number, number>();
  readonly #config: Uint8Array;
  readonly #view: DataView;
  /**
   * What the function sends for each vector while MSI or MSI-X is on, as the host programs it: clients see a table of their own. A vector
   * without a message is masked. MSI vectors have messages of their own too, instead of one block with the vector in the data.
   */
  messages: Map<number, ProgrammedInterrupt> | undefined;
  /** Who looks at the INTx pin. */
  pinDriven: (() => void) | undefined;
  /** Told after `answers` or `intxDisabled` may have changed. */
  stateChanged: (() => void) | undefined;
  #lowPower = false;

  /** @param build makes the device; `mastering` says whether it may send requests (PCI 3.0, 6.2.2) */
  constructor(name: string, place: FunctionPlace, build: (host: PciHost, mastering: () => boolean) => PciDevice) {
    this.name = name;
    this.#place = place;
    const mastering = (): boolean => (this.command & COMMAND_BUS_MASTER) !== 0;
    const host: PciHost = {
      interrupt: (vector) => this.#interrupt(vector),
      get busMaster() {
        return mastering();
      },
    };
    this.device = build(host, mastering);
    this.#config = new Uint8Array(this.express ? EXTENDED_CONFIG_BYTES : CONFIG_BYTES);
    this.#view = new DataView(this.#config.buffer);
    this.#resetConfig();
  }

  /** It is a PCI Express function. */
  get express(): boolean {
    return this.device.extendedCapabilities !== undefined;
  }

  #interrupt(vector: number): void {
    if (this.messages === undefined) this.pinDriven?.();
    else this.messages.get(vector)?.send();
  }

  get command(): number {
    return this.#view.getUint16(COMMAND, true);
  }

  /** Turns decoding on, as vfio-pci does when a device is opened; bus mastering is left to its user. */
  enable(): void {
    this.#view.setUint16(COMMAND, this.command | this.#place.platform.enables | COMMAND_MEMORY, true);
  }

  /** Firmware gives a BAR its bus address. */
  placeBar(index: number, address: number): void {
    this.#bars.set(index, address);
    this.#resetConfig();
  }

  /** Function-level reset: registers and enables back to their defaults. */
  reset(): void {
    this.device.reset();
    this.#resetConfig();
  }

  /** The same, but the command register is kept, as vfio-pci keeps it for its user. */
  resetFunction(): void {
    const { command } = this;
    this.reset();
    this.#view.setUint16(COMMAND, command, true);
  }

  #resetConfig(): void {
    const { identity } = this.device;
    this.#config.fill(0);
    this.#view.setUint16(0x00, identity.vendorId, true);
    this.#view.setUint16(0x02, identity.deviceId, true);
    this.#config[0x08] = identity.revision;
    this.#config[0x09] = identity.classCode & 0xff;
    this.#view.setUint16(0x0a, identity.classCode >> 8, true);
    this.#view.setUint16(0x2c, identity.subsystem?.vendorId ?? identity.vendorId, true);
    this.#view.setUint16(0x2e, identity.subsystem?.deviceId ?? identity.deviceId, true);
    this.#view.setUint16(COMMAND, this.#place.platform.command, true);
    if (this.#place.multiFunction) this.#config[HEADER_TYPE] = MULTI_FUNCTION;
    for (const [index, address] of this.#bars) this.#view.setUint32(BAR0 + 4 * index, address, true);
    for (const { index, io } of this.device.bars) if (io) this.#config[BAR0 + 4 * index] |= BAR_IO;
    if (this.device.interrupts?.intx) {
      this.#config[INTERRUPT_LINE] = this.#place.platform.line;
      this.#config[INTERRUPT_PIN] = 1;
    }
    const capabilities = this.device.capabilities ?? [];
    for (const [i, { offset, bytes }] of capabilities.entries()) {
      this.#config.set(bytes, offset);
      this.#config[offset + 1] = capabilities[i + 1]?.offset ?? 0;
    }
    if (capabilities.length > 0) {
      this.#config[CAPABILITIES_POINTER] = capabilities[0].offset;
      this.#config[COMMAND + 2] = STATUS_CAPABILITIES;
    }
    const extended = this.device.extendedCapabilities ?? [];
    for (const [i, { id, offset }] of extended.entries()) {
      this.#view.setUint32(offset, id + EXTENDED_VERSION + (extended[i + 1]?.offset ?? 0) * 0x10_0000, true);
    }
  }

  /** Bytes of a region; 0 for one that the function lacks. */
  regionSize(region: number): number {
    if (region === CONFIG_REGION) return this.#config.length;
    return this.bar(region)?.size ?? 0;
  }

  bar(index: number): PciBar | undefined {
    return this.device.bars.find((bar) => bar.index === index);
  }

  get memoryEnabled(): boolean {
    return (this.command & COMMAND_MEMORY) !== 0;
  }

  /** Its user put it into low power. */
  get lowPower(): boolean {
    return this.#lowPower;
  }

  set lowPower(on: boolean) {
    this.#lowPower = on;
    this.stateChanged?.();
  }

  /** Mapped BARs answer. */
  get answers(): boolean {
    return this.memoryEnabled && !this.#lowPower;
  }

  get intxDisabled(): boolean {
    return (this.command & COMMAND_INTX_DISABLE) !== 0;
  }

  readConfig(offset: number, target: Uint8Array): void {
    for (const capability of this.device.extendedCapabilities ?? []) this.#config.set(capability.body, capability.offset + 4);
    target.set(this.#config.subarray(offset, offset + target.length));
  }

  /** Stores the writable bits. BARs are sized by writing all ones: address bits below the size stay 0. */
  writeConfig(offset: number, source: Uint8Array): void {
    for (const [i, byte] of source.entries()) {
      const at = offset + i;
      this.#config[at] = (this.#config[at] & ~this.#writable(at)) | (byte & this.#writable(at));
    }
    this.stateChanged?.();
  }

  #writable(at: number): number {
    if (at === COMMAND || at === COMMAND + 1) return (COMMAND_WRITABLE >> (8 * (at - COMMAND))) & 0xff;
    if (at === INTERRUPT_LINE) return 0xff;
    const bar = at >= BAR0 ? this.bar((at - BAR0) >> 2) : undefined;
    if (bar === undefined || at >= BAR0 + 24) return 0;
    return ((-bar.size >>> 0) >>> (8 * ((at - BAR0) & 3))) & 0xff;
  }

  /** Splits a region access into aligned register accesses of at most 8 bytes. */
  readBar(bar: number, offset: number, target: Uint8Array): void {
    const memory = this.bar(bar)?.memory;
    if (memory) return memory.read(offset, target);
    for (let done = 0; done < target.length; ) {
      const size = accessSize(offset + done, target.length - done);
      let value = this.device.readBar(bar, offset + done, size);
      for (let i = 0; i < size; i++, value >>= 8n) target[done + i] = Number(value & 0xffn);
      done += size;
    }
  }

  writeBar(bar: number, offset: number, source: Uint8Array): void {
    const memory = this.bar(bar)?.memory;
    if (memory) return memory.write(offset, source);
    for (let done = 0; done < source.length; ) {
      const size = accessSize(offset + done, source.length - done);
      let value = 0n;
      for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(source[done + i]);
      this.device.writeBar(bar, offset + done, size, value);
      done += size;
    }
  }

  /** 64 aligned bytes at once; false when a device turned a deferrable write away. */
  writeBlock(bar: number, offset: number, bytes: Uint8Array, deferrable: boolean): boolean {
    const { device } = this;
    if (device.writeBlock && this.bar(bar)?.memory === undefined) return device.writeBlock(bar, offset, bytes, deferrable);
    if (!deferrable) this.writeBar(bar, offset, bytes);
    return !deferrable;
  }
}

/** Largest of 8, 4, 2, 1 that is aligned at `offset` and fits. */
function accessSize(offset: number, left: number): number {
  let size = 8;
  while (size > left || offset % size !== 0) size /= 2;
  return size;
}
