/** Which pages of the recorded process a replay must have, and the steps that give it them. */
const PAGE = 4096n;

export type Step = Readonly<Record<string, unknown>>;

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Pages as the replay has them after the steps so far. */
export class PageBook {
  /** Page number to: may it be written? */
  readonly #pages = new Map<bigint, boolean>();
  /** Ranges that steps of their own have mapped. */
  readonly #foreign: { readonly start: bigint; readonly end: bigint }[] = [];
  readonly #emit: (step: Step) => void;

  constructor(emit: (step: Step) => void) {
    this.#emit = emit;
  }

  /** [start, end) is mapped by a step that somebody else emitted. */
  adopt(start: bigint, end: bigint): void {
    this.#foreign.push({ start, end });
  }

  /**
   * The range is mapped in the recorded process: so it is in the replay. That it may be written is taken for granted until
   * a refusal shows otherwise.
   */
  ensure(address: bigint, length: bigint, writable: boolean, kind = "anon-shared"): void {
    if (length === 0n) return;
    const last = (address + length - 1n) / PAGE;
    let from = address / PAGE;
    const map = (end: bigint): void => {
      if (end > from) this.#emit({ op: "mmap", va: hex(from * PAGE), len: hex((end - from) * PAGE), kind, prot: "rw", ret: 0, errno: null });
    };
    for (let page = from; page <= last; page++) {
      const known = this.#pages.get(page);
      if (known === undefined) {
        this.#pages.set(page, true);
        continue;
      }
      map(page);
      from = page + 1n;
      if (known || !writable) continue;
      this.#protect(page, "rw");
      this.#pages.set(page, true);
    }
    map(last + 1n);
  }

  /** The range could be read: nothing is known of its other rights. */
  ensureReadable(address: bigint, length: number): void {
    if (this.#foreign.some(({ start, end }) => address >= start && address < end)) return;
    for (let page = address / PAGE; page <= (address + BigInt(length) - 1n) / PAGE; page++) {
      if (!this.#pages.has(page)) this.ensure(page * PAGE, PAGE, true);
    }
  }

  /** A page that can be read and not written. */
  readOnly(address: bigint): void {
    this.ensure(address, 1n, true);
    this.#protect(address / PAGE, "r");
    this.#pages.set(address / PAGE, false);
  }

  /** Nothing is mapped there. */
  absent(address: bigint): void {
    const page = address / PAGE;
    if (!this.#pages.delete(page)) return;
    this.#emit({ op: "munmap", va: hex(page * PAGE), len: hex(PAGE), ret: 0, errno: null });
  }

  /** The bytes that the recorded process has there. */
  poke(address: bigint, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const locked: bigint[] = [];
    for (let page = address / PAGE; page <= (address + BigInt(bytes.length) - 1n) / PAGE; page++) if (this.#pages.get(page) === false) locked.push(page);
    for (const page of locked) this.#protect(page, "rw");
    this.#emit({ op: "poke", va: hex(address), hex: toHex(bytes) });
    for (const page of locked) this.#protect(page, "r");
  }

  #protect(page: bigint, prot: string): void {
    this.#emit({ op: "mprotect", va: hex(page * PAGE), len: hex(PAGE), prot, ret: 0, errno: null });
  }
}
