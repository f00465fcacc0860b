/**
 * Invalidation of the devices' own translation caches (VT-d 6.5.2.5, 6.5.2.6, 6.5.2.9; PCIe 6.0, 10.3): requests go out under one of
 * 32 tags, completions free them. Simulated time is counted in register reads: a request that is not completed within `timeout` of them has
 * timed out, as software that polls would find.
 */
import type { AtsEndpoint, AtsInvalidation } from "@iommukit/core";

const TAGS = 32;
/** Completions that a completion count of 0 stands for (PCIe 10.3.2). */
const COUNT_OF_ZERO = 8;

interface Outstanding {
  readonly rid: number;
  /** Whose requests are counted together. */
  readonly throttle: number;
  /** Register reads when it was sent, and its place among all that were. */
  readonly sent: number;
  readonly order: number;
  received: number;
}

export class DeviceTlbs {
  readonly #endpoints = new Map<number, AtsEndpoint>();
  readonly #tags: (Outstanding | undefined)[] = Array.from({ length: TAGS }, () => undefined);
  readonly #timeout: number;
  #clock = 0;
  #order = 0;
  /** Bit n: tag n is outstanding. */
  pending = 0;

  constructor(timeout: number) {
    this.#timeout = timeout;
  }

  connect(rid: number, endpoint: AtsEndpoint): void {
    this.#endpoints.set(rid, endpoint);
  }

  endpoint(rid: number): AtsEndpoint | undefined {
    return this.#endpoints.get(rid);
  }

  /**
   * Sends an invalidation request.
   * @param throttle the physical function, where virtual ones share its queue (PFSID), else the device
   * @param most requests that it takes at a time (MIP)
   * @returns false while no tag is free, or `throttle` has `most` of them
   */
  invalidate(rid: number, throttle: number, most: number, request: Omit<AtsInvalidation, "tag">): boolean {
    const tag = this.#tags.indexOf(undefined);
    if (tag === -1 || this.#tags.filter((entry) => entry?.throttle === throttle).length >= most) return false;
    this.#tags[tag] = { rid, throttle, sent: this.#clock, order: this.#order++, received: 0 };
    this.pending |= 1 << tag;
    this.#endpoints.get(rid)?.invalidate({ ...request, tag });
    return true;
  }

  /** A completion arrives. False when it names a tag that is not the device's: the others of the vector are completed all the same. */
  complete(rid: number, tags: number, count: number): boolean {
    let good = true;
    for (let tag = 0; tag < TAGS; tag++) {
      if ((tags & (1 << tag)) === 0) continue;
      const entry = this.#tags[tag];
      if (entry?.rid !== rid) good = false;
      else if (++entry.received >= (count === 0 ? COUNT_OF_ZERO : count)) this.#free(tag);
    }
    return good;
  }

  #free(tag: number): void {
    this.#tags[tag] = undefined;
    this.pending &= ~(1 << tag);
  }

  /** A register was read while requests are out. @returns true when one of them has waited too long */
  tick(): boolean {
    this.#clock++;
    return this.#tags.some((entry) => entry !== undefined && this.#isOverdue(entry));
  }

  #isOverdue({ sent }: Outstanding): boolean {
    return this.#clock - sent >= this.#timeout;
  }

  /** Gives up the requests that have waited too long, or every one, and returns the device that the oldest of them went to. */
  giveUp(every: boolean): number {
    let oldest: Outstanding | undefined;
    for (const [tag, entry] of this.#tags.entries()) {
      if (entry === undefined || !(every || this.#isOverdue(entry))) continue;
      if (oldest === undefined || entry.order < oldest.order) oldest = entry;
      this.#free(tag);
    }
    return oldest?.rid ?? 0;
  }
}

/**
 * The range of a device-TLB descriptor (6.5.2.5): one page, or as many as the lowest 0 bit of the address says. All ones below bit 63 mean
 * everything.
 * @param page ADDR[63:12]
 */
export function invalidationRange(page: number, sized: boolean): { readonly page: number; readonly shift: number } {
  if (!sized) return { page, shift: 12 };
  let shift = 13;
  for (let rest = page; rest % 2 === 1 && shift < 64; rest = (rest - 1) / 2) shift++;
  const pages = 2 ** (shift - 12);
  return { page: Math.floor(page / pages) * pages, shift };
}
