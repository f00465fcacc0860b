/** Memory move, fill, dualcast, and nothing at all (341204, 8.3). */
import { Field, FillFlag } from "../spec/descriptor.js";
import { advance, type Operation, Step } from "./types.js";

export const noop: Operation = { step: () => Step.END };

/** A page's worth never crosses a page at either end: it moves as a whole, so that it can be moved again, overlapping or not. */
export const memoryMove: Operation = {
  /** Towards higher addresses within the source, what is overwritten must have been read: it goes from the end to the beginning. */
  begin(work) {
    const distance = work.destination.distanceFrom(work.source);
    work.backwards = distance > 0 && distance < work.size;
    work.written = work.size;
  },
  step(work, mover) {
    const { source, destination } = work;
    const left = work.size - work.done;
    let at = work.done;
    let bytes: number;
    if (work.backwards) {
      bytes = Math.min(left, source.offsetAt(left - 1) + 1, destination.offsetAt(left - 1) + 1);
      at = left - bytes;
    } else bytes = Math.min(left, source.roomAt(at), destination.roomAt(at));
    const part = mover.part(bytes);
    if (!mover.read(work, source, at, part) || !mover.write(work, destination, at, part)) return Step.STOPPED;
    return advance(work, bytes);
  },
  /** 1: from the end, and what is left lies at the beginning. */
  report(work) {
    if (work.faultPage !== -1 && work.backwards) work.result = 1;
  },
};

export const dualcast: Operation = {
  begin(work) {
    work.third.read(work.view, Field.DESTINATION2);
    work.written = work.size;
  },
  step(work, mover) {
    const { source, destination, third, done } = work;
    const part = mover.part(Math.min(work.size - done, source.roomAt(done), destination.roomAt(done)));
    if (!mover.read(work, source, done, part) || !mover.write(work, destination, done, part) || !mover.write(work, third, done, part)) return Step.STOPPED;
    return advance(work, part.length);
  },
};

/** Ends at whole patterns, so that what is left can be filled by the same pattern. */
export const fill: Operation = {
  begin(work) {
    work.written = work.size;
  },
  step(work, mover) {
    const period = (work.specific & FillFlag.PATTERN_16) !== 0 ? 16 : 8;
    const bytes = wholePatterns(work.size - work.done, work.destination.roomAt(work.done), period);
    // The halves of a pattern of 16 bytes lie apart in the descriptor.
    if (period === 16) work.bytes.copyWithin(Field.SOURCE + 8, Field.PATTERN_HIGH, Field.PATTERN_HIGH + 8);
    repeatPattern(mover.first, bytes, work.bytes, Field.SOURCE, period);
    if (!mover.write(work, work.destination, work.done, mover.part(bytes))) return Step.STOPPED;
    return advance(work, bytes);
  },
};

/** As many bytes as fit into `room` by whole patterns; one pattern, across the boundary, when none does. */
export function wholePatterns(left: number, room: number, period: number): number {
  if (left <= room) return left;
  return room < period ? Math.min(left, period) : room - (room % period);
}

/** Fills the first bytes of `target` with a pattern of `period` bytes that begins at `from` in `source`. */
export function repeatPattern(target: Uint8Array, bytes: number, source: Uint8Array, from: number, period: number): void {
  for (let i = 0; i < period; i++) target[i] = source[from + i];
  for (let filled = period; filled < bytes; filled *= 2) target.copyWithin(filled, 0, Math.min(filled, bytes - filled));
}
