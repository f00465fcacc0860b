/** Device commands, the shape of CMD and CMDSTS, and how commands fail (341204, 9.2.11 to 9.2.13). */

export const Command = {
  ENABLE_DEVICE: 1,
  DISABLE_DEVICE: 2,
  DRAIN_ALL: 3,
  ABORT_ALL: 4,
  RESET_DEVICE: 5,
  ENABLE_WQ: 6,
  DISABLE_WQ: 7,
  DRAIN_WQ: 8,
  ABORT_WQ: 9,
  RESET_WQ: 10,
  DRAIN_PASID: 11,
  ABORT_PASID: 12,
  REQUEST_INT_HANDLE: 13,
  RELEASE_INT_HANDLE: 14,
} as const;

export const Cmd = { OPERAND_MASK: 0xf_ffff, COMMAND_SHIFT: 20, COMMAND_MASK: 0x1f, INTERRUPT: 0x8000_0000 } as const;
export const CmdSts = { RESULT_SHIFT: 8, ACTIVE: 0x8000_0000 } as const;
/** Operand of the interrupt handle commands: the handle is one of message storage, not of the MSI-X table. */
export const OPERAND_IMS = 0x1_0000;

export const CommandError = {
  NONE: 0,
  INVALID_COMMAND: 1,
  INVALID_WQ: 2,
  HARDWARE: 3,
  DEVICE_ENABLED: 0x10,
  DEVICE_CONFIG: 0x11,
  BUS_MASTER: 0x12,
  PASID_COMBINATION: 0x13,
  WQ_SIZE_SUM: 0x14,
  GROUP_QUEUE_TWICE: 0x15,
  GROUP_ENGINE_TWICE: 0x16,
  GROUP_QUEUE_LOST: 0x17,
  GROUP_RANGE: 0x18,
  DEVICE_NOT_ENABLED: 0x20,
  WQ_ENABLED: 0x21,
  WQ_SIZE: 0x22,
  WQ_PRIORITY: 0x23,
  WQ_MODE: 0x24,
  WQ_BLOCK_ON_FAULT: 0x25,
  WQ_PASID: 0x26,
  WQ_MAX_BATCH: 0x27,
  WQ_MAX_TRANSFER: 0x28,
  DISABLE_NOT_ENABLED: 0x31,
  WQ_NOT_ENABLED: 0x32,
  HANDLE_INDEX: 0x41,
  NO_HANDLE: 0x42,
} as const;
