/** Areas that accesses have pinned: few of many, so they are counted beside the tree. */
import type { Area } from "./area.js";

export interface PinCount {
  /** Pins of accesses that touch the area. */
  readonly pins: number;
  /** Those that UNMAP may not break: hardware queues. */
  readonly locks: number;
}

const NONE: PinCount = { pins: 0, locks: 0 };

export class AreaPins {
  readonly #counts = new Map<bigint, PinCount>();
  /** Starts of areas that are being unmapped, or could not be: nobody pins them any more. */
  readonly #closing = new Set<bigint>();

  of(area: Area): PinCount {
    return this.#counts.get(area.start) ?? NONE;
  }

  /** @param by 1 or -1 */
  add(area: Area, by: number, locks: boolean): void {
    const old = this.of(area);
    const next = { pins: old.pins + by, locks: old.locks + (locks ? by : 0) };
    if (next.pins === 0) this.#counts.delete(area.start);
    else this.#counts.set(area.start, next);
  }

  close(area: Area): void {
    this.#closing.add(area.start);
  }

  isClosing(area: Area): boolean {
    return this.#closing.has(area.start);
  }

  /** The area is gone. */
  forget(area: Area): void {
    this.#closing.delete(area.start);
  }
}
