/** Device models: what a vendor's package registers under `DEVICE_MODELS`. */
import type { DmaPort } from "../bus/types.js";
import type { MdevFoundation, MdevParent } from "../mdev/types.js";
import type { Migratable } from "../vfio/migration.js";
import type { SharedPages } from "../memory/shared-pages.js";

/** One PCI base address register's region. */
export interface PciBar {
  /** 0 to 5. */
  readonly index: number;
  /** Bytes, a power of two, at least 16, or 4 in I/O space. */
  readonly size: number;
  /** The BAR is memory without side effects, these pages: clients may map it, and other devices reach it. */
  readonly memory?: SharedPages;
  /** It lies in I/O space. */
  readonly io?: boolean;
  /** Bytes [start, end) that hold the MSI-X table. */
  readonly msixTable?: { readonly start: number; readonly end: number };
  /** The parts, whole pages in ascending order, that clients may map, when they may not map all of it: none, if empty. */
  readonly mappable?: readonly { readonly offset: number; readonly size: number }[];
}

/** Identity in configuration space. */
export interface PciIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  /** 24 bits: class, subclass, programming interface. */
  readonly classCode: number;
  readonly revision: number;
  /** Subsystem vendor and device; the ids themselves unless given. */
  readonly subsystem?: { readonly vendorId: number; readonly deviceId: number };
}

/** A capability in configuration space. */
export interface PciCapability {
  /** A multiple of 4, from 0x40 on. */
  readonly offset: number;
  /** The capability's bytes; the second, the pointer to the next, is filled in. */
  readonly bytes: Uint8Array;
}

/** An extended capability of a PCI Express function, from 0x100 on, in ascending order. */
export interface PciExtendedCapability {
  readonly id: number;
  /** A multiple of 4. */
  readonly offset: number;
  /** What follows the header, as it reads now: the device may change it. */
  readonly body: Uint8Array;
}

/** How a device can interrupt. */
export interface PciInterrupts {
  /** It has an INTx pin. */
  readonly intx: boolean;
  readonly msiVectors: number;
  readonly msixVectors: number;
}

/** What a device may ask of the function around it. */
export interface PciHost {
  /**
   * Sends message-signalled interrupt `vector`, which takes bus mastering and goes through the IOMMU, or drives the INTx pin. Nothing
   * happens while the client has none of it on.
   */
  interrupt(vector: number): void;
  /** Software has bus mastering on: true unless given. */
  readonly busMaster?: boolean;
}

export interface PciDevice {
  readonly identity: PciIdentity;
  readonly bars: readonly PciBar[];
  /** Width of PASIDs it can send, 0 for none. */
  readonly pasidBits: number;
  readonly ats: boolean;
  /** It can ask for pages (PRI). */
  readonly pageRequests?: boolean;
  /** Its requests can wait for software, without a time-out. */
  readonly stalls?: boolean;
  /** None unless given. */
  readonly interrupts?: PciInterrupts;
  readonly capabilities?: readonly PciCapability[];
  /** Makes the function one of PCI Express, with 4096 bytes of configuration space; among its capabilities is 0x10 then. */
  readonly extendedCapabilities?: readonly PciExtendedCapability[];
  /** True when it can be reset by itself. */
  readonly resettable: boolean;
  /** Level of the INTx pin; low unless given. */
  readonly pinAsserted?: boolean;
  /** Little-endian register read of 1, 2, 4 or 8 bytes. */
  readBar(bar: number, offset: number, size: number): bigint;
  writeBar(bar: number, offset: number, size: number, value: bigint): void;
  /**
   * A write of 64 aligned bytes at once: posted (MOVDIR64B), or deferrable (ENQCMD), which the device may turn away. False: it did, the
   * sender is to try again; the answer to a posted one means nothing. Without this method a posted one comes as eight writes of 8
   * bytes, and a deferrable one is turned away.
   */
  writeBlock?(bar: number, offset: number, bytes: Uint8Array, deferrable: boolean): boolean;
  /** Function-level reset. */
  reset(): void;
  /** It can be moved to another machine while it is stopped. */
  readonly migratable?: Migratable;
  /** It can be divided into mediated devices: asked once, when its machine is built. */
  mediate?(foundation: MdevFoundation): MdevParent;
}

/** Makes a device of one model. `options` come from the machine file. */
export interface DeviceModel {
  /** Name in machine files: "dma-test". */
  readonly name: string;
  readonly about: string;
  /** True for a device whose requests do not wait for bus mastering to be on, as some of QEMU's do. */
  readonly ungated?: boolean;
  create(port: DmaPort, options: Readonly<Record<string, unknown>>, host: PciHost): PciDevice;
}
