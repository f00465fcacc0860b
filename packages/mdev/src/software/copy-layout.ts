/**
 * What software sees of the copy engine: registers in BAR 0, 4096 bytes, little-endian, and descriptors in memory.
 *
 * | offset | bytes | register | access | meaning |
 * | --- | --- | --- | --- | --- |
 * | 0x00 | 4 | MAGIC | RO | 0x59504f43, "COPY" |
 * | 0x04 | 4 | VERSION | RO | 1 |
 * | 0x08 | 4 | CONTROL | RW | bit 0 RUN: setting it pins the ring and starts at descriptor 0, clearing it stops; bit 1: interrupts are on |
 * | 0x0c | 4 | STATUS | W1C | bit 0 it runs, bit 1 it waits for a page (both RO), bit 4 the ring is gone: unmapped, or it could not be pinned, bit 5 a descriptor failed |
 * | 0x10 | 8 | RING | RW | address of the ring, a multiple of 32 |
 * | 0x18 | 4 | SIZE | RW | descriptors in it, 2 to 1024 |
 * | 0x1c | 4 | HEAD | RO | the descriptor that is next |
 * | 0x20 | 4 | TAIL | RW | one behind the last descriptor that is ready; writing it is the doorbell |
 * | 0x24 | 4 | INTERRUPT | W1C | bit 0 a descriptor asked for it, bit 1 a descriptor failed or the ring is gone |
 * | 0x28 | 8 | FAULT_ADDRESS | RO | first address that the last failed access could not use |
 * | 0x30 | 4 | FAULT_REASON | RO | 0 none, 1 nothing is mapped there, 2 not with this right, 3 it is being unmapped, or shows a dma-buf, 4 the memory itself failed |
 * | 0x34 | 4 | COMPLETED | RO | descriptors that have ended since RUN |
 *
 * A descriptor: u64 source, u64 destination, u32 length (at most 64 KiB), u32 flags, u32 status, u32 moved. The engine writes the last two.
 */
export const CopyRegister = {
  MAGIC: 0x00, VERSION: 0x04, CONTROL: 0x08, STATUS: 0x0c, RING: 0x10, SIZE: 0x18, HEAD: 0x1c, TAIL: 0x20, INTERRUPT: 0x24,
  FAULT_ADDRESS: 0x28, FAULT_REASON: 0x30, COMPLETED: 0x34,
} as const;

export const MAGIC = 0x5950_4f43;
export const VERSION = 1;
export const BAR_BYTES = 4096;

export const CopyControl = { RUN: 1, INTERRUPTS: 2 } as const;
export const CopyStatus = { RUNNING: 1, WAITING: 2, RING_LOST: 0x10, ERROR: 0x20 } as const;
export const CopyInterrupt = { DONE: 1, TROUBLE: 2 } as const;
export const FaultReason = { NONE: 0, NOT_MAPPED: 1, NO_RIGHT: 2, UNMAPPING: 3, MEMORY: 4 } as const;

export const DESCRIPTOR_BYTES = 32;
export const RING_LIMIT = 1024;
export const LENGTH_LIMIT = 0x1_0000;
/** Offsets in a descriptor. */
export const Descriptor = { SOURCE: 0, DESTINATION: 8, LENGTH: 16, FLAGS: 20, STATUS: 24, MOVED: 28 } as const;
/** FILL: the source is eight bytes to be repeated, not an address. */
export const DescriptorFlag = { INTERRUPT: 1, FILL: 2 } as const;
export const DescriptorStatus = { PENDING: 0, DONE: 1, READ_FAULT: 2, WRITE_FAULT: 3, BAD: 4 } as const;
