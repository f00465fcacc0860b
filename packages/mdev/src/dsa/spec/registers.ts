/** Registers of BAR 0 (Intel DSA architecture specification, order number 341204, chapter 9), and how BAR 0 and BAR 2 are laid out. */

/** Offsets in BAR 0. */
export const Register = {
  VERSION: 0x00,
  GENCAP: 0x10,
  WQCAP: 0x20,
  GRPCAP: 0x30,
  ENGCAP: 0x38,
  OPCAP: 0x40,
  OFFSETS: 0x60,
  GENCFG: 0x80,
  GENCTRL: 0x88,
  GENSTS: 0x90,
  INTCAUSE: 0x98,
  CMD: 0xa0,
  CMDSTS: 0xa8,
  CMDCAP: 0xb0,
  SWERR: 0xc0,
  EVLCFG: 0xe0,
  EVLSTATUS: 0xf0,
} as const;

/** DSA 1.0 has no event log: this is a 2.0. */
export const VERSION = 0x200;

/** The tables behind the registers; OFFSETS names them in units of 256 bytes. PERFMON is not there: its offset reads 0. */
export const Table = { MSIX: 0x2000, PENDING: 0x3000, GRPCFG: 0x4000, WQCFG: 0x5000, MSIX_PERM: 0x6000, IMS: 0x8000 } as const;
export const BAR0_BYTES = 0x1_0000;
export const GRPCFG_BYTES = 64;
/** 1 << (5 + WQCAP bits 27:24). */
export const WQCFG_BYTES = 64;
export const MSIX_PERM_BYTES = 8;
export const IMS_ENTRY_BYTES = 16;
/** GENCAP counts them in 256. */
export const IMS_ENTRIES = 2048;
/** Four portals of a work queue in BAR 2. */
export const PORTAL_PAGES = 4;
export const Portal = { UNLIMITED_MSIX: 0, LIMITED_MSIX: 1, UNLIMITED_IMS: 2, LIMITED_IMS: 3 } as const;

export const GenCap = {
  BLOCK_ON_FAULT: 0x1n,
  OVERLAP: 0x2n,
  CACHE_MEMORY: 0x4n,
  CACHE_FLUSH: 0x8n,
  COMMAND_CAPABILITIES: 0x10n,
  DESTINATION_READBACK: 0x100n,
  DRAIN_READBACK: 0x200n,
  EVENT_LOG_64: 0x2000n,
  MAX_TRANSFER_SHIFT: 16n,
  MAX_BATCH_SHIFT: 21n,
  IMS_SIZE_SHIFT: 25n,
  CONFIGURABLE: 0x80000000n,
} as const;

export const WqCap = {
  COUNT_SHIFT: 16n,
  CONFIG_SIZE_SHIFT: 24n,
  SHARED: 0x1000000000000n,
  DEDICATED: 0x2000000000000n,
  ATS_CONTROL: 0x4000000000000n,
  PRIORITY: 0x8000000000000n,
  OCCUPANCY: 0x10000000000000n,
  OPERATIONS: 0x40000000000000n,
  PRS_CONTROL: 0x80000000000000n,
} as const;

/** GENCFG. */
export const GENCFG_EVENT_LOG = 0x2000;

/** GENCTRL: which causes interrupt. */
export const GenCtrl = { ERROR: 1, HALT: 2, EVENT_LOG: 4 } as const;
export const GENCTRL_WRITABLE = 7;

/** GENSTS bits 1:0, and bits 3:2 while halted. */
export const DeviceState = { DISABLED: 0, ENABLED: 1, DRAIN: 2, HALT: 3 } as const;
export const ResetNeeded = { SOFTWARE: 0, FUNCTION: 1, WARM: 2, COLD: 3 } as const;

export const IntCause = { ERROR: 1, COMMAND: 2, OCCUPANCY: 4, PERFMON: 8, HALT: 0x10, EVENT_LOG: 0x20, HANDLES_REVOKED: 0x8000_0000 } as const;

/** An aligned half of a register that software may write. */
export interface WriteRow {
  readonly offset: number;
  readonly mask: number;
  /** What happens to the masked bits. */
  readonly kind: "store" | "clear" | "act";
  /** Only while the device is disabled; ignored otherwise. */
  readonly disabled?: boolean;
}

/** Every half not listed ignores writes. */
export const WRITES: readonly WriteRow[] = [
  { offset: Register.GENCFG, mask: GENCFG_EVENT_LOG, kind: "store", disabled: true },
  { offset: Register.GENCTRL, mask: GENCTRL_WRITABLE, kind: "act" },
  { offset: Register.INTCAUSE, mask: 0xffff_ffff, kind: "clear" },
  { offset: Register.CMD, mask: 0xffff_ffff, kind: "act" },
  { offset: Register.SWERR, mask: 3, kind: "clear" },
  { offset: Register.EVLCFG, mask: 0xffff_f003, kind: "store", disabled: true },
  { offset: Register.EVLCFG + 4, mask: 0xffff_ffff, kind: "store", disabled: true },
  { offset: Register.EVLCFG + 8, mask: 0xffff_ffff, kind: "store", disabled: true },
  { offset: Register.EVLCFG + 12, mask: 0xf, kind: "store", disabled: true },
  { offset: Register.EVLSTATUS, mask: 0xffff, kind: "act" },
  { offset: Register.EVLSTATUS + 4, mask: 0x4000_0000, kind: "clear" },
];
