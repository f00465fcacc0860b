/** A guest's invalidations on their way to the host: handed on together, and one by one where the host refuses. */
import { IommuError } from "@iommukit/core";
import { CommandError, type CommandRefusal } from "@iommukit/hw-smmu/spec";
import { type HostObjects, MAX_BATCH, type Words } from "./host-objects.js";

export class Invalidations {
  readonly #objects: HostObjects;
  readonly #tell: (error: unknown, what: string) => void;
  /** What the host has yet to be told, with the number of each among all commands of the guest's queue. */
  #waiting: { readonly words: Words; readonly number: number }[] = [];
  /** Number of the next command. */
  #next = 0;

  /** @param tell told of each command that the host refuses; throws what is no refusal */
  constructor(objects: HostObjects, tell: (error: unknown, what: string) => void) {
    this.#objects = objects;
    this.#tell = tell;
  }

  /** A command of the guest's queue, whatever it says. @returns its number */
  count(): number {
    return this.#next++;
  }

  add(words: Words, number: number): CommandRefusal | undefined {
    this.#waiting.push({ words, number });
    return this.#waiting.length >= MAX_BATCH ? this.flush(number) : undefined;
  }

  /**
   * Hands on what waits. Of commands that are refused together the host does not say reliably which were done (Linux issues them in blocks, and
   * counts what it looked at): so each is then sent alone, up to the one that it refuses.
   * @param now number of the command at hand
   */
  flush(now: number = this.#next): CommandRefusal | undefined {
    const waiting = this.#waiting;
    if (waiting.length === 0) return undefined;
    this.#waiting = [];
    try {
      this.#objects.invalidate(waiting.map(({ words }) => words));
      return undefined;
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
    }
    for (const { words, number } of waiting) {
      try {
        this.#objects.invalidate([words]);
      } catch (error) {
        this.#tell(error, `command 0x${(words[0] & 0xffn).toString(16)}`);
        // It, and what follows it, will come again.
        this.#next = number;
        return { error: CommandError.ILL, back: now - number };
      }
    }
    return undefined;
  }
}
