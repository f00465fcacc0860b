/** What an operation is to an engine. */
import type { PageMover } from "../page-mover.js";
import type { Work } from "../work.js";

/** How a step ended. */
export const Step = {
  /** There is more to do. */
  MORE: 0,
  /** The operation has ended, with the status that the work has. */
  END: 1,
  /** An access failed: nothing of the step counts, and it is to be made again when the page is there. */
  STOPPED: 2,
} as const;

export interface Operation {
  /** Sets the work's progress to its beginning. */
  begin?(work: Work): void;
  /** Does up to a page or two. */
  step(work: Work, mover: PageMover): number;
  /** Puts results into the completion record, also after a fault. */
  report?(work: Work): void;
  /** After a fault software begins anew: the record says that nothing was done. */
  readonly restarts?: boolean;
}

/** Marks `bytes` more of the source as done with. */
export function advance(work: Work, bytes: number): number {
  work.done += bytes;
  return work.done >= work.size ? Step.END : Step.MORE;
}
