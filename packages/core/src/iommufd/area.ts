/** A mapped range of an IOAS, and how it gets into a domain. */
import type { PagingDomain } from "../driver/types.js";
import { IommuError } from "../errors.js";
import type { Interval } from "../memory/interval.js";
import type { Entry } from "../memory/interval-tree.js";
import type { Pages } from "./pages.js";

const PAGE = 4096;

/** What an area shows. */
export interface AreaView {
  readonly pages: Pages;
  /** First byte, counted from the first byte of `pages`. */
  readonly offset: bigint;
  readonly prot: number;
}

/** A range of IOVAs with what it shows: an entry of its IOAS's tree. */
export type Area = Entry<AreaView>;

export function newArea(range: Interval, pages: Pages, offset: bigint, prot: number): Area {
  const value = offset === 0n && prot === pages.prot ? pages : { pages, offset, prot };
  return { start: range.start, last: range.last, value };
}

export function lengthOf(range: Interval): bigint {
  return range.last - range.start + 1n;
}

/** Byte of the first page of the area's memory where the area begins. */
export function firstByte(area: Area): bigint {
  return BigInt(area.value.pages.start) + area.value.offset;
}

/** First and last page of `pages` that the part [start, last] of the area needs; the whole area unless given. */
export function areaPages(area: Area, start: bigint = area.start, last: bigint = area.last): [first: number, last: number] {
  const origin = firstByte(area) - area.start;
  return [Number((origin + start) / BigInt(PAGE)), Number((origin + last) / BigInt(PAGE))];
}

/** Who mirrors areas. */
export interface AreaMirror {
  readonly domain: PagingDomain;
  /** Starts of areas that it holds no mapping of, because their dma-buf was revoked when they were to be filled or after. */
  readonly emptied: Set<bigint>;
}

/**
 * Pins an area for a domain and maps it; without large pages, page by page.
 * @throws IommuError EFAULT, ENOMEM, and what the driver refuses; nothing is left then
 */
export function fill({ domain, emptied }: AreaMirror, area: Area, hugePages: boolean): void {
  const { pages, offset, prot } = area.value;
  if (pages.source.kind === "dmabuf" && pages.source.buffer.revoked) {
    emptied.add(area.start);
    return;
  }
  const [first, last] = areaPages(area);
  pages.hold(first, last);
  let done = 0;
  const length = Number(lengthOf(area));
  try {
    checkWhole(domain, area, length);
    const pa = pages.open(offset);
    try {
      for (const piece of pieces(pa, length, hugePages)) {
        domain.map(area.start + BigInt(done), pa + done, piece, prot);
        done += piece;
      }
    } catch (error) {
      if (done > 0) domain.unmap(area.start, done);
      pages.close();
      throw error;
    }
  } catch (error) {
    pages.drop(first, last);
    if (error instanceof IommuError) throw new IommuError(error.errno, { ...error.reason, message: `${error.reason.message} (IOVA 0x${area.start.toString(16)})` });
    throw error;
  }
}

/** A piece of a copy may be less than the domain's pages. @throws IommuError EINVAL */
function checkWhole({ pageSizes }: PagingDomain, { start }: Area, length: number): void {
  const rest = Number(BigInt.asUintN(12, start)) | length % PAGE;
  if (rest === 0) return;
  const page = Number(pageSizes & -pageSizes);
  if (rest % page !== 0) throw new IommuError("EINVAL", { message: `length ${length} is not made of whole pages of ${page} bytes`, argument: "length", rule: "iommu_map" });
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
export function unfill({ domain, emptied }: AreaMirror, area: Area): void {
  if (emptied.delete(area.start)) return;
  domain.unmap(area.start, Number(lengthOf(area)));
  area.value.pages.close();
  area.value.pages.drop(...areaPages(area));
}

/** A dma-buf was revoked: the area stays, empty. */
export function empty(mirror: AreaMirror, area: Area): void {
  if (mirror.emptied.has(area.start)) return;
  unfill(mirror, area);
  mirror.emptied.add(area.start);
}
