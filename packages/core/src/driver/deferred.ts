/** Interrupts of the unit wait while the driver hands it commands, as behind a lock that keeps interrupts off: they use the same queue. */
export class Deferred {
  #busy = false;
  readonly #waiting = new Set<() => void>();

  /** Runs `body`, then the handlers that had to wait. Inside itself it only runs `body`. */
  run(body: () => void): void {
    if (this.#busy) {
      body();
      return;
    }
    this.#busy = true;
    try {
      body();
    } finally {
      this.#busy = false;
      for (const handler of this.#waiting) {
        this.#waiting.delete(handler);
        handler();
      }
    }
  }

  /** An interrupt: its handler runs now, or as soon as it may; once, however often it comes meanwhile. */
  interrupt(handler: () => void): void {
    if (this.#busy) this.#waiting.add(handler);
    else handler();
  }
}
