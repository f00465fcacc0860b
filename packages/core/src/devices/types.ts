/** Device models: what a vendor's package registers under `DEVICE_MODELS`. */
import type { DmaPort } from "../bus/types.js";

/** One PCI base address register's region. */
export interface PciBar {
  /** 0 to 5. */
  readonly index: number;
  /** Bytes, a power of two, at least 16. */
  readonly size: number;
}

/** Identity in configuration space. */
export interface PciIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  /** 24 bits: class, subclass, programming interface. */
  readonly classCode: number;
  readonly revision: number;
}

export interface PciDevice {
  readonly identity: PciIdentity;
  readonly bars: readonly PciBar[];
  /** Width of PASIDs it can send, 0 for none. */
  readonly pasidBits: number;
  readonly ats: boolean;
  /** Little-endian register read of 1, 2, 4 or 8 bytes. */
  readBar(bar: number, offset: number, size: number): bigint;
  writeBar(bar: number, offset: number, size: number, value: bigint): void;
  /** Function-level reset. */
  reset(): void;
}

/** Makes a device of one model. `options` come from the machine file. */
export interface DeviceModel {
  /** Name in machine files: "dma-test". */
  readonly name: string;
  readonly about: string;
  create(port: DmaPort, options: Readonly<Record<string, unknown>>): PciDevice;
}
