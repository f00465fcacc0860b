/** Who waits until earlier descriptors have ended. */

interface Drain {
  /** Descriptors submitted up to here count. */
  readonly upTo: number;
  readonly counts: (queue: number, pasid: number) => boolean;
  left: number;
  readonly done: () => void;
}

export class Drains {
  readonly #waiting = new Set<Drain>();

  /** @param left how many there are now */
  add(upTo: number, left: number, counts: (queue: number, pasid: number) => boolean, done: () => void): void {
    if (left === 0) return done();
    this.#waiting.add({ upTo, counts, left, done });
  }

  /** A descriptor has ended, or was dropped. */
  ended(sequence: number, queue: number, pasid: number): void {
    for (const drain of this.#waiting) {
      if (sequence > drain.upTo || !drain.counts(queue, pasid) || --drain.left > 0) continue;
      this.#waiting.delete(drain);
      drain.done();
    }
  }
}
