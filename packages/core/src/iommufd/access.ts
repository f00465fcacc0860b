/** A user of an IOAS inside the kernel: software that reads, writes and pins memory by IOVA (iommufd facts, 3.9). */
import { Prot } from "../driver/types.js";
import { refuse } from "../errors.js";
import type { UserMemory } from "../files/types.js";
import { type Area, areaPages, firstByte } from "./area.js";
import type { Pages } from "./pages.js";
import { type Interval, U64_MAX } from "../memory/interval.js";
import type { Ioas, IoasAccess } from "./ioas.js";
import { SoftwareFaults } from "./software-faults.js";
import type { TableObject } from "./object-table.js";

const PAGE = 4096n;

export interface AccessOptions {
  /** It can pin pages, which needs whole pages. */
  readonly pins: boolean;
  /** UNMAP fails while it holds pins: those of a hardware queue. */
  readonly locks?: boolean;
  /** User space may hear of its faults. */
  readonly raisesFaults?: boolean;
  /** UNMAP asks it to let go of its pins in the range. */
  readonly unmapping?: (range: Interval) => void;
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;

export class Access implements TableObject, IoasAccess {
  readonly type = "ACCESS";
  readonly id: number;
  /** Its driver holds it. */
  users = 1;
  readonly alignment: bigint;
  /** What new pins, reads and writes see. */
  ioas: Ioas | undefined;
  /** Where its driver raises faults; absent: it raises none. */
  readonly faults: SoftwareFaults | undefined;
  /** What its pins are in: they outlive `ioas` until its user has let go of them. */
  #pinned: Ioas | undefined;
  readonly #options: AccessOptions;

  constructor(id: number, options: AccessOptions) {
    this.id = id;
    this.#options = options;
    this.alignment = options.pins ? PAGE : 1n;
    this.faults = options.raisesFaults ? new SoftwareFaults(id) : undefined;
  }

  get pins(): boolean {
    return this.#options.pins;
  }

  unmapping(range: Interval): void {
    this.#options.unmapping?.(range);
  }

  /** @throws IommuError EADDRINUSE when areas do not fit its alignment */
  attach(ioas: Ioas): void {
    ioas.addAccess(this);
    this.#use(ioas);
  }

  detach(): void {
    const { ioas } = this;
    if (ioas === undefined) return;
    this.#leave(ioas);
    this.#use(undefined);
  }

  /** Moves to another IOAS, dropping its pins. A refusal leaves it where it was. */
  replace(ioas: Ioas): void {
    const old = this.ioas;
    if (ioas === old) return;
    ioas.addAccess(this);
    if (old) this.#leave(old);
    this.#use(ioas);
  }

  /** Nothing can be pinned in it any more when its user is told to let go. */
  #leave(ioas: Ioas): void {
    this.ioas = undefined;
    this.unmapping({ start: 0n, last: U64_MAX });
    ioas.removeAccess(this);
  }

