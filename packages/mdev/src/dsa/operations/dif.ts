/** Data integrity fields (341204, 8.3; T10 SBC, 4.22): 8 bytes behind each block, big-endian: guard, application tag, reference tag. */
import { DifResult, RecordByte, Status } from "../spec/completion.js";
import { DIF_BLOCKS, DIF_TUPLE, DifDestination, DifFlag, DifSource, Field } from "../spec/descriptor.js";
import type { Work } from "../work.js";
import { advance, type Operation, Step } from "./types.js";

const POLYNOMIAL = 0x8bb7;
const ALL_F = 0xffff;

const GUARDS = Uint16Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 8;
  for (let bit = 0; bit < 8; bit++) value = value & 0x8000 ? (value << 1) ^ POLYNOMIAL : value << 1;
  return value;
});

export const difBlockBytes = (work: Work): number => DIF_BLOCKS[work.bytes[Field.DIF_FLAGS] & DifFlag.BLOCK_MASK];

function guardOf(work: Work, bytes: Uint8Array, length: number): number {
  const flags = work.bytes[Field.DIF_FLAGS];
  let guard = (flags & DifFlag.INVERT_SEED) !== 0 ? ALL_F : 0;
  for (let i = 0; i < length; i++) guard = (GUARDS[(guard >>> 8) ^ bytes[i]] ^ (guard << 8)) & ALL_F;
  return (flags & DifFlag.INVERT_RESULT) !== 0 ? ~guard & ALL_F : guard;
}

/** Tags as they are for the next block: seeds, counted on by the blocks that are done with. */
interface Tags {
  readonly mask: number;
  readonly application: number;
  readonly reference: number;
}

function tagsOf(work: Work, at: number, blocks: number, applicationIncrements: boolean, referenceFixed: boolean): Tags {
  const seed = work.view.getUint16(at + 6, true);
  return {
    reference: (work.view.getUint32(at, true) + (referenceFixed ? 0 : blocks)) >>> 0,
    mask: work.view.getUint16(at + 4, true),
    application: (seed + (applicationIncrements ? blocks : 0)) & ALL_F,
  };
}

function sourceTags(work: Work): Tags {
  const flags = work.bytes[Field.DIF_SOURCE_FLAGS];
  return tagsOf(work, Field.DIF_SOURCE_TAGS, work.value, (flags & DifSource.APPLICATION_INCREMENTS) !== 0, (flags & DifSource.REFERENCE_FIXED) !== 0);
}

function destinationTags(work: Work): Tags {
  const flags = work.bytes[Field.DIF_DESTINATION_FLAGS];
  return tagsOf(work, Field.DIF_DESTINATION_TAGS, work.value, (flags & DifDestination.APPLICATION_INCREMENTS) !== 0, (flags & DifDestination.REFERENCE_FIXED) !== 0);
}

function reportTags(work: Work, at: number, { reference, mask, application }: Tags): void {
  work.recordView.setUint32(at, reference, true);
  work.recordView.setUint16(at + 4, mask, true);
  work.recordView.setUint16(at + 6, application, true);
}

/** What is wrong with the block in hand: bits of `DifResult`. */
function checkBlock(work: Work, bytes: Buffer, block: number): number {
  const flags = work.bytes[Field.DIF_SOURCE_FLAGS];
  const [guard, application, reference] = [bytes.readUInt16BE(block), bytes.readUInt16BE(block + 2), bytes.readUInt32BE(block + 4)];
  const applicationF = application === ALL_F;
  const bothF = applicationF && reference === 0xffff_ffff;
  if ((flags & DifSource.ALL_F) !== 0 && bothF && guard === ALL_F) return (flags & DifSource.ALL_F_ERROR) !== 0 ? DifResult.ALL_F : 0;
  if (((flags & DifSource.APPLICATION_AND_REFERENCE_F) !== 0 && bothF) || ((flags & DifSource.APPLICATION_F) !== 0 && applicationF)) return 0;
  const tags = sourceTags(work);
  let wrong = 0;
  if ((flags & DifSource.NO_GUARD_CHECK) === 0 && guard !== guardOf(work, bytes, block)) wrong |= DifResult.GUARD;
  if (((application ^ tags.application) & ~tags.mask & ALL_F) !== 0) wrong |= DifResult.APPLICATION_TAG;
  if ((flags & DifSource.NO_REFERENCE_CHECK) === 0 && reference !== tags.reference) wrong |= DifResult.REFERENCE_TAG;
  return wrong;
}

/** Writes the tuple behind the block in hand; what `pass` has stays as it is. */
function protect(work: Work, bytes: Buffer, block: number, pass: number): void {
  const { mask, application, reference } = destinationTags(work);
  if ((pass & DifDestination.PASS_GUARD) === 0) bytes.writeUInt16BE(guardOf(work, bytes, block), block);
  if ((pass & DifDestination.PASS_APPLICATION) === 0) bytes.writeUInt16BE(application & ~mask & ALL_F, block + 2);
  if ((pass & DifDestination.PASS_REFERENCE) === 0) bytes.writeUInt32BE(reference, block + 4);
}

interface DifRow {
  /** The source has tuples, and they are checked. */
  readonly checks: boolean;
  /** The destination gets blocks; tuples. */
  readonly blocks: boolean;
  readonly tuples: boolean;
}

/** One block a step: what is done with is counted in whole blocks. `value` counts them. */
function dif({ checks, blocks, tuples }: DifRow): Operation {
  return {
    step(work, mover) {
      const block = difBlockBytes(work);
      const taken = block + (checks ? DIF_TUPLE : 0);
      if (!mover.read(work, work.source, work.done, mover.part(taken))) return Step.STOPPED;
      if (checks) {
        work.result = checkBlock(work, mover.first, block);
        if (work.result !== 0) {
          work.fail(Status.DIF);
          work.completed = work.done;
          return Step.END;
        }
      }
      if (tuples) protect(work, mover.first, block, checks ? work.bytes[Field.DIF_DESTINATION_FLAGS] : 0);
      const given = (blocks ? block : 0) + (tuples ? DIF_TUPLE : 0);
      const from = blocks ? 0 : block;
      if (given > 0 && !mover.write(work, work.destination, work.value * given, mover.first.subarray(from, from + given))) return Step.STOPPED;
      work.value++;
      work.written = work.value * given;
      return advance(work, taken);
    },
    report(work) {
      if (checks) reportTags(work, RecordByte.VALUE, sourceTags(work));
      if (tuples) reportTags(work, RecordByte.DESTINATION_TAGS, destinationTags(work));
    },
  };
}

export const difCheck: Operation = dif({ checks: true, blocks: false, tuples: false });
export const difInsert: Operation = dif({ checks: false, blocks: true, tuples: true });
export const difStrip: Operation = dif({ checks: true, blocks: true, tuples: false });
export const difUpdate: Operation = dif({ checks: true, blocks: true, tuples: true });
export const dixGenerate: Operation = dif({ checks: false, blocks: false, tuples: true });
