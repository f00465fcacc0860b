/**
 * An I/O address space: areas, reserved ranges, the allowed list, and the
 * domains that mirror its areas (iommufd facts, section 3).
 */
import { Prot } from "../driver/types.js";
import { IommuError, refuse } from "../errors.js";
import { holes, type Interval, overlaps, SortedIntervals, U64_MAX } from "./interval.js";
import type { TableObject } from "./object-table.js";
import type { Pages } from "./pages.js";
import type { HwptPaging } from "./hwpt.js";

const PAGE = 4096n;
/** Automatic IOVAs are aligned to at most this: the huge page size. */
const HUGE = 0x20_0000n;

export interface Area extends Interval {
  readonly pages: Pages;
  readonly prot: number;
}

interface Reservation extends Interval {
  readonly owner: object;
  readonly why: string;
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const show = (range: Interval): string => `${hex(range.start)}-${hex(range.last)}`;

export class Ioas implements TableObject {
  readonly type = "IOAS";
  readonly id: number;
  users = 0;
  readonly areas: SortedIntervals<Area> = new SortedIntervals<Area>();
  /** In creation order. */
  readonly hwpts: Set<HwptPaging> = new Set<HwptPaging>();
  #reserved: Reservation[] = [];
  #allowed: readonly Interval[] = [];

  constructor(id: number) {
    this.id = id;
  }

  /** Largest of 1 and the smallest page of each domain (3.2). */
  get alignment(): bigint {
    let alignment = 1n;
    for (const { domain } of this.hwpts) {
      const page = domain.pageSizes & -domain.pageSizes;
      if (page > alignment) alignment = page;
    }
    return alignment;
  }

  /** What may be mapped: the complement of the reserved ranges. The allowed list plays no part (4.5). */
  usableRanges(): Interval[] {
    return holes(this.#reserved);
  }

  /** Replaces the allowed list. @throws IommuError EADDRINUSE, with the old list kept */
  allow(ranges: readonly Interval[]): void {
    for (const range of ranges) {
      const hit = this.#reserved.find((reserved) => overlaps(reserved, range));
      if (hit) refuse("EADDRINUSE", `${show(range)} meets ${show(hit)}, reserved for ${hit.why}`, { argument: "allowed_iovas" });
    }
    this.#allowed = ranges;
  }

  /** @throws IommuError EADDRINUSE when an area or the allowed list is in the way */
  reserve(range: Interval, owner: object, why: string): void {
    const area = this.areas.first(range);
    if (area) refuse("EADDRINUSE", `${show(range)} is needed for ${why}, but ${show(area)} of IOAS ${this.id} is mapped`);
    const allowed = this.#allowed.find((candidate) => overlaps(candidate, range));
    if (allowed) refuse("EADDRINUSE", `${show(range)} is needed for ${why}, but ${show(allowed)} is on the allowed list of IOAS ${this.id}`);
    this.#reserved.push({ ...range, owner, why });
  }

  unreserve(owner: object): void {
    this.#reserved = this.#reserved.filter((reservation) => reservation.owner !== owner);
  }

  /** Checks a range that the caller chose (4.6, step 8b). */
  checkFixed(iova: bigint, length: bigint): Interval {
    if (iova % this.alignment !== 0n) this.#misaligned("iova", iova);
    if (iova + length - 1n > U64_MAX) refuse("EOVERFLOW", `iova ${hex(iova)} + length ${hex(length)} wraps`, { argument: "iova" });
    const range = { start: iova, last: iova + length - 1n };
    const reserved = this.#reserved.find((candidate) => overlaps(candidate, range));
    if (reserved) refuse("EINVAL", `IOVA ${show(range)} meets ${show(reserved)}, reserved for ${reserved.why}`, { argument: "iova" });
    const area = this.areas.first(range);
    if (area) refuse("EEXIST", `IOVA ${show(range)} meets ${show(area)}, which is mapped in IOAS ${this.id}`, { argument: "iova" });
    return range;
  }

  checkLength(length: bigint): void {
    if (length % this.alignment !== 0n) this.#misaligned("length", length);
  }

  checkOffset(address: bigint, argument: string): void {
    if ((address % PAGE) % this.alignment !== 0n) this.#misaligned(argument, address);
  }

  #misaligned(argument: string, value: bigint): never {
    return refuse("EINVAL", `${argument} ${hex(value)} is not a multiple of the alignment ${hex(this.alignment)} of IOAS ${this.id}`, {
      argument,
      rule: "out_iova_alignment of IOMMU_IOAS_IOVA_RANGES",
    });
  }

