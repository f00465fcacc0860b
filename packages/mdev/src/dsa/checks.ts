/** What makes a descriptor invalid, in the order in which it is looked at: the first that finds something names the status. */
import { overlaps } from "./address.js";
import type { Address } from "./address.js";
import { difBlockBytes } from "./operations/dif.js";
import { RECORD_BYTES, Status } from "./spec/completion.js";
import {
  BATCH_MIN,
  CrcFlag,
  DELTA_ENTRY,
  DELTA_MIN,
  DELTA_TRANSFER_MAX,
  DESCRIPTOR_BYTES,
  DIF_DESTINATION_RESERVED,
  DIF_FLAGS_RESERVED,
  DIF_TUPLE,
  Field,
  FillFlag,
  Flag,
  Opcode,
  type OperationRow,
  OPERATIONS,
  PASID_RESERVED,
  PRIVILEGED,
  Sizes,
  TRAFFIC_FLAGS,
} from "./spec/descriptor.js";
import { TRAFFIC_CLASS_B_SHIFT, TRAFFIC_CLASS_MASK, TRAFFIC_CLASSES, WqMode } from "./spec/queues.js";
import type { Work } from "./work.js";

const ROWS: ReadonlyMap<number, OperationRow> = new Map(OPERATIONS.map((row) => [row.opcode, row]));

/** What a check asks of the device around. */
export interface CheckContext {
  /** GRPCFG flags of the queue's group. */
  groupFlags(work: Work): number;
  /** The interrupt handle exists, and is the descriptor's to use. */
  ownsInterrupt(work: Work): boolean;
}

interface Check {
  readonly status: number;
  readonly fails: (work: Work, row: OperationRow, context: CheckContext) => boolean;
}

/** A batch takes neither batches nor drains. */
function opcodeIsInvalid(work: Work): boolean {
  if (!ROWS.has(work.opcode) || !work.queue.allows(work.opcode)) return true;
  return work.batch !== undefined && (work.opcode === Opcode.BATCH || work.opcode === Opcode.DRAIN);
}

function invalidFlags(work: Work, row: OperationRow): number {
  let invalid = work.flags & ~row.flags;
  if (work.batch === undefined) invalid |= work.flags & Flag.FENCE;
  if ((work.queue.mode & WqMode.BLOCK_ON_FAULT) === 0) invalid |= work.flags & Flag.BLOCK_ON_FAULT;
  if (!work.has(Flag.COMPLETION_VALID)) invalid |= work.flags & Flag.REQUEST_COMPLETION;
  return invalid;
}

function reservedIsSet(work: Work, row: OperationRow): boolean {
  const { bytes, view } = work;
  if ((view.getUint32(Field.PASID, true) & PASID_RESERVED) !== 0 || bytes[38] !== 0 || bytes[39] !== 0) return true;
  for (const [start, end] of row.reserved) for (let i = start; i < end; i++) if (bytes[i] !== 0) return true;
  return reservedByFlags(work);
}

/** Bits that a flag, or what the field is for, makes reserved. */
function reservedByFlags({ opcode, bytes, view, specific }: Work): boolean {
  const any = (at: number): boolean => view.getUint32(at, true) !== 0 || view.getUint32(at + 4, true) !== 0;
  switch (opcode) {
    case Opcode.FILL:
      return (specific & FillFlag.PATTERN_16) === 0 && any(Field.PATTERN_HIGH);
    case Opcode.CRC:
    case Opcode.COPY_CRC:
      return (specific & CrcFlag.SEED_IN_MEMORY) === 0 ? any(Field.CRC_SEED_ADDRESS) : view.getUint32(Field.CRC_SEED, true) !== 0;
    case Opcode.DIF_CHECK:
    case Opcode.DIF_STRIP:
      return (bytes[Field.DIF_FLAGS] & DIF_FLAGS_RESERVED) !== 0;
    case Opcode.DIF_INSERT:
    case Opcode.DIF_UPDATE:
    case Opcode.DIX_GENERATE:
      return (bytes[Field.DIF_FLAGS] & DIF_FLAGS_RESERVED) !== 0 || (bytes[Field.DIF_DESTINATION_FLAGS] & DIF_DESTINATION_RESERVED) !== 0;
    default:
      return false;
  }
}

function sizeIsInvalid(work: Work, { size }: OperationRow): boolean {
  if (size === Sizes.NONE || size === Sizes.COUNT) return false;
  if (work.size === 0 || work.size > work.queue.maxTransfer) return true;
  if (size === Sizes.DELTA) return work.size % 8 !== 0 || work.size > DELTA_TRANSFER_MAX;
  if (size === Sizes.PLAIN_BLOCKS) return work.size % difBlockBytes(work) !== 0;
  return size === Sizes.PROTECTED_BLOCKS && work.size % (difBlockBytes(work) + DIF_TUPLE) !== 0;
}

const deltaAddress = (work: Work): Address => {
  work.third.read(work.view, Field.DELTA);
  return work.third;
};

