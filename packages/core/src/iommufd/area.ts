/** A mapped range of an IOAS, and how it gets into a domain. */
import type { PagingDomain } from "../driver/types.js";
import { IommuError } from "../errors.js";
import type { Interval } from "./interval.js";
import type { Pages } from "./pages.js";

const PAGE = 4096;

export interface Area extends Interval {
  readonly pages: Pages;
  /** First byte, counted from the first byte of `pages`. */
  readonly offset: bigint;
  readonly prot: number;
  /** Pins of accesses that touch it. */
  pins: number;
  /** Pins that UNMAP may not break: hardware queues. */
  locks: number;
  /** Domains that hold no mapping of it, because its dma-buf was revoked when it was to be filled or after. */
  readonly emptied: Set<PagingDomain>;
}

export function newArea(range: Interval, pages: Pages, offset: bigint, prot: number): Area {
  return { start: range.start, last: range.last, pages, offset, prot, pins: 0, locks: 0, emptied: new Set() };
}

export function lengthOf(range: Interval): bigint {
  return range.last - range.start + 1n;
}

/** First and last page of `pages` that the part [start, last] of the area needs; the whole area unless given. */
export function areaPages(area: Area, start: bigint = area.start, last: bigint = area.last): [first: number, last: number] {
  const origin = BigInt(area.pages.start) + area.offset - area.start;
  return [Number((origin + start) / BigInt(PAGE)), Number((origin + last) / BigInt(PAGE))];
}

/**
 * Pins an area for a domain and maps it; without large pages, page by page.
 * @throws IommuError EFAULT, ENOMEM, and what the driver refuses; nothing is left then
 */
export function fill(domain: PagingDomain, area: Area, hugePages: boolean): void {
  const { pages } = area;
  if (pages.source.kind === "dmabuf" && pages.source.buffer.revoked) {
    area.emptied.add(domain);
    return;
  }
  const held = areaPages(area);
  pages.hold(...held);
  let done = 0;
  const length = Number(lengthOf(area));
  try {
    const pa = pages.open(area.offset);
    try {
      for (const piece of pieces(pa, length, hugePages)) {
        domain.map(area.start + BigInt(done), pa + done, piece, area.prot);
        done += piece;
      }
    } catch (error) {
      if (done > 0) domain.unmap(area.start, done);
      pages.close();
      throw error;
    }
  } catch (error) {
    pages.drop(...held);
    if (error instanceof IommuError) throw new IommuError(error.errno, { ...error.reason, message: `${error.reason.message} (IOVA 0x${area.start.toString(16)})` });
    throw error;
  }
}

function* pieces(pa: number, length: number, hugePages: boolean): Generator<number> {
  if (hugePages) yield length;
  else for (let done = 0; done < length; ) {
    const piece = Math.min(PAGE - ((pa + done) % PAGE), length - done);
    yield piece;
    done += piece;
  }
}

/** Takes an area out of a domain and lets go of its pages. */
export function unfill(domain: PagingDomain, area: Area): void {
  if (area.emptied.delete(domain)) return;
  domain.unmap(area.start, Number(lengthOf(area)));
  area.pages.close();
  area.pages.drop(...areaPages(area));
}

/** A dma-buf was revoked: the area stays, empty. */
export function empty(domain: PagingDomain, area: Area): void {
  if (area.emptied.has(domain)) return;
  unfill(domain, area);
  area.emptied.add(domain);
}
