/** The hardware that all channels of a parent share: one descriptor of each that has work, in turn. */

/** @returns whether it did something and may have more to do */
export type Step = () => boolean;

export class CopyEngine {
  readonly #channels = new Set<Step>();
  #running = false;

  add(step: Step): void {
    this.#channels.add(step);
  }

  remove(step: Step): void {
    this.#channels.delete(step);
  }

  /** Until no channel has work, or each that has some waits for a page. */
  run(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      for (let busy = true; busy; ) {
        busy = false;
        for (const step of [...this.#channels]) if (step()) busy = true;
      }
    } finally {
      this.#running = false;
    }
  }
}
