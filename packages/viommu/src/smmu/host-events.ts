/** What the host's hardware records of a guest's devices, on its way into the guest's event queue. */
import { IommuError } from "@iommukit/core";
import { HostFaults } from "../host/host-faults.js";
import type { GuestUnit } from "./guest-unit.js";
import type { HostDevice, HostObjects } from "./host-objects.js";

const HEADER_BYTES = 8;
const RECORD_BYTES = 32;
const LOST_EVENTS = 1;
/** Sequence numbers come round at 2^31 (iommufd facts 6.2). */
const SEQUENCES = 2 ** 31;
const MAX_DEPTH = 2 ** 19;
/** Records that are taken at once; there is more to do when the descriptor stays readable. */
const BUDGET = 4096;

export class HostEvents {
  readonly #objects: HostObjects;
  readonly #unit: GuestUnit;
  /** The queue of events, once the guest has one. */
  #queue: number | undefined;
  #next = 0;
  /** What no event queue of the host takes. */
  readonly #faults: HostFaults;

  constructor(objects: HostObjects, devices: readonly HostDevice[], unit: GuestUnit) {
    this.#objects = objects;
    this.#unit = unit;
    this.#faults = new HostFaults(objects.program, unit, new Map(devices.map((device) => [objects.faults(device), device.stream])), () => unit.report(undefined));
  }

  get descriptors(): readonly number[] {
    return [...(this.#queue === undefined ? [] : [this.#queue]), ...this.#faults.pollable];
  }

  /** The guest has turned its queue on. A host that refuses leaves the guest without events: it is none of the guest's mistakes. */
  start(entries: number): void {
    if (this.#queue !== undefined) return;
    try {
      this.#queue = this.#objects.events(Math.min(entries, MAX_DEPTH));
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
    }
  }

  service(): void {
    if (this.#queue !== undefined) this.#takeEvents(this.#queue);
    this.#faults.service();
  }

  #takeEvents(fd: number): void {
    const bytes = this.#objects.program.read(fd, BUDGET * (HEADER_BYTES + RECORD_BYTES));
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at < bytes.length; ) {
      const lost = (view.getUint32(at, true) & LOST_EVENTS) !== 0;
      const sequence = view.getUint32(at + 4, true);
      if (lost || sequence !== this.#next) this.#unit.report(undefined);
      this.#next = (sequence + 1) % SEQUENCES;
      at += HEADER_BYTES;
      if (lost) continue;
      this.#unit.report(Array.from({ length: RECORD_BYTES / 4 }, (_, i) => view.getUint32(at + 4 * i, true)));
      at += RECORD_BYTES;
    }
  }
}
