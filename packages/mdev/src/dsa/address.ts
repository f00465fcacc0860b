/** An address as a page number and an offset: 64 bits do not fit a number, and a page number does. */
const PAGE = 4096;
const PAGES = 2 ** 52;

export class Address {
  page = 0;
  offset = 0;

  /** Takes 8 little-endian bytes. */
  read(view: DataView, at: number): void {
    const low = view.getUint32(at, true);
    this.offset = low & 0xfff;
    this.page = view.getUint32(at + 4, true) * 0x10_0000 + (low >>> 12);
  }

  /** Page of the byte `at` bytes further on. Addresses wrap. */
  pageAt(at: number): number {
    const page = this.page + Math.floor((this.offset + at) / PAGE);
    return page < PAGES ? page : page - PAGES;
  }

  offsetAt(at: number): number {
    return (this.offset + at) % PAGE;
  }

  /** Bytes from `at` on to the end of its page. */
  roomAt(at: number): number {
    return PAGE - ((this.offset + at) % PAGE);
  }

  /** Bytes from `other` to this, exact where it matters: while they are no further apart than a transfer is long. */
  distanceFrom(other: Address): number {
    return (this.page - other.page) * PAGE + (this.offset - other.offset);
  }

  isAligned(to: number): boolean {
    return this.offset % to === 0;
  }
}

/** Ranges of bytes have one in common. */
export function overlaps(a: Address, aBytes: number, b: Address, bBytes: number): boolean {
  const distance = b.distanceFrom(a);
  return distance < aBytes && -distance < bBytes;
}

/** Stores the address of a page. */
export function writePageAddress(view: DataView, at: number, page: number): void {
  view.setUint32(at, (page % 0x10_0000) * PAGE, true);
  view.setUint32(at + 4, Math.floor(page / 0x10_0000), true);
}