function deltaSizeIsInvalid({ opcode, view, size }: Work): boolean {
  const most = (size / 8) * DELTA_ENTRY;
  if (opcode === Opcode.CREATE_DELTA) {
    const bytes = view.getUint32(Field.DELTA_MAX, true);
    return bytes < DELTA_MIN || bytes % DELTA_ENTRY !== 0;
  }
  if (opcode !== Opcode.APPLY_DELTA) return false;
  const bytes = view.getUint32(Field.EXPECTED, true);
  return bytes === 0 || bytes % DELTA_ENTRY !== 0 || bytes > most;
}

function isMisaligned(work: Work): boolean {
  const { opcode, source, destination } = work;
  if (opcode !== Opcode.CREATE_DELTA && opcode !== Opcode.APPLY_DELTA) return false;
  return !source.isAligned(8) || !destination.isAligned(8) || (opcode === Opcode.CREATE_DELTA && !deltaAddress(work).isAligned(8));
}

/** Bytes that the destination of a DIF operation takes. */
function difDestinationBytes(work: Work): number {
  const block = difBlockBytes(work);
  switch (work.opcode) {
    case Opcode.DIF_INSERT:
      return (work.size / block) * (block + DIF_TUPLE);
    case Opcode.DIX_GENERATE:
      return (work.size / block) * DIF_TUPLE;
    case Opcode.DIF_STRIP:
      return (work.size / (block + DIF_TUPLE)) * block;
    default:
      return work.size;
  }
}

function buffersOverlap(work: Work): boolean {
  const { opcode, source, destination, size, view } = work;
  switch (opcode) {
    case Opcode.COPY_CRC:
      return overlaps(source, size, destination, size);
    case Opcode.DUALCAST: {
      work.third.read(view, Field.DESTINATION2);
      return overlaps(source, size, destination, size) || overlaps(source, size, work.third, size) || overlaps(destination, size, work.third, size);
    }
    case Opcode.CREATE_DELTA: {
      const delta = deltaAddress(work);
      const most = view.getUint32(Field.DELTA_MAX, true);
      return overlaps(source, size, delta, most) || overlaps(destination, size, delta, most);
    }
    case Opcode.APPLY_DELTA:
      return overlaps(source, view.getUint32(Field.EXPECTED, true), destination, size);
    case Opcode.DIF_INSERT:
    case Opcode.DIF_STRIP:
    case Opcode.DIF_UPDATE:
    case Opcode.DIX_GENERATE:
      return overlaps(source, size, destination, difDestinationBytes(work));
    default:
      return false;
  }
}

function dualcastIsMisaligned(work: Work): boolean {
  if (work.opcode !== Opcode.DUALCAST) return false;
  work.third.read(work.view, Field.DESTINATION2);
  return work.third.offset !== work.destination.offset;
}

/** Class A carries what no flag sends by class B. */
function trafficClassIsMissing(work: Work, context: CheckContext): boolean {
  const flags = context.groupFlags(work);
  const [a, b] = [flags & TRAFFIC_CLASS_MASK, (flags >>> TRAFFIC_CLASS_B_SHIFT) & TRAFFIC_CLASS_MASK];
  return a >= TRAFFIC_CLASSES || (work.has(TRAFFIC_FLAGS) && b >= TRAFFIC_CLASSES);
}

/** Of a descriptor, not of one in a batch, which has the batch's. */
function privilegeIsInvalid({ batch, queue, view }: Work): boolean {
  return batch === undefined && !queue.dedicated && (view.getUint32(Field.PASID, true) & PRIVILEGED) !== 0 && (queue.mode & WqMode.PRIVILEGED) === 0;
}

const CHECKS: readonly Check[] = [
  { status: Status.FLAGS, fails: (work, row) => (work.invalidFlags = invalidFlags(work, row)) !== 0 },
  { status: Status.RESERVED, fails: reservedIsSet },
  { status: Status.PRIVILEGE, fails: privilegeIsInvalid },
  { status: Status.SIZE, fails: sizeIsInvalid },
  { status: Status.BATCH_COUNT, fails: ({ size, queue }, row) => row.size === Sizes.COUNT && (size < BATCH_MIN || size > queue.maxBatch) },
  { status: Status.DELTA_SIZE, fails: deltaSizeIsInvalid },
  { status: Status.LIST_ALIGNMENT, fails: ({ opcode, source }) => opcode === Opcode.BATCH && !source.isAligned(DESCRIPTOR_BYTES) },
  { status: Status.ADDRESS_ALIGNMENT, fails: isMisaligned },
  { status: Status.DUALCAST_ALIGNMENT, fails: dualcastIsMisaligned },
  { status: Status.OVERLAP, fails: buffersOverlap },
  { status: Status.TRAFFIC_CLASS, fails: (work, _row, context) => trafficClassIsMissing(work, context) },
  { status: Status.INTERRUPT_HANDLE, fails: (work, _row, context) => work.has(Flag.REQUEST_INTERRUPT) && !context.ownsInterrupt(work) },
];

/** Status of a descriptor that is not valid, or `Status.NONE`. */
export function checkDescriptor(work: Work, context: CheckContext): number {
  if (work.has(Flag.COMPLETION_VALID) && !work.completion.isAligned(RECORD_BYTES)) return Status.COMPLETION_ALIGNMENT;
  const row = ROWS.get(work.opcode);
  if (row === undefined || opcodeIsInvalid(work)) return Status.OPCODE;
  for (const { status, fails } of CHECKS) if (fails(work, row, context)) return status;
  return Status.NONE;
}
