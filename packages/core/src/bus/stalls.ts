/**
 * Requests that wait. An IOMMU may hold back a request that faults until software has seen to it, instead of refusing it (SMMU 3.12): the
 * bus then makes it again, or ends it. Only devices that ask for such a port have their requests held back.
 */
import type { DmaOptions } from "./types.js";

/** How a stall ends: the request is made again, is refused, or reads zeros and writes nothing. */
export const StallEnd = { RETRY: 0, ABORT: 1, ZERO: 2 } as const;

/** What an IOMMU that stalls requests offers. */
export interface StallHardware {
  /** Requests of this requester may stall from now on. Who `ended` is told how: it may be called before `translate` returns. */
  connect(rid: number, ended: (stall: number, end: number) => void): void;
  /** Of the last `translate` that gave -1: the number of the stall that it began, or -1 when it was refused. */
  readonly last: number;
}

/** A device's port for requests that may wait. */
export interface WaitingPort {
  /**
   * Accesses bytes of one 4 KiB page. `done` is called once: before this returns, unless the request waits.
   * @returns gives the request up: `done` is not called any more
   */
  access(direction: "read" | "write", address: bigint, bytes: Uint8Array, options: DmaOptions, done: (ok: boolean) => void): () => void;
}

/** What became of an access to one page. */
export const PageAccess = { MOVED: 0, BLOCKED: 1, NOWHERE: 2 } as const;

/** A request that software lets go on at once and that faults again, this often in a row, is refused: nobody else would get a turn. */
const MOST_RETRIES = 16;

/** What waits of one requester. */
export class WaitingRequests {
  readonly #stalls: StallHardware;
  readonly #waiting = new Map<number, (end: number) => void>();
  /** Stalls that ended before `translate` returned. */
  readonly #early = new Map<number, number>();
  /** Requests that are being made, one inside the other. */
  #depth = 0;

  constructor(stalls: StallHardware, rid: number) {
    this.#stalls = stalls;
    stalls.connect(rid, (stall, end) => this.#ended(stall, end));
  }

  /**
   * @param attempt makes the request: `PageAccess`
   * @param bytes of a read, which a stall may end as zeros
   */
  request(attempt: () => number, bytes: Uint8Array | undefined, done: (ok: boolean) => void): () => void {
    let given = false;
    const go = (): void => {
      for (let tries = 0; tries < MOST_RETRIES; tries++) {
        const [outcome, stall] = this.#make(attempt);
        if (stall === -1) return done(outcome === PageAccess.MOVED);
        const end = this.#early.get(stall);
        if (end === undefined) {
          this.#waiting.set(stall, finish);
          return;
        }
        this.#early.delete(stall);
        if (end !== StallEnd.RETRY) return finish(end);
      }
      done(false);
    };
    const finish = (end: number): void => {
      if (given) return;
      if (end === StallEnd.RETRY) return go();
      if (end === StallEnd.ZERO) bytes?.fill(0);
      done(end === StallEnd.ZERO);
    };
    go();
    return () => (given = true);
  }

  #make(attempt: () => number): readonly [outcome: number, stall: number] {
    // What is left of requests whose device does not wait.
    if (this.#depth === 0) this.#early.clear();
    this.#depth++;
    try {
      const outcome = attempt();
      return [outcome, outcome === PageAccess.BLOCKED ? this.#stalls.last : -1];
    } finally {
      this.#depth--;
    }
  }

  #ended(stall: number, end: number): void {
    const finish = this.#waiting.get(stall);
    this.#waiting.delete(stall);
    if (finish) finish(end);
    else if (this.#depth > 0) this.#early.set(stall, end);
  }
}
