/** Descriptors, 64 bytes (341204, chapter 8): where fields lie, what flags mean, and one row for each opcode. */

export const DESCRIPTOR_BYTES = 64;
export const BATCH_MIN = 2;

export const Field = {
  PASID: 0,
  FLAGS: 4,
  SPECIFIC: 6,
  OPCODE: 7,
  COMPLETION: 8,
  SOURCE: 16,
  DESTINATION: 24,
  SIZE: 32,
  HANDLE: 36,
  /** Expected result of a comparison, seed of a CRC, delta record's size, flags of DIF. */
  EXPECTED: 40,
  DELTA: 40,
  PATTERN_HIGH: 40,
  DESTINATION2: 40,
  CRC_SEED: 40,
  CRC_SEED_ADDRESS: 48,
  DELTA_MAX: 48,
  DELTA_EXPECTED: 56,
  DIF_SOURCE_FLAGS: 40,
  DIF_DESTINATION_FLAGS: 41,
  DIF_FLAGS: 42,
  DIF_SOURCE_TAGS: 48,
  DIF_DESTINATION_TAGS: 56,
  STRIDE: 48,
} as const;

export const PASID_MASK = 0xf_ffff;
/** Bits 30:20 of the first word. */
export const PASID_RESERVED = 0x7ff0_0000;
export const PRIVILEGED = 0x8000_0000;

export const Opcode = {
  NOOP: 0,
  BATCH: 1,
  DRAIN: 2,
  MEMMOVE: 3,
  FILL: 4,
  COMPARE: 5,
  COMPARE_PATTERN: 6,
  CREATE_DELTA: 7,
  APPLY_DELTA: 8,
  DUALCAST: 9,
  TRANSLATION_FETCH: 0xa,
  CRC: 0x10,
  COPY_CRC: 0x11,
  DIF_CHECK: 0x12,
  DIF_INSERT: 0x13,
  DIF_STRIP: 0x14,
  DIF_UPDATE: 0x15,
  DIX_GENERATE: 0x17,
  CACHE_FLUSH: 0x20,
} as const;

/** Bits of the 24-bit flags; bits 23:16 are the operation's own. */
export const Flag = {
  FENCE: 1,
  BLOCK_ON_FAULT: 2,
  COMPLETION_VALID: 4,
  REQUEST_COMPLETION: 8,
  REQUEST_INTERRUPT: 0x10,
  COMPLETION_STEERING: 0x20,
  CHECK_RESULT: 0x80,
  CACHE_CONTROL: 0x100,
  TRAFFIC_1: 0x200,
  TRAFFIC_2: 0x400,
  TRAFFIC_3: 0x800,
  TRAFFIC_COMPLETION: 0x1000,
  STRICT_ORDER: 0x2000,
  READBACK: 0x4000,
  DESTINATION_STEERING: 0x8000,
} as const;

export const TRAFFIC_FLAGS: number = Flag.TRAFFIC_1 | Flag.TRAFFIC_2 | Flag.TRAFFIC_3 | Flag.TRAFFIC_COMPLETION;
const SPECIFIC = 16;

/** Flags of the operation in byte 6. */
export const DrainFlag = { READBACK_1: 1, READBACK_2: 2, SUPPRESS_A: 4, SUPPRESS_B: 8 } as const;
export const FillFlag = { PATTERN_16: 1 } as const;
export const CrcFlag = { SEED_IN_MEMORY: 1, PLAIN_RESULT: 2, PLAIN_DATA: 4 } as const;
/** Byte 42; the low two bits index `DIF_BLOCKS`. */
export const DifFlag = { BLOCK_MASK: 3, INVERT_SEED: 4, INVERT_RESULT: 8 } as const;
export const DIF_BLOCKS: readonly number[] = [512, 520, 4096, 4104];
export const DIF_TUPLE = 8;
/** Byte 40. */
export const DifSource = {
  ALL_F_ERROR: 1,
  ALL_F: 2,
  APPLICATION_F: 4,
  APPLICATION_AND_REFERENCE_F: 8,
  APPLICATION_INCREMENTS: 0x10,
  NO_GUARD_CHECK: 0x20,
  NO_REFERENCE_CHECK: 0x40,
  REFERENCE_FIXED: 0x80,
} as const;
/** Byte 41. */
export const DifDestination = { PASS_APPLICATION: 8, APPLICATION_INCREMENTS: 0x10, PASS_GUARD: 0x20, PASS_REFERENCE: 0x40, REFERENCE_FIXED: 0x80 } as const;

/** A delta record is a run of these: a 2-byte offset in units of 8 bytes, then 8 bytes. */
export const DELTA_ENTRY = 10;
export const DELTA_MIN = 80;
/** Largest size that 16-bit offsets reach. */
export const DELTA_TRANSFER_MAX = 0x8_0000;

/** How the size in bytes 35:32 is to be checked. */
export const Sizes = { NONE: 0, BYTES: 1, DELTA: 2, PLAIN_BLOCKS: 3, PROTECTED_BLOCKS: 4, COUNT: 5 } as const;

