/**
 * An I/O address space: areas, reserved ranges, the allowed list, and the
 * domains and accesses that use it (iommufd facts, section 3).
 */
import { Prot } from "../driver/types.js";
import { refuse } from "../errors.js";
import { type Area, type AreaView, areaPages, empty, fill, firstByte, lengthOf, newArea, unfill } from "./area.js";
import { AreaPins } from "./area-pins.js";
import type { ChildIoas } from "./child-ioas.js";
import type { HwptPaging } from "./hwpt.js";
import { holes, type Interval, joined, overlaps, U64_MAX } from "../memory/interval.js";
import { IntervalTree } from "../memory/interval-tree.js";
import type { TableObject } from "./object-table.js";

const PAGE = 4096n;
/** Automatic IOVAs are aligned to at most this: the huge page size. */
const HUGE = 0x20_0000n;
/** Rounds of asking accesses to let go before UNMAP gives up. */
const UNMAP_ROUNDS = 100;

interface Reservation extends Interval {
  readonly owner: object;
  readonly why: string;
}

/** What an IOAS asks of an access that is attached to it. */
export interface IoasAccess {
  /** Smallest alignment that it can live with. */
  readonly alignment: bigint;
  /** Let go of pins in the range. */
  unmapping(range: Interval): void;
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const show = (range: Interval): string => `${hex(range.start)}-${hex(range.last)}`;

export class Ioas implements TableObject {
  readonly type = "IOAS";
  readonly id: number;
  users = 0;
  readonly areas: IntervalTree<AreaView> = new IntervalTree<AreaView>();
  /** What accesses have pinned. */
  readonly pins: AreaPins = new AreaPins();
  /** In creation order. */
  readonly hwpts: Set<HwptPaging> = new Set<HwptPaging>();
  readonly accesses: Set<IoasAccess> = new Set<IoasAccess>();
  /** Whose mappings are of this one's addresses. */
  readonly children: Set<ChildIoas> = new Set<ChildIoas>();
  /** False after HUGE_PAGES was set to 0: every page is mapped on its own. */
  hugePages = true;
  #reserved: Reservation[] = [];
  #allowed: readonly Interval[] = [];
  /** What areas that show dma-bufs do when theirs is revoked. */
  readonly #revocations = new Map<bigint, () => void>();
  /** Told when the IOAS is destroyed. */
  readonly #onDestroy: (ioas: Ioas) => void;

  constructor(id: number, onDestroy: (ioas: Ioas) => void = () => undefined) {
    this.id = id;
    this.#onDestroy = onDestroy;
  }

  /** Largest of 1, the smallest page of each domain, and what accesses need (3.2). */
  get alignment(): bigint {
    let alignment = this.hugePages ? 1n : PAGE;
    for (const { domain } of this.hwpts) alignment = max(alignment, smallestPage(domain.pageSizes));
    for (const access of this.accesses) alignment = max(alignment, access.alignment);
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
    const area = this.areas.first(range.start, range.last);
    if (area) refuse("EADDRINUSE", `${show(range)} is needed for ${why}, but ${show(area)} of IOAS ${this.id} is mapped`, { argument: "pt_id" });
    const allowed = this.#allowed.find((candidate) => overlaps(candidate, range));
    if (allowed) refuse("EADDRINUSE", `${show(range)} is needed for ${why}, but ${show(allowed)} is on the allowed list of IOAS ${this.id}`, { argument: "pt_id" });
    this.#reserved.push({ ...range, owner, why });
  }

  unreserve(owner: object): void {
    this.#reserved = this.#reserved.filter((reservation) => reservation.owner !== owner);
  }

  /** Memory can be mapped here. @param what is to be mapped @throws IommuError of one that does not take it */
  takesMemory(_what: string): void {
    // Of any kind.
  }

  // Alignment ----------------------------------------------------------------------------------------------------

  /** @throws IommuError EADDRINUSE when an area does not fit a larger alignment */
  #checkAreas(alignment: bigint, why: string): void {
    if (alignment <= this.alignment) return;
    for (const area of this.areas) {
      const misfit = [area.start, lengthOf(area), firstByte(area)].some((value) => value % alignment !== 0n);
      if (misfit) refuse("EADDRINUSE", `the mapping ${show(area)} of IOAS ${this.id} is not made of whole ${hex(alignment)} pages, which ${why} needs`, { rule: "out_iova_alignment of IOMMU_IOAS_IOVA_RANGES" });
    }
  }

  addAccess(access: IoasAccess): void {
    this.#checkAreas(access.alignment, "the access");
    this.accesses.add(access);
    this.users++;
  }

  removeAccess(access: IoasAccess): void {
    this.accesses.delete(access);
    this.users--;
  }

  /** HUGE_PAGES = 0 (4.8). @throws IommuError EINVAL, EADDRINUSE */
  disableHugePages(): void {
    if (!this.hugePages) return;
    if (this.hwpts.size > 0 && this.areas.size > 0) {
      refuse("EINVAL", `IOAS ${this.id} has page tables and mappings, which may use large pages`, { argument: "val64", rule: "IOMMU_OPTION_HUGE_PAGES" });
    }
    this.#checkAreas(PAGE, "HUGE_PAGES = 0");
    this.hugePages = false;
  }

