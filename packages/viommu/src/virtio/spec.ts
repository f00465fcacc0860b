/** virtio-iommu as data (Virtual I/O Device 1.3, 5.13), with the parts of split virtqueues (2.7) and of MMIO (4.2) that it needs. */

export const DEVICE_ID = 23;
export const REQUEST_QUEUE = 0;
export const EVENT_QUEUE = 1;

/** Feature bits (5.13.3, 6). */
export const Feature = {
  INPUT_RANGE: 0x1n,
  DOMAIN_RANGE: 0x2n,
  MAP_UNMAP: 0x4n,
  PROBE: 0x10n,
  MMIO: 0x20n,
  BYPASS_CONFIG: 0x40n,
  INDIRECT_DESC: 0x10000000n,
  EVENT_IDX: 0x20000000n,
  VERSION_1: 0x100000000n,
} as const;

/** Device status (2.1). */
export const DeviceStatus = { ACKNOWLEDGE: 1, DRIVER: 2, DRIVER_OK: 4, FEATURES_OK: 8, NEEDS_RESET: 64, FAILED: 128 } as const;

/** Configuration (5.13.4): offsets, and the bytes of it. */
export const Config = { PAGE_SIZE_MASK: 0, INPUT_START: 8, INPUT_END: 16, DOMAIN_START: 24, DOMAIN_END: 28, PROBE_SIZE: 32, BYPASS: 36 } as const;
export const CONFIG_BYTES = 40;

/** Request types (5.13.6). */
export const RequestType = { ATTACH: 1, DETACH: 2, MAP: 3, UNMAP: 4, PROBE: 5 } as const;

/** Device-readable bytes of each request, head included. */
export const REQUEST_BYTES: Readonly<Record<number, number>> = {
  [RequestType.ATTACH]: 20,
  [RequestType.DETACH]: 20,
  [RequestType.MAP]: 36,
  [RequestType.UNMAP]: 28,
  [RequestType.PROBE]: 72,
};
export const HEAD_BYTES = 4;
export const TAIL_BYTES = 4;

/** Status of a request (5.13.6.2). */
export const Status = { OK: 0, IOERR: 1, UNSUPP: 2, DEVERR: 3, INVAL: 4, RANGE: 5, NOENT: 6, FAULT: 7, NOMEM: 8 } as const;

export const ATTACH_BYPASS = 1;
export const MapFlag = { READ: 1, WRITE: 2, MMIO: 4 } as const;

/** A property of PROBE (5.13.6.7): type and length, then what RESV_MEM says. */
export const PROPERTY_RESV_MEM = 1;
export const RESV_MEM_BYTES = 24;
export const RESV_MEM_MSI = 1;

/** Fault report (5.13.6.9). */
export const EVENT_BYTES = 24;
export const FaultReason = { UNKNOWN: 0, DOMAIN: 1, MAPPING: 2 } as const;
export const FaultFlag = { READ: 1, WRITE: 2, ADDRESS: 0x100 } as const;

/** Descriptor flags, ring flags (2.7). */
export const Desc = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const;
export const DESCRIPTOR_BYTES = 16;
export const AVAIL_NO_INTERRUPT = 1;

/** Registers of virtio over MMIO (4.2.2); configuration follows from 0x100. */
export const MmioReg = {
  MAGIC: 0x000,
  VERSION: 0x004,
  DEVICE_ID: 0x008,
  VENDOR_ID: 0x00c,
  DEVICE_FEATURES: 0x010,
  DEVICE_FEATURES_SEL: 0x014,
  DRIVER_FEATURES: 0x020,
  DRIVER_FEATURES_SEL: 0x024,
  QUEUE_SEL: 0x030,
  QUEUE_SIZE_MAX: 0x034,
  QUEUE_SIZE: 0x038,
  QUEUE_READY: 0x044,
  QUEUE_NOTIFY: 0x050,
  INTERRUPT_STATUS: 0x060,
  INTERRUPT_ACK: 0x064,
  STATUS: 0x070,
  QUEUE_DESC: 0x080,
  QUEUE_DRIVER: 0x090,
  QUEUE_DEVICE: 0x0a0,
  CONFIG_GENERATION: 0x0fc,
  CONFIG: 0x100,
} as const;
export const MMIO_MAGIC = 0x7472_6976;
export const MMIO_VERSION = 2;
export const MMIO_BYTES = 0x200;
/** Interrupt status: a used buffer; the configuration changed, or the device needs a reset. */
export const Interrupt = { USED: 1, CONFIG: 2 } as const;
