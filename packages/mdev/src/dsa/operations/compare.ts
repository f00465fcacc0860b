/** Compare two places, or a place with a pattern (341204, 8.3). */
import { Status } from "../spec/completion.js";
import { Field, Flag } from "../spec/descriptor.js";
import type { Work } from "../work.js";
import { repeatPattern, wholePatterns } from "./memory.js";
import { advance, type Operation, Step } from "./types.js";

const DIFFERENT = 1;
const PATTERN = 8;

export const compare: Operation = {
  step(work, mover) {
    const { source, destination, done } = work;
    const bytes = Math.min(work.size - done, source.roomAt(done), destination.roomAt(done));
    if (!mover.read(work, source, done, mover.part(bytes)) || !mover.read(work, destination, done, mover.secondPart(bytes))) return Step.STOPPED;
    return compared(work, mover.first, mover.second, bytes);
  },
};

export const comparePattern: Operation = {
  step(work, mover) {
    const bytes = wholePatterns(work.size - work.done, work.source.roomAt(work.done), PATTERN);
    if (!mover.read(work, work.source, work.done, mover.part(bytes))) return Step.STOPPED;
    repeatPattern(mover.second, bytes, work.bytes, Field.DESTINATION, PATTERN);
    return compared(work, mover.first, mover.second, bytes);
  },
};

/** Bytes completed are those before the first that differs. */
function compared(work: Work, a: Buffer, b: Buffer, bytes: number): number {
  if (a.compare(b, 0, bytes, 0, bytes) !== 0) {
    let same = 0;
    while (a[same] === b[same]) same++;
    work.completed = work.done + same;
    work.result = DIFFERENT;
    check(work);
    return Step.END;
  }
  const step = advance(work, bytes);
  if (step === Step.END) check(work);
  return step;
}

function check(work: Work): void {
  if (work.has(Flag.CHECK_RESULT) && work.result !== (work.bytes[Field.EXPECTED] & DIFFERENT)) work.status = Status.FALSE_PREDICATE;
}