export interface OperationRow {
  readonly opcode: number;
  readonly name: string;
  /** Flags that may be set, the operation's own included. */
  readonly flags: number;
  readonly size: number;
  /** Reserved bytes, as [start, end). */
  readonly reserved: readonly (readonly [number, number])[];
}

const ALWAYS = Flag.FENCE | Flag.COMPLETION_VALID | Flag.REQUEST_COMPLETION | Flag.REQUEST_INTERRUPT | Flag.COMPLETION_STEERING | Flag.TRAFFIC_COMPLETION;
const READS = ALWAYS | Flag.BLOCK_ON_FAULT | Flag.TRAFFIC_1;
const WRITES = READS | Flag.TRAFFIC_2 | Flag.CACHE_CONTROL | Flag.STRICT_ORDER | Flag.READBACK | Flag.DESTINATION_STEERING;
const specific = (bits: number): number => bits << SPECIFIC;

/** Bytes 38 and 39 are reserved in each. */
export const OPERATIONS: readonly OperationRow[] = [
  { opcode: Opcode.NOOP, name: "no-op", flags: ALWAYS, size: Sizes.NONE, reserved: [[16, 36], [40, 64]] },
  { opcode: Opcode.BATCH, name: "batch", flags: (READS & ~Flag.FENCE), size: Sizes.COUNT, reserved: [[24, 32], [40, 64]] },
  { opcode: Opcode.DRAIN, name: "drain", flags: (READS & ~Flag.FENCE) | Flag.TRAFFIC_2 | specific(0xf), size: Sizes.NONE, reserved: [[32, 36], [40, 64]] },
  { opcode: Opcode.MEMMOVE, name: "memory move", flags: WRITES, size: Sizes.BYTES, reserved: [[40, 64]] },
  { opcode: Opcode.FILL, name: "fill", flags: WRITES | specific(FillFlag.PATTERN_16), size: Sizes.BYTES, reserved: [[48, 64]] },
  { opcode: Opcode.COMPARE, name: "compare", flags: READS | Flag.TRAFFIC_2 | Flag.CHECK_RESULT, size: Sizes.BYTES, reserved: [[41, 64]] },
  { opcode: Opcode.COMPARE_PATTERN, name: "compare pattern", flags: READS | Flag.CHECK_RESULT, size: Sizes.BYTES, reserved: [[41, 64]] },
  { opcode: Opcode.CREATE_DELTA, name: "create delta record", flags: WRITES | Flag.TRAFFIC_3 | Flag.CHECK_RESULT, size: Sizes.DELTA, reserved: [[52, 56], [57, 64]] },
  { opcode: Opcode.APPLY_DELTA, name: "apply delta record", flags: WRITES, size: Sizes.DELTA, reserved: [[44, 64]] },
  { opcode: Opcode.DUALCAST, name: "dualcast", flags: WRITES | Flag.TRAFFIC_3 | specific(1), size: Sizes.BYTES, reserved: [[48, 64]] },
  { opcode: Opcode.TRANSLATION_FETCH, name: "translation fetch", flags: READS, size: Sizes.BYTES, reserved: [[24, 32], [40, 48], [52, 64]] },
  { opcode: Opcode.CRC, name: "CRC", flags: READS | Flag.TRAFFIC_3 | specific(7), size: Sizes.BYTES, reserved: [[24, 32], [44, 48], [56, 64]] },
  { opcode: Opcode.COPY_CRC, name: "copy with CRC", flags: WRITES | Flag.TRAFFIC_3 | specific(7), size: Sizes.BYTES, reserved: [[44, 48], [56, 64]] },
  { opcode: Opcode.DIF_CHECK, name: "DIF check", flags: READS, size: Sizes.PROTECTED_BLOCKS, reserved: [[24, 32], [41, 42], [43, 48], [56, 64]] },
  { opcode: Opcode.DIF_INSERT, name: "DIF insert", flags: WRITES, size: Sizes.PLAIN_BLOCKS, reserved: [[40, 41], [43, 56]] },
  { opcode: Opcode.DIF_STRIP, name: "DIF strip", flags: WRITES, size: Sizes.PROTECTED_BLOCKS, reserved: [[41, 42], [43, 48], [56, 64]] },
  { opcode: Opcode.DIF_UPDATE, name: "DIF update", flags: WRITES, size: Sizes.PROTECTED_BLOCKS, reserved: [[43, 48]] },
  { opcode: Opcode.DIX_GENERATE, name: "DIX generate", flags: WRITES, size: Sizes.PLAIN_BLOCKS, reserved: [[40, 41], [43, 56]] },
  { opcode: Opcode.CACHE_FLUSH, name: "cache flush", flags: ALWAYS | Flag.BLOCK_ON_FAULT | Flag.TRAFFIC_2 | Flag.CACHE_CONTROL, size: Sizes.BYTES, reserved: [[16, 24], [40, 64]] },
];

/** What the row of an opcode reserves in byte 42: the upper half. */
export const DIF_FLAGS_RESERVED = 0xf0;
/** Low three bits of byte 41. */
export const DIF_DESTINATION_RESERVED = 7;
