/** Batches in progress: lists of descriptors in memory (341204, 3.8). */
import type { PageMover } from "./page-mover.js";
import { Status } from "./spec/completion.js";
import { DESCRIPTOR_BYTES, Flag } from "./spec/descriptor.js";
import { Stage, type Work } from "./work.js";

/** Descriptors of one batch that an engine has begun and not ended. */
const BATCH_WIDTH = 16;

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

/** What batches ask of their engine. */
export interface BatchHost {
  readonly mover: PageMover;
  take(): Work;
  giveBack(work: Work): void;
  /** The last access failed for want of a page that may be asked for. */
  mayAsk(work: Work): boolean;
  ask(work: Work, then: () => void): void;
  /** Gives a work the status of its last access's failure: `pageFault`, if it is one. */
  faulted(work: Work, pageFault: number): void;
  refused(work: Work, status: number): void;
}

export class Batches {
  readonly #host: BatchHost;
  readonly #list: Batch[] = [];
  /** The descriptor at hand. */
  readonly #entry = new Uint8Array(DESCRIPTOR_BYTES);

  constructor(host: BatchHost) {
    this.#host = host;
  }

  begin(work: Work): void {
    this.#list.push(new Batch(work));
  }

  forgetDiscarded(): void {
    const kept = this.#list.filter(({ work }) => !work.discarded);
    this.#list.splice(0, Infinity, ...kept);
  }

  /** The next descriptor of a batch; or a batch itself, to be ended. */
  next(): Work | undefined {
    for (const batch of this.#list) {
      const work = this.#nextOf(batch);
      if (work) return work;
    }
    return undefined;
  }

  #nextOf(batch: Batch): Work | undefined {
    if (batch.waiting) return undefined;
    if (batch.over) {
      this.#list.splice(this.#list.indexOf(batch), 1);
      return ended(batch);
    }
    if (batch.fetched || batch.open >= BATCH_WIDTH) return undefined;
    const { mover, take, giveBack } = this.#host;
    const { work } = batch;
    const { use } = work;
    const read = mover.read(work, work.source, batch.next * DESCRIPTOR_BYTES, this.#entry);
    // Whoever heard of a fault on the way may have aborted the batch.
    if (work.use !== use) return undefined;
    if (!read) {
      this.#listStopped(batch);
      return batch.waiting || work.use !== use ? undefined : this.#nextOf(batch);
    }
    work.asked = 0;
    const member = take();
    member.bytes.set(this.#entry);
    member.beginInBatch(batch, batch.next);
    if (member.has(Flag.FENCE) && batch.open > 0) {
      giveBack(member);
      return undefined;
    }
    // A descriptor behind a fence counts on those before it: it is not begun when one has failed.
    if (member.has(Flag.FENCE) && batch.failed) {
      giveBack(member);
      batch.stopped = true;
      return this.#nextOf(batch);
    }
    batch.next++;
    batch.open++;
    return member;
  }

  /** The list cannot be read: it waits for the page, or the batch ends where it is. */
  #listStopped(batch: Batch): void {
    const { work } = batch;
    if (!this.#host.mayAsk(work)) {
      batch.stopped = true;
      return this.#host.faulted(work, Status.BATCH_PAGE_FAULT);
    }
    batch.waiting = true;
    this.#host.ask(work, () => {
      batch.waiting = false;
      if (!work.refused) return;
      batch.stopped = true;
      this.#host.refused(work, Status.BATCH_PAGE_FAULT);
    });
  }
}

function ended(batch: Batch): Work {
  const { work } = batch;
  work.completed = batch.next;
  if (work.status === Status.SUCCESS && (batch.failed || batch.stopped)) work.status = Status.BATCH_FAILED;
  work.stage = Stage.RECORD;
  return work;
}
