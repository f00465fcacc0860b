/**
 * Merging of event records (SMMU 7.3.1): what says the same as the newest record in the queue is not written again. How close in time two
 * events have to be is left open; here they are as long as software has neither consumed the first nor seen a CMD_SYNC complete since.
 */
import { MERGE_IN_PAGE } from "../spec/events.js";

const TYPE = 0xff;
/** Word of InputAddr[31:0]. */
const INPUT = 4;
const OFFSET = 0xfff;

export class EventMerge {
  #newest: Uint32Array | undefined;

  /** A record was written. @param mayMerge no transaction waits for an answer to it, and its stream lets its events be merged */
  wrote(words: Uint32Array, mayMerge: boolean): void {
    this.#newest = mayMerge ? words.slice() : undefined;
  }

  /** What comes is not close to what there is any more. */
  forget(): void {
    this.#newest = undefined;
  }

  isSame(words: Uint32Array): boolean {
    const newest = this.#newest;
    if (newest === undefined) return false;
    const open = MERGE_IN_PAGE.includes(words[0] & TYPE) ? OFFSET : 0;
    return words.every((word, i) => ((word ^ newest[i]) & ~(i === INPUT ? open : 0)) === 0);
  }
}
