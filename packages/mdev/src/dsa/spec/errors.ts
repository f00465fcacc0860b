/** SWERR and the event log (341204, 9.2.15, and 5.9 of revision 2). */
import { Status } from "./completion.js";

/**
 * Errors that belong to no descriptor. 0x51 and 0x52 are Intel's; public material does not name the codes for what goes wrong at a portal, so
 * those are this model's own.
 */
export const DeviceError = { PCI_CONFIG: 0x51, COMMAND: 0x52, PORTAL_DISABLED: 0x53, PORTAL_MODE: 0x54, PORTAL_FULL: 0x55, PORTAL_WRITE: 0x56, EVENT_LOG: 0x57, PORTAL_PASID: 0x58 } as const;

export const SwErr = { VALID: 1, OVERFLOW: 2, DESCRIPTOR: 4, QUEUE: 8, BATCH: 0x10, WRITE: 0x20, PRIVILEGED: 0x40, ERROR_SHIFT: 8, QUEUE_SHIFT: 16 } as const;
/** In the second word: operation, then PASID. */
export const SWERR_PASID_SHIFT = 8;

export const EVENT_BYTES = 64;
/** Where the completion record begins in an event. */
export const EVENT_RECORD = 32;
export const EVENT_LOG_MIN = 64;

/** Bits 7:0 of an event, then error, queue, batch identifier. */
export const Event = { DESCRIPTOR: 4, QUEUE: 8, BATCH: 0x10, WRITE: 0x20, PRIVILEGED: 0x40, INFO: 0x80, ERROR_SHIFT: 8, QUEUE_SHIFT: 16, BATCH_SHIFT: 24 } as const;
export const EventByte = { OPERATION: 4, BATCH_INDEX: 8, INFO: 12, INFO_FLAGS: 14, ADDRESS: 16 } as const;
/** Bytes 14 and 15, for errors of a completion record. */
export const EventInfo = { INTERRUPT: 1, IMS: 2, RECORD: 4, FIRST_IN_BATCH: 8 } as const;
export const BATCH_IDENTIFIERS = 256;

/** Errors whose event carries the completion record: software is to store it where the device could not. */
export const WITH_RECORD: ReadonlySet<number> = new Set([Status.COMPLETION_FAULT, Status.DRAIN_LOGGED, Status.BATCH_LOGGED]);