  // Choice of addresses ------------------------------------------------------------------------------------------

  /** Checks a range that the caller chose (4.6, step 8b). */
  checkFixed(iova: bigint, length: bigint, argument = "iova"): Interval {
    if (iova % this.alignment !== 0n) this.#misaligned(argument, iova);
    if (iova + length - 1n > U64_MAX) refuse("EOVERFLOW", `${argument} ${hex(iova)} + length ${hex(length)} wraps`, { argument });
    const range = { start: iova, last: iova + length - 1n };
    const reserved = this.#reserved.find((candidate) => overlaps(candidate, range));
    if (reserved) refuse("EINVAL", `IOVA ${show(range)} meets ${show(reserved)}, reserved for ${reserved.why}`, { argument });
    const area = this.areas.first(range.start, range.last);
    if (area) refuse("EEXIST", `IOVA ${show(range)} meets ${show(area)}, which is mapped in IOAS ${this.id}`, { argument });
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
      refuse("EINVAL", `address ${hex(address)} and length ${hex(length)} allow alignment ${hex(want)}, IOAS ${this.id} needs ${hex(this.alignment)}`, { argument: "length" });
    }
    const whole = { start: PAGE, last: U64_MAX - PAGE };
    const allowed = this.#allowed.length === 0 ? [whole] : joined(this.#allowed);
    for (const range of allowed) {
      const clipped = clip(range, whole);
      if (clipped === undefined) continue;
      const start = fit(clipped, want, address, length);
      if (start === undefined) continue;
      for (const gap of this.#gaps(start, length)) {
        const candidate = clip(gap, { start, last: clipped.last });
        const iova = candidate && fit(candidate, want, address, length);
        if (iova !== undefined) return { start: iova, last: iova + length - 1n };
      }
    }
    return refuse("ENOSPC", `IOAS ${this.id} has no hole of ${hex(length)} bytes`, { argument: "length" });
  }

  /** Holes between areas that have room for `length` from `start` on, ascending, without what is reserved. */
  *#gaps(start: bigint, length: bigint): Generator<Interval> {
    for (const hole of this.areas.holes(start, length)) {
      const reserved = this.#reserved.filter((range) => overlaps(range, hole));
      for (const gap of holes(reserved)) {
        const free = clip(gap, hole);
        if (free) yield free;
      }
    }
  }

  // Areas --------------------------------------------------------------------------------------------------------

  /** Areas that cover the range without a hole. @throws IommuError ENOENT */
  contiguous(range: Interval, argument = "iova"): Area[] {
    const areas: Area[] = [];
    for (let next = range.start; next <= range.last; ) {
      const area = this.areas.first(next, next);
      if (area === undefined) return refuse("ENOENT", `IOVA ${hex(next)} of ${show(range)} is not mapped in IOAS ${this.id}`, { argument });
      areas.push(area);
      next = area.last + 1n;
    }
    return areas;
  }

  /** Adds areas and maps them into every domain; all or nothing (4.6, step 10). */
  map(areas: readonly Area[]): void {
    const done: [HwptPaging, Area][] = [];
    try {
      for (const area of areas) {
        for (const hwpt of this.hwpts) {
          fill(hwpt, area, this.hugePages);
          done.push([hwpt, area]);
        }
      }
    } catch (error) {
      for (const [hwpt, area] of done) unfill(hwpt, area);
      throw error;
    }
    for (const area of areas) {
      this.areas.add(area.start, area.last, area.value);
      const { source } = area.value.pages;
      if (source.kind !== "dmabuf") continue;
      const revoked = (): void => {
        if (source.buffer.revoked) for (const hwpt of this.hwpts) empty(hwpt, area);
      };
      this.#revocations.set(area.start, revoked);
      source.buffer.listeners.add(revoked);
    }
    if (this.children.size > 0) this.#tellChildren(areas);
  }

  /** Children have what refers to new areas; when one cannot, the areas go again. */
  #tellChildren(areas: readonly Area[]): void {
    const told: [ChildIoas, Area][] = [];
    try {
      for (const child of this.children) {
        for (const area of areas) {
          child.parentMapped(area);
          told.push([child, area]);
        }
      }
    } catch (error) {
      for (const [child, area] of told) child.parentUnmapping(area);
      for (const area of areas) this.unmapArea(area);
      throw error;
    }
  }

  /** Removes an area: out of every domain and its caches first, then the memory goes. */
  unmapArea(area: Area): void {
    for (const hwpt of this.hwpts) unfill(hwpt, area);
    this.areas.delete(area.start);
    this.pins.forget(area);
    const { source } = area.value.pages;
    if (source.kind !== "dmabuf") return;
    const revoked = this.#revocations.get(area.start);
    if (revoked) source.buffer.listeners.delete(revoked);
    this.#revocations.delete(area.start);
  }

  /**
   * UNMAP (4.7): whole areas only, lowest first; what was unmapped before a refusal stays unmapped.
   * @throws IommuError ENOENT, EBUSY, EDEADLK
   */
  unmap(range: Interval): bigint {
    let bytes = 0n;
    for (let area = this.areas.first(range.start, range.last); area !== undefined; area = this.areas.first(range.start, range.last)) {
      this.#checkLocks(area);
      if (area.start < range.start || area.last > range.last) {
        refuse("ENOENT", `${show(range)} cuts the mapping ${show(area)} of IOAS ${this.id}`, { argument: "iova", rule: "IOMMU_IOAS_UNMAP" });
      }
      this.#askToLetGo(area);
      for (const child of this.children) child.parentUnmapping(area);
      this.unmapArea(area);
      bytes += lengthOf(area);
    }
    return bytes;
  }

  /** Before an area goes that a parent unmaps. @throws IommuError EBUSY, EDEADLK */
  protected letGo(area: Area): void {
    this.#checkLocks(area);
    this.#askToLetGo(area);
  }

  #checkLocks(area: Area): void {
    if (this.pins.of(area).locks > 0) refuse("EBUSY", `${show(area)} of IOAS ${this.id} is in use by a hardware queue`, { argument: "iova", rule: "IOMMU_HW_QUEUE_ALLOC" });
  }

  /** Nothing more can be pinned in the area from now on, also when an access does not let go. All children are asked before one loses it. */
  #askToLetGo(area: Area): void {
    for (let round = 1; this.pins.of(area).pins > 0; round++) {
      this.pins.close(area);
      for (const access of [...this.accesses]) access.unmapping(area);
      if (round > UNMAP_ROUNDS) refuse("EDEADLK", `an access keeps ${show(area)} of IOAS ${this.id} pinned`, { argument: "iova" });
    }
    for (const child of this.children) child.parentLettingGo(area);
  }

  /**
   * Splits the area around `at` so that one begins there (type1 v1, 11.4). The pieces share their pages.
   * @throws IommuError EINVAL, EOPNOTSUPP when it cannot be cut
   */
  cut(at: bigint): void {
    const area = this.areas.first(at, at);
    if (area === undefined || area.start === at) return;
    const { pages, offset, prot } = area.value;
    if (this.children.size > 0) refuse("EOPNOTSUPP", `${show(area)} of IOAS ${this.id}, which has children, cannot be cut`, { argument: "iova", rule: "IOMMUKIT_IOAS_NEST" });
    if (pages.source.kind === "dmabuf") refuse("EOPNOTSUPP", `${show(area)} shows a dma-buf and cannot be cut`, { argument: "iova" });
    if (at % this.alignment !== 0n) this.#misaligned("iova", at);
    if (this.pins.of(area).pins > 0) refuse("EINVAL", `${show(area)} is pinned by an access and cannot be cut`, { argument: "iova" });
    if (this.hwpts.size > 0 && this.hugePages) refuse("EINVAL", `${show(area)} may be mapped by large pages and cannot be cut`, { argument: "iova", rule: "IOMMU_OPTION_HUGE_PAGES" });
    const low = newArea({ start: area.start, last: at - 1n }, pages, offset, prot);
    const high = newArea({ start: at, last: area.last }, pages, offset + (at - area.start), prot);
    this.areas.delete(area.start);
    for (const piece of [low, high]) this.areas.add(piece.start, piece.last, piece.value);
    for (let i = 0; i < this.hwpts.size; i++) {
      // Each domain holds the pages through both pieces now; a page that both share is held twice.
      for (const piece of [low, high]) {
        pages.hold(...areaPages(piece));
        pages.open(0n);
      }
      pages.drop(...areaPages(area));
      pages.close();
    }
  }

  // Page tables --------------------------------------------------------------------------------------------------

  /** A new domain mirrors every area, and reserves what lies outside its aperture. */
  addHwpt(hwpt: HwptPaging): void {
    const { aperture, pageSizes } = hwpt.domain;
    const page = smallestPage(pageSizes);
    if (page > PAGE) refuse("EINVAL", `the smallest page of the domain, ${hex(page)}, is larger than ${hex(PAGE)}`, { argument: "pt_id" });
    this.#checkAreas(page, "the domain");
    const filled: Area[] = [];
    try {
      if (aperture.start > 0n) this.reserve({ start: 0n, last: aperture.start - 1n }, hwpt, "addresses below the domain's aperture");
      if (aperture.last < U64_MAX) this.reserve({ start: aperture.last + 1n, last: U64_MAX }, hwpt, "addresses above the domain's aperture");
      for (const area of this.areas) {
        fill(hwpt, area, this.hugePages);
        filled.push(area);
      }
    } catch (error) {
      this.unreserve(hwpt);
      for (const area of filled) unfill(hwpt, area);
      throw error;
    }
    this.hwpts.add(hwpt);
    this.users++;
  }

  removeHwpt(hwpt: HwptPaging): void {
    for (const area of this.areas) unfill(hwpt, area);
    this.hwpts.delete(hwpt);
    this.unreserve(hwpt);
    this.users--;
  }

  destroy(): void {
    for (const area of [...this.areas]) this.unmapArea(area);
    this.#onDestroy(this);
  }
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function smallestPage(sizes: bigint): bigint {
  return sizes & -sizes;
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
