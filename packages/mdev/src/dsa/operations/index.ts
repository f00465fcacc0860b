/** Which operation an opcode stands for; batches and drains are the engine's own. */
import { Opcode } from "../spec/descriptor.js";
import { compare, comparePattern } from "./compare.js";
import { copyCrc, crc } from "./crc.js";
import { applyDelta, createDelta } from "./delta.js";
import { difCheck, difInsert, difStrip, difUpdate, dixGenerate } from "./dif.js";
import { dualcast, fill, memoryMove, noop } from "./memory.js";
import { cacheFlush, translationFetch } from "./translation.js";
import type { Operation } from "./types.js";

export const OPERATION_BY_OPCODE: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [Opcode.NOOP, noop],
  [Opcode.DRAIN, noop],
  [Opcode.MEMMOVE, memoryMove],
  [Opcode.FILL, fill],
  [Opcode.COMPARE, compare],
  [Opcode.COMPARE_PATTERN, comparePattern],
  [Opcode.CREATE_DELTA, createDelta],
  [Opcode.APPLY_DELTA, applyDelta],
  [Opcode.DUALCAST, dualcast],
  [Opcode.TRANSLATION_FETCH, translationFetch],
  [Opcode.CRC, crc],
  [Opcode.COPY_CRC, copyCrc],
  [Opcode.DIF_CHECK, difCheck],
  [Opcode.DIF_INSERT, difInsert],
  [Opcode.DIF_STRIP, difStrip],
  [Opcode.DIF_UPDATE, difUpdate],
  [Opcode.DIX_GENERATE, dixGenerate],
  [Opcode.CACHE_FLUSH, cacheFlush],
]);

export { Step } from "./types.js";
export type { Operation } from "./types.js";
