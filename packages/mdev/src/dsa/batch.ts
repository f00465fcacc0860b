/** A batch in progress: a list of descriptors in memory (341204, 3.8). */
import type { Work } from "./work.js";

/** Descriptors of one batch that an engine has begun and not ended. */
export const BATCH_WIDTH = 16;

export class Batch {
  /** The batch descriptor. */
  readonly work: Work;
  /** Descriptors in the list. */
  readonly count: number;
  /** Index of the next to fetch. */
  next = 0;
  /** Begun and not ended. */
  open = 0;
  failed = false;
  /** No more are fetched. */
  stopped = false;
  /** The list's page is not there yet. */
  waiting = false;
  /** A record of one of them went to the event log: whose identifier this is. -1: none did. */
  identifier = -1;

  constructor(work: Work) {
    this.work = work;
    this.count = work.size;
  }

  get fetched(): boolean {
    return this.stopped || this.next === this.count;
  }

  /** All that was begun has ended, and no more is fetched. */
  get over(): boolean {
    return this.fetched && this.open === 0;
  }
}
