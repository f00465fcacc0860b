/** Pages of one mapping that are held in parts: runs of neighbours with the same number of holders. */
import type { FrameIdentity, PinnedMemory } from "../files/types.js";

const PAGE = 4096;

/** Neighbouring pages with the same holders. */
interface Run {
  first: number;
  last: number;
  holders: number;
  /** Where this run lies in its pin. */
  readonly pin: PinnedMemory;
  offset: number;
}

export class Runs {
  /** Ascending. */
  #runs: Run[] = [];

  /** Pages [0, last], held as a whole so far. */
  static of(pin: PinnedMemory | undefined, last: number, holders: number): Runs {
    const runs = new Runs();
    if (pin) runs.#runs.push({ first: 0, last, holders, pin, offset: 0 });
    return runs;
  }

  /** Pages that are held. */
  get pages(): number {
    return this.#runs.reduce((sum, run) => sum + run.last - run.first + 1, 0);
  }

  /**
   * One holder more for pages [first, last]. What nobody holds yet is pinned by `pin`, and charged at once by `charge`; when either refuses,
   * nothing has changed.
   */
  hold(first: number, last: number, pin: (first: number, last: number) => PinnedMemory, charge: (pages: number) => void): void {
    this.#cut(first);
    this.#cut(last + 1);
    const fresh: Run[] = [];
    try {
      for (const gap of this.gaps(first, last)) fresh.push({ ...gap, holders: 0, pin: pin(gap.first, gap.last), offset: 0 });
      charge(fresh.reduce((sum, run) => sum + run.last - run.first + 1, 0));
    } catch (error) {
      for (const run of fresh) run.pin.release(0, run.last - run.first + 1);
      throw error;
    }
    this.#runs = [...this.#runs, ...fresh].sort((a, b) => a.first - b.first);
    for (const run of this.#runs) if (run.first >= first && run.last <= last) run.holders++;
  }

  /** One holder less for pages [first, last]; returns how many pages were let go of. */
  drop(first: number, last: number): number {
    this.#cut(first);
    this.#cut(last + 1);
    let released = 0;
    this.#runs = this.#runs.filter((run) => {
      if (run.first < first || run.last > last || --run.holders > 0) return true;
      const count = run.last - run.first + 1;
      run.pin.release(run.offset, count);
      released += count;
      return false;
    });
    return released;
  }

  /** Pages of [first, last] that nobody holds. */
  *gaps(first: number, last: number): Generator<{ first: number; last: number }> {
    let next = first;
    for (const run of this.#runs) {
      if (run.last < next || run.first > last) continue;
      if (run.first > next) yield { first: next, last: run.first - 1 };
      next = run.last + 1;
    }
    if (next <= last) yield { first: next, last };
  }

  /** Makes a run begin at `page` if one lies across it. */
  #cut(page: number): void {
    const at = this.#runs.findIndex((run) => run.first < page && page <= run.last);
    if (at === -1) return;
    const run = this.#runs[at];
    this.#runs.splice(at + 1, 0, { ...run, first: page, offset: run.offset + page - run.first });
    run.last = page - 1;
  }

  /** The pin around `page`, and the byte of it where that page begins; with how many bytes follow in one piece. */
  at(page: number): { pin: PinnedMemory; offset: number; length: number } | undefined {
    const run = this.#runs.find((candidate) => candidate.first <= page && page <= candidate.last);
    return run && { pin: run.pin, offset: (run.offset + page - run.first) * PAGE, length: (run.last - page + 1) * PAGE };
  }

  frame(page: number): FrameIdentity | undefined {
    const place = this.at(page);
    return place?.pin.frame?.(place.offset / PAGE);
  }
}