  #use(ioas: Ioas | undefined): void {
    this.ioas = ioas;
    this.#pinned = ioas;
  }

  #areas(iova: bigint, length: bigint, ioas = this.ioas): { range: Interval; areas: Area[]; ioas: Ioas } {
    if (length === 0n) refuse("EINVAL", "length is 0", { argument: "length" });
    if (iova + length - 1n > U64_MAX) refuse("EOVERFLOW", `iova ${hex(iova)} + length ${hex(length)} wraps`, { argument: "iova" });
    if (ioas === undefined) return refuse("ENOENT", "the access is not attached to an IOAS", { argument: "id" });
    const range = { start: iova, last: iova + length - 1n };
    return { range, ioas, areas: partly(ioas, range) };
  }

  /**
   * Pins a range; all or nothing.
   * @returns the pages, in order, as (pages object, page number) pairs
   */
  pin(iova: bigint, length: bigint, write: boolean): { pages: Pages; page: number }[] {
    const { range, ioas, areas } = this.#areas(iova, length);
    const done: Area[] = [];
    const result: { pages: Pages; page: number }[] = [];
    try {
      for (const area of areas) {
        const [start, last] = part(area, range);
        if (ioas.pins.isClosing(area)) refuse("EINVAL", `IOVA ${hex(start)} is being unmapped`, { argument: "iova", rule: "IOMMU_IOAS_UNMAP" });
        this.#check(area, start, last < range.last, write);
        const [first, end] = areaPages(area, start, last);
        const { pages } = area.value;
        pages.hold(first, end);
        done.push(area);
        ioas.pins.add(area, 1, this.#options.locks ?? false);
        for (let page = first; page <= end; page++) result.push({ pages, page });
      }
      checkCovered(ioas, areas, range);
    } catch (error) {
      for (const area of done) this.#unpinArea(ioas, area, range);
      throw error;
    }
    return result;
  }

  /** @param goesOn the range goes on behind this area */
  #check(area: Area, start: bigint, goesOn: boolean, write: boolean): void {
    if ((firstByte(area) + (start - area.start)) % PAGE !== 0n) {
      refuse("EINVAL", `the memory behind IOVA ${hex(start)} does not begin at a page`, { argument: "iova" });
    }
    if (goesOn && (firstByte(area) + (area.last + 1n - area.start)) % PAGE !== 0n) {
      refuse("EINVAL", `the memory behind IOVA ${hex(area.last)} ends inside a page`, { argument: "iova" });
    }
    permission(area, start, write);
    if (area.value.pages.source.kind === "dmabuf") refuse("EINVAL", `IOVA ${hex(start)} shows a dma-buf, which cannot be pinned`, { argument: "iova" });
  }

  /** Undoes a `pin` of the same range. */
  unpin(iova: bigint, length: bigint): void {
    const { range, areas, ioas } = this.#areas(iova, length, this.#pinned);
    for (const area of areas) this.#unpinArea(ioas, area, range);
  }

  #unpinArea(ioas: Ioas, area: Area, range: Interval): void {
    const [start, last] = part(area, range);
    area.value.pages.drop(...areaPages(area, start, last));
    ioas.pins.add(area, -1, this.#options.locks ?? false);
  }

  /** Reads or writes memory by IOVA; what came before a refusal is done. @param current memory of the process that calls, if one does */
  copy(iova: bigint, bytes: Uint8Array, write: boolean, current: UserMemory | undefined, slow: boolean): void {
    const { range, ioas, areas } = this.#areas(iova, BigInt(bytes.length));
    let done = 0;
    for (const area of areas) {
      const [start, last] = part(area, range);
      if (ioas.pins.isClosing(area)) refuse("EINVAL", `IOVA ${hex(start)} is being unmapped`, { argument: "iova", rule: "IOMMU_IOAS_UNMAP" });
      permission(area, start, write);
      const count = Number(last - start + 1n);
      area.value.pages.copy(area.value.offset + (start - area.start), bytes.subarray(done, done + count), write, current, slow);
      done += count;
    }
    checkCovered(ioas, areas, range);
  }

  destroy(): void {
    this.detach();
    this.faults?.tie(undefined);
  }
}

/** Areas from the beginning of the range up to the first hole. */
function partly(ioas: Ioas, range: Interval): Area[] {
  const areas: Area[] = [];
  for (let next = range.start; next <= range.last; ) {
    const area = ioas.areas.first(next, next);
    if (area === undefined) break;
    areas.push(area);
    next = area.last + 1n;
  }
  return areas;
}

function checkCovered(ioas: Ioas, areas: readonly Area[], range: Interval): void {
  const end = areas.at(-1)?.last;
  if (end === undefined || end < range.last) {
    refuse("ENOENT", `IOVA ${hex(end === undefined ? range.start : end + 1n)} is not mapped in IOAS ${ioas.id}`, { argument: "iova" });
  }
}

function part(area: Area, range: Interval): [start: bigint, last: bigint] {
  return [area.start > range.start ? area.start : range.start, area.last < range.last ? area.last : range.last];
}

function permission(area: Area, iova: bigint, write: boolean): void {
  const needed = write ? Prot.WRITE : Prot.READ;
  if ((area.value.prot & needed) === 0) refuse("EPERM", `IOVA ${hex(iova)} was not mapped ${write ? "WRITEABLE" : "READABLE"}`, { argument: "iova" });
}
