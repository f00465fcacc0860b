/** A bitmap in the caller's memory: bits are ORed in page by page, so that a million of them cost a few copies. */
import type { UserBytes } from "../files/types.js";

const PAGE = 4096n;

export class UserBitmap {
  readonly #memory: UserBytes;
  readonly #address: bigint;
  readonly #page = new Uint8Array(Number(PAGE));
  /** User address of the page at hand; undefined for none, or one that cannot be reached. */
  #base: bigint | undefined;
  #reachable = false;
  /** Bytes of it that have changed; from > to for none. */
  #from = Number(PAGE);
  #to = -1;

  /** @param address of the byte with bit 0 */
  constructor(memory: UserBytes, address: bigint) {
    this.#memory = memory;
    this.#address = address;
  }

  /** Sets bits [first, last]. Those in a page that cannot be read are lost, as in Linux (iommufd facts, section 7). */
  set(first: bigint, last: bigint): void {
    for (let bit = first; bit <= last; ) {
      const at = this.#address + bit / 8n;
      const base = at - (at % PAGE);
      const lastOfPage = (base + PAGE - this.#address) * 8n - 1n;
      const stop = last < lastOfPage ? last : lastOfPage;
      this.#turnTo(base);
      if (this.#reachable) this.#fill(Number((this.#address - base) * 8n + bit), Number((this.#address - base) * 8n + stop));
      bit = stop + 1n;
    }
  }

  /** Bits of the page at hand. */
  #fill(first: number, last: number): void {
    for (let byte = first >> 3; byte <= last >> 3; byte++) {
      const low = byte === first >> 3 ? first & 7 : 0;
      const high = byte === last >> 3 ? last & 7 : 7;
      this.#page[byte] |= (2 << high) - (1 << low);
    }
    this.#from = Math.min(this.#from, first >> 3);
    this.#to = Math.max(this.#to, last >> 3);
  }

  #turnTo(base: bigint): void {
    if (base === this.#base) return;
    this.flush();
    this.#base = base;
    this.#reachable = attempt(() => this.#memory.read(base, this.#page));
  }

  /** Stores what has changed. Bits that cannot be stored are lost. */
  flush(): void {
    if (this.#base !== undefined && this.#from <= this.#to) {
      const { from, to, base } = { from: this.#from, to: this.#to, base: this.#base };
      attempt(() => this.#memory.write(base + BigInt(from), this.#page.subarray(from, to + 1)));
    }
    this.#base = undefined;
    this.#from = Number(PAGE);
    this.#to = -1;
  }
}

function attempt(run: () => void): boolean {
  try {
    run();
    return true;
  } catch {
    return false;
  }
}
