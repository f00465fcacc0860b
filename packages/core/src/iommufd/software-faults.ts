/**
 * Faults that the driver of a software mdev raises itself, for no IOMMU sees its accesses. They go to a fault queue that user space ties to
 * the access, as page requests of hardware do: each is a group of one request, and waits for its answer.
 */
import type { PageFaultResponse } from "../driver/types.js";
import type { FaultQueue, FaultSource } from "./fault-queue.js";

/** Numbers of page request groups, as PCI has them. */
const GROUPS = 512;

export type FaultAnswer = (code: PageFaultResponse["code"]) => void;

export class SoftwareFaults implements FaultSource {
  readonly id: number;
  #queue: FaultQueue | undefined;
  readonly #waiting = new Map<number, FaultAnswer>();
  #next = 0;

  /** @param id of the access */
  constructor(id: number) {
    this.id = id;
  }

  /** From now on faults go to `queue`, or nowhere; those that wait in the old one have failed. */
  tie(queue: FaultQueue | undefined): void {
    const old = this.#queue;
    if (old === queue) return;
    if (queue) queue.users++;
    this.#queue = queue;
    if (old === undefined) return;
    old.drop(this, 0);
    old.users--;
  }

  /** @returns false when nobody takes it: `answered` is not called then */
  raise(address: bigint, permissions: number, answered: FaultAnswer): boolean {
    const queue = this.#queue;
    if (queue === undefined || this.#waiting.size === GROUPS) return false;
    while (this.#waiting.has(this.#next)) this.#next = (this.#next + 1) % GROUPS;
    const group = this.#next;
    this.#next = (group + 1) % GROUPS;
    const taken = queue.deliver(this, 0, [{ pasid: undefined, address, permissions, group, last: true }], this.id);
    if (taken) this.#waiting.set(group, answered);
    return taken;
  }

  respond({ group, code }: PageFaultResponse): void {
    const answered = this.#waiting.get(group);
    this.#waiting.delete(group);
    answered?.(code);
  }

  /** The attachment has ended: whatever waits has failed. */
  fail(): void {
    this.#queue?.drop(this, 0);
  }

  /** The driver has given up what it asked for. */
  withdraw(): void {
    this.#waiting.clear();
    this.fail();
  }
}
