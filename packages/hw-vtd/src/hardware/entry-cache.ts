/** A set-associative cache of decoded entries, looked up by requester and PASID: the context cache and the PASID cache. */
import type { IotlbGeometry } from "@iommukit/core";

export interface CachedEntry {
  valid: boolean;
  rid: number;
  /** NO_PASID where the key is the requester alone. */
  pasid: number;
}

export class EntryCache<T extends CachedEntry> {
  readonly capacity: number;
  readonly #setMask: number;
  readonly #ways: number;
  /** Filled as they are needed. */
  readonly #entries: (T | undefined)[];
  readonly #victim: Uint8Array;
  #live = 0;

  constructor({ sets, ways }: IotlbGeometry) {
    if (sets !== 0 && (!Number.isInteger(Math.log2(sets)) || !Number.isInteger(ways) || ways < 1 || ways > 255)) {
      throw new RangeError(`a cache of ${sets} sets and ${ways} ways: sets must be a power of two or 0, ways 1 to 255`);
    }
    this.capacity = sets * ways;
    this.#setMask = sets - 1;
    this.#ways = ways;
    this.#entries = Array.from({ length: this.capacity }, () => undefined);
    this.#victim = new Uint8Array(sets);
  }

  lookup(rid: number, pasid: number): T | undefined {
    if (this.#live === 0) return undefined;
    const first = this.#set(rid, pasid) * this.#ways;
    for (let i = first; i < first + this.#ways; i++) {
      const entry = this.#entries[i];
      if (entry !== undefined && entry.valid && entry.rid === rid && entry.pasid === pasid) return entry;
    }
    return undefined;
  }

  /** Keeps `entry`, which must not be in the cache, and returns the object that it replaces, to be filled next; undefined when there is none. */
  insert(entry: T): T | undefined {
    const set = this.#set(entry.rid, entry.pasid);
    const first = set * this.#ways;
    let at = first;
    while (at < first + this.#ways && this.#entries[at]?.valid === true) at++;
    if (at === first + this.#ways) {
      at = first + this.#victim[set];
      this.#victim[set] = (this.#victim[set] + 1) % this.#ways;
    }
    const replaced = this.#entries[at];
    if (replaced?.valid !== true) this.#live++;
    else replaced.valid = false;
    this.#entries[at] = entry;
    entry.valid = true;
    return replaced;
  }

  /** Forgets every entry that `selects`; returns how many. */
  remove(selects: (entry: T) => boolean): number {
    if (this.#live === 0) return 0;
    let removed = 0;
    for (const entry of this.#entries) {
      if (entry === undefined || !entry.valid || !selects(entry)) continue;
      entry.valid = false;
      removed++;
    }
    this.#live -= removed;
    return removed;
  }

  #set(rid: number, pasid: number): number {
    return (rid ^ Math.imul(pasid + 1, 0x9e37)) & this.#setMask;
  }
}
