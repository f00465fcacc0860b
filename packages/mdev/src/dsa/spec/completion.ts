/** The completion record, 32 bytes, and its status codes (341204, chapter 8). */

export const RECORD_BYTES = 32;

export const RecordByte = {
  STATUS: 0,
  RESULT: 1,
  /** Bytes of the source that were done with, or descriptors of a batch. */
  COMPLETED: 4,
  FAULT_ADDRESS: 8,
  /** CRC, size of a delta record, flags that are not valid, or tags of a DIF source. */
  VALUE: 16,
  /** Tags of a DIF destination. */
  DESTINATION_TAGS: 24,
} as const;

/** In the status byte: the access that faulted was a write. */
export const STATUS_WRITE = 0x80;

export const Status = {
  NONE: 0,
  SUCCESS: 1,
  FALSE_PREDICATE: 2,
  PAGE_FAULT: 3,
  PAGE_RESPONSE: 4,
  BATCH_FAILED: 5,
  BATCH_PAGE_FAULT: 6,
  DELTA_ORDER: 7,
  DELTA_RANGE: 8,
  DIF: 9,
  OPCODE: 0x10,
  FLAGS: 0x11,
  RESERVED: 0x12,
  SIZE: 0x13,
  BATCH_COUNT: 0x14,
  DELTA_SIZE: 0x15,
  OVERLAP: 0x16,
  DUALCAST_ALIGNMENT: 0x17,
  LIST_ALIGNMENT: 0x18,
  INTERRUPT_HANDLE: 0x19,
  COMPLETION_FAULT: 0x1a,
  COMPLETION_ALIGNMENT: 0x1b,
  ADDRESS_ALIGNMENT: 0x1c,
  PRIVILEGE: 0x1d,
  TRAFFIC_CLASS: 0x1e,
  READBACK_FAULT: 0x1f,
  HARDWARE: 0x20,
  READBACK_HARDWARE: 0x21,
  TRANSLATION: 0x22,
  DRAIN_LOGGED: 0x26,
  BATCH_LOGGED: 0x27,
} as const;

/** Bits of the result byte after a DIF check. */
export const DifResult = { GUARD: 1, APPLICATION_TAG: 2, REFERENCE_TAG: 4, ALL_F: 8 } as const;
/** Result of creating a delta record. */
export const DeltaResult = { EQUAL: 0, DIFFERENT: 1, TOO_SMALL: 2 } as const;