  /** Automatic choice (3.5): the first hole, ascending, that fits at the alignment the address suggests. */
  chooseIova(address: bigint, length: bigint): Interval {
    if (length >= U64_MAX / 2n) refuse("EOVERFLOW", `length ${hex(length)} is too large for an automatic IOVA`, { argument: "length" });
    let want = 1n << BigInt((length - 1n).toString(2).length);
    if (length === 1n) want = 1n;
    if (address !== 0n && (address & -address) < want) want = address & -address;
    if (want > HUGE) want = HUGE;
    if (want < this.alignment) {
      refuse("EINVAL", `user_va ${hex(address)} and length ${hex(length)} allow alignment ${hex(want)}, IOAS ${this.id} needs ${hex(this.alignment)}`);
    }
    const whole = { start: PAGE, last: U64_MAX - PAGE };
    const allowed = this.#allowed.length === 0 ? [whole] : [...this.#allowed].sort((a, b) => (a.start < b.start ? -1 : 1));
    const gaps = holes([...this.#reserved, ...this.areas]);
    for (const range of allowed) {
      const clipped = clip(range, whole);
      if (clipped === undefined) continue;
      const start = fit(clipped, want, address, length);
      if (start === undefined) continue;
      for (const gap of gaps) {
        const candidate = clip(gap, { start, last: clipped.last });
        const iova = candidate && fit(candidate, want, address, length);
        if (iova !== undefined) return { start: iova, last: iova + length - 1n };
      }
    }
    return refuse("ENOSPC", `IOAS ${this.id} has no hole of ${hex(length)} bytes`, { argument: "length" });
  }

  /** Adds an area and maps it into every domain; all or nothing (4.6, step 10). */
  map(area: Area): void {
    const done: HwptPaging[] = [];
    try {
      for (const hwpt of this.hwpts) {
        mapInto(hwpt, area);
        done.push(hwpt);
      }
    } catch (error) {
      for (const hwpt of done) hwpt.domain.unmap(area.start, Number(lengthOf(area)));
      area.pages.unpin();
      throw error;
    }
    this.areas.add(area);
  }

  /** Removes an area: out of every domain and its caches first, then the memory goes. */
  unmapArea(area: Area): void {
    for (const { domain } of this.hwpts) domain.unmap(area.start, Number(lengthOf(area)));
    this.areas.remove(area);
    area.pages.unpin();
  }

  /** UNMAP (4.7): whole areas only, lowest first; what was unmapped before a refusal stays unmapped. */
  unmap(range: Interval): bigint {
    let bytes = 0n;
    for (let area = this.areas.first(range); area !== undefined; area = this.areas.first(range)) {
      if (area.start < range.start || area.last > range.last) {
        refuse("ENOENT", `${show(range)} cuts the mapping ${show(area)} of IOAS ${this.id}`, { argument: "iova", rule: "IOMMU_IOAS_UNMAP" });
      }
      this.unmapArea(area);
      bytes += lengthOf(area);
    }
    return bytes;
  }

  /** A new domain mirrors every area, and reserves what lies outside its aperture. */
  addHwpt(hwpt: HwptPaging): void {
    const { aperture, pageSizes } = hwpt.domain;
    const page = pageSizes & -pageSizes;
    if (page > PAGE) refuse("EINVAL", `the smallest page of the domain, ${hex(page)}, is larger than ${hex(PAGE)}`);
    for (const area of this.areas) {
      const misfit = [area.start, lengthOf(area), area.pages.address % PAGE].find((value) => value % page !== 0n);
      if (misfit !== undefined) {
        refuse("EADDRINUSE", `the mapping ${show(area)} of IOAS ${this.id} is not made of whole ${hex(page)} pages of the domain`);
      }
    }
    const filled: Area[] = [];
    try {
      if (aperture.start > 0n) this.reserve({ start: 0n, last: aperture.start - 1n }, hwpt, "addresses below the domain's aperture");
      if (aperture.last < U64_MAX) this.reserve({ start: aperture.last + 1n, last: U64_MAX }, hwpt, "addresses above the domain's aperture");
      for (const area of this.areas) {
        mapInto(hwpt, area);
        filled.push(area);
      }
    } catch (error) {
      this.unreserve(hwpt);
      for (const area of filled) hwpt.domain.unmap(area.start, Number(lengthOf(area)));
      if (this.hwpts.size === 0) for (const area of this.areas) area.pages.unpin();
      throw error;
    }
    this.hwpts.add(hwpt);
    this.users++;
  }

  removeHwpt(hwpt: HwptPaging): void {
    for (const area of this.areas) hwpt.domain.unmap(area.start, Number(lengthOf(area)));
    this.hwpts.delete(hwpt);
    this.unreserve(hwpt);
    this.users--;
    if (this.hwpts.size === 0) for (const area of this.areas) area.pages.unpin();
  }

  destroy(): void {
    for (const area of [...this.areas]) this.unmapArea(area);
  }
}

export function lengthOf(range: Interval): bigint {
  return range.last - range.start + 1n;
}

/** Pins if need be and maps. Without a domain before, a failed pin leaves nothing. */
function mapInto(hwpt: HwptPaging, area: Area): void {
  const pa = area.pages.pin();
  try {
    hwpt.domain.map(area.start, pa, Number(lengthOf(area)), area.prot);
  } catch (error) {
    if (error instanceof IommuError) throw new IommuError(error.errno, { ...error.reason, message: `${error.reason.message} (${show(area)})` });
    throw error;
  }
}

function clip(a: Interval, b: Interval): Interval | undefined {
  const start = a.start > b.start ? a.start : b.start;
  const last = a.last < b.last ? a.last : b.last;
  return start <= last ? { start, last } : undefined;
}

/** Lowest address of the range that suits, or undefined. The comparison is strict: a hole of one byte is not used (3.5). */
function fit(range: Interval, want: bigint, address: bigint, length: bigint): bigint | undefined {
  const iova = ((range.start + want - 1n) & ~(want - 1n)) | (address % PAGE);
  return iova < range.last && range.last - iova >= length - 1n ? iova : undefined;
}

/** Bits of IOMMU_IOAS_MAP's flags as protection. */
export function protOf(readable: boolean, writable: boolean): number {
  return (readable ? Prot.READ : 0) | (writable ? Prot.WRITE : 0);
}

