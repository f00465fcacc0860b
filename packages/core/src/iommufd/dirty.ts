/** GET_DIRTY_BITMAP (iommufd facts, section 7). */
import { refuse } from "../errors.js";
import type { UserBytes } from "../files/types.js";
import { U64_MAX } from "../memory/interval.js";
import type { HwptPaging } from "./hwpt.js";
import { UserBitmap } from "./user-bitmap.js";

export interface DirtyRequest {
  readonly iova: bigint;
  readonly length: bigint;
  readonly pageSize: bigint;
  /** User address of the bitmap; its first bit is the page at `iova`. */
  readonly bitmap: bigint;
  readonly clear: boolean;
}

/** ORs the dirty bits of the range into the caller's bitmap. What cannot be walked or stored is left out without a word, as in Linux. */
export function readDirty(hwpt: HwptPaging, memory: UserBytes, request: DirtyRequest): void {
  const { iova, length, pageSize } = request;
  const end = iova + (length - 1n);
  if (end > U64_MAX || end < iova - 1n || (length === 0n && iova !== 0n)) {
    refuse("EOVERFLOW", `iova 0x${iova.toString(16)} + length 0x${length.toString(16)} wraps`, { argument: "length" });
  }
  const alignment = hwpt.ioas.alignment;
  if (iova % alignment !== 0n || (end + 1n) % alignment !== 0n) {
    refuse("EINVAL", `iova and length are not multiples of the alignment 0x${alignment.toString(16)} of IOAS ${hwpt.ioas.id}`, { argument: "iova" });
  }
  if (pageSize === 0n) refuse("EINVAL", "page_size is 0", { argument: "page_size" });
  const mask = pageSize - 1n;
  if ((iova & mask) !== 0n || ((end + 1n) & mask) !== 0n) refuse("EINVAL", `iova and length are not multiples of page_size 0x${pageSize.toString(16)}`, { argument: "page_size" });
  const { dirty } = hwpt.domain;
  if (dirty === undefined) return refuse("EOPNOTSUPP", `page table ${hwpt.id} cannot track dirty pages`, { argument: "hwpt_id" });
  if (length === 0n) return;
  // A page size that is no power of two counts in units of its lowest bit.
  const unit = pageSize & -pageSize;
  const { areas } = hwpt.ioas;
  // A leaf that sticks out of the range sets bits behind it too, up to the end of the bitmap's last page.
  const bitmapLast = request.bitmap + ((length / unit + 7n) / 8n) - 1n;
  const lastBit = (bitmapLast - (bitmapLast % 4096n) + 4096n - request.bitmap) * 8n - 1n;
  const bitmap = new UserBitmap(memory, request.bitmap);
  for (let next = iova; next <= end; ) {
    const area = areas.first(next, next);
    if (area === undefined) break;
    const last = area.last < end ? area.last : end;
    dirty.read(next, last - next + 1n, request.clear, (at, size) => {
      const stop = (at + size - 1n - iova) / unit;
      bitmap.set((at - iova) / unit, stop < lastBit ? stop : lastBit);
    });
    next = last + 1n;
  }
  bitmap.flush();
}
