/** What the capability registers say (341204, 9.2.2 to 9.2.9). */
import { commandCapabilities } from "./commands.js";
import type { DsaOptions } from "./options.js";
import { OPERATIONS } from "./spec/descriptor.js";
import { GenCap, IMS_ENTRIES, Register, Table, VERSION, WqCap } from "./spec/registers.js";

const FEATURES =
  GenCap.OVERLAP | GenCap.CACHE_MEMORY | GenCap.CACHE_FLUSH | GenCap.COMMAND_CAPABILITIES | GenCap.DESTINATION_READBACK | GenCap.DRAIN_READBACK | GenCap.EVENT_LOG_64 | GenCap.CONFIGURABLE;
const QUEUE_FEATURES = WqCap.SHARED | WqCap.DEDICATED | WqCap.ATS_CONTROL | WqCap.PRIORITY | WqCap.OCCUPANCY | WqCap.OPERATIONS | WqCap.PRS_CONTROL;
/** WQCFG of 64 bytes. */
const CONFIG_SIZE = 1n;
/** OFFSETS counts in these. */
const OFFSET_UNIT = 256;

/** Opcodes, as words of 32 bits. */
export const OPERATION_WORDS: Uint32Array = OPERATIONS.reduce((words, { opcode }) => {
  words[opcode >> 5] |= 1 << (opcode & 31);
  return words;
}, new Uint32Array(8));

/** Values of 8 bytes by offset in BAR 0. */
export function capabilityWords(options: DsaOptions): [offset: number, value: bigint][] {
  const [transfer, batch] = [BigInt(options.maxTransferShift), BigInt(options.maxBatchShift)];
  const general =
    FEATURES |
    (options.pri ? GenCap.BLOCK_ON_FAULT : 0n) |
    (transfer << GenCap.MAX_TRANSFER_SHIFT) |
    (batch << GenCap.MAX_BATCH_SHIFT) |
    (BigInt(IMS_ENTRIES / 256) << GenCap.IMS_SIZE_SHIFT);
  const queues = QUEUE_FEATURES | BigInt(options.entries) | (BigInt(options.workQueues) << WqCap.COUNT_SHIFT) | (CONFIG_SIZE << WqCap.CONFIG_SIZE_SHIFT);
  const tables = [Table.GRPCFG, Table.WQCFG, Table.MSIX_PERM, Table.IMS];
  const offsets = tables.reduce((word, at, i) => word | (BigInt(at / OFFSET_UNIT) << BigInt(16 * i)), 0n);
  const operations = Array.from({ length: 4 }, (_, i): [number, bigint] => [
    Register.OPCAP + 8 * i,
    BigInt(OPERATION_WORDS[2 * i]) | (BigInt(OPERATION_WORDS[2 * i + 1]) << 32n),
  ]);
  return [
    [Register.VERSION, BigInt(VERSION)],
    [Register.GENCAP, general],
    [Register.WQCAP, queues],
    [Register.GRPCAP, BigInt(options.groups)],
    [Register.ENGCAP, BigInt(options.engines)],
    ...operations,
    [Register.OFFSETS, offsets],
    [Register.CMDCAP, BigInt(commandCapabilities(options.interruptHandles))],
  ];
}
