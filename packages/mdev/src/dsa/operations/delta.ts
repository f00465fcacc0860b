/** Create and apply delta records (341204, 8.3): where two places differ, in units of 8 bytes. */
import { DeltaResult, Status } from "../spec/completion.js";
import { DELTA_ENTRY, Field, Flag } from "../spec/descriptor.js";
import type { PageMover } from "../page-mover.js";
import type { Work } from "../work.js";
import { advance, type Operation, Step } from "./types.js";

const UNIT = 8;
/** Of the sources in one step; the entries for all of it fit beside it. */
const CHUNK = 2048;
/** Entries that one step applies. */
const ENTRIES = 256;

/** The sources are aligned, so no unit crosses a page. `value` is the record's size so far. */
export const createDelta: Operation = {
  restarts: true,
  begin(work) {
    work.third.read(work.view, Field.DELTA);
    work.result = DeltaResult.EQUAL;
  },
  step(work, mover) {
    const { source, destination, done } = work;
    const bytes = Math.min(work.size - done, CHUNK, source.roomAt(done), destination.roomAt(done));
    if (!mover.read(work, source, done, mover.part(bytes)) || !mover.read(work, destination, done, mover.secondPart(bytes))) return Step.STOPPED;
    const { entries, upTo } = collect(work, mover, bytes);
    const record = mover.second.subarray(CHUNK, CHUNK + entries);
    if (entries > 0 && !mover.write(work, work.third, work.value, record)) return Step.STOPPED;
    work.value += entries;
    work.written = work.value;
    if (work.value > 0) work.result = DeltaResult.DIFFERENT;
    if (upTo < bytes) {
      work.result = DeltaResult.TOO_SMALL;
      work.completed = done + upTo;
      return end(work);
    }
    return advance(work, bytes) === Step.END ? end(work) : Step.MORE;
  },
  report: (work) => work.report(work.value),
};

/** Puts entries behind the chunk; stops before one that the record has no room for. */
function collect(work: Work, { first, second }: PageMover, bytes: number): { entries: number; upTo: number } {
  let entries = 0;
  if (first.compare(second, 0, bytes, 0, bytes) === 0) return { entries, upTo: bytes };
  const room = work.view.getUint32(Field.DELTA_MAX, true) - work.value;
  for (let at = 0; at < bytes; at += UNIT) {
    if (first.compare(second, at, at + UNIT, at, at + UNIT) === 0) continue;
    if (entries + DELTA_ENTRY > room) return { entries, upTo: at };
    second.writeUInt16LE((work.done + at) / UNIT, CHUNK + entries);
    second.copy(second, CHUNK + entries + 2, at, at + UNIT);
    entries += DELTA_ENTRY;
  }
  return { entries, upTo: bytes };
}

/** The mask has a bit for each result. */
function end(work: Work): number {
  if (work.has(Flag.CHECK_RESULT) && (work.bytes[Field.DELTA_EXPECTED] & (1 << work.result)) === 0) work.status = Status.FALSE_PREDICATE;
  return Step.END;
}

/** `value` is how far into the record it is; `value2` the least offset that may come next. */
export const applyDelta: Operation = {
  restarts: true,
  begin(work) {
    work.written = work.size;
  },
  step(work, mover) {
    const total = work.view.getUint32(Field.EXPECTED, true);
    const bytes = Math.min(total - work.value, ENTRIES * DELTA_ENTRY);
    if (!mover.read(work, work.source, work.value, mover.part(bytes))) return Step.STOPPED;
    let least = work.value2;
    for (let at = 0; at < bytes; at += DELTA_ENTRY) {
      const unit = mover.first.readUInt16LE(at);
      if (unit < least) return stop(work, Status.DELTA_ORDER, at);
      if (unit * UNIT >= work.size) return stop(work, Status.DELTA_RANGE, at);
      if (!mover.write(work, work.destination, unit * UNIT, mover.first.subarray(at + 2, at + DELTA_ENTRY))) return Step.STOPPED;
      least = unit + 1;
    }
    work.value2 = least;
    work.value += bytes;
    return work.value >= total ? Step.END : Step.MORE;
  },
};

/** Bytes completed are those of the record that were applied. */
function stop(work: Work, status: number, at: number): number {
  work.fail(status);
  work.completed = work.value + at;
  return Step.END;
}
