/** Ranges as invalidations name them (VT-d 6.5.2.3): 2^mask pages from `page` on, aligned to their size. */
export interface PageBlock {
  readonly page: number;
  readonly mask: number;
}

/** What is larger than this, 4 PiB, is as good as everything. */
const LARGEST_MASK = 40;

/** The smallest block that covers the pages; undefined for everything. */
export function coveringBlock(page: number, count: number): PageBlock | undefined {
  const last = page + count - 1;
  for (let mask = 0; mask <= LARGEST_MASK; mask++) {
    const size = 2 ** mask;
    if (Math.floor(page / size) === Math.floor(last / size)) return { page: Math.floor(page / size) * size, mask };
  }
  return undefined;
}
