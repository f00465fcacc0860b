/** Random machines that are mostly right: tables, structures and registers in memory, with a few things bent. */
import type { PhysicalMemory } from "@iommukit/core";
import type { Identification } from "./request.js";

export type Random = (limit: number) => number;

/** Integers below a limit (mulberry32). */
export function generator(seed: number): Random {
  let state = seed | 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

/** RAM, and where what is built goes: queues lie below. */
export const RAM = 2 ** 28;
const FIRST = 0x10_0000;
export const EVENT_QUEUE_BASE = 0x8000;
export const COMMAND_QUEUE_BASE = 0x4000;

export class Builder {
  readonly random: Random;
  readonly #memory: PhysicalMemory;
  readonly #id: Identification;
  /** Every word that was written, for the next machine to clear and for comparisons. */
  readonly words = new Set<number>();
  #next = FIRST;

  constructor(memory: PhysicalMemory, id: Identification, random: Random) {
    this.#memory = memory;
    this.#id = id;
    this.random = random;
  }

  /** Takes back everything. */
  clear(): void {
    for (const at of this.words) this.#memory.writeU64(at, 0n);
    this.words.clear();
    this.#next = FIRST + this.random(64) * 0x1_0000;
  }

  chance(percent: number): boolean {
    return this.random(1000) < percent * 10;
  }

  pick<T>(...values: readonly T[]): T {
    return values[this.random(values.length)];
  }

  /** A random number of so many bits. */
  number(width: number): bigint {
    let value = 0n;
    for (let left = width; left > 0; left -= 16) value = (value << BigInt(Math.min(left, 16))) | BigInt(this.random(2 ** Math.min(left, 16)));
    return value;
  }

  put(at: number | bigint, value: bigint): void {
    this.words.add(Number(at));
    this.#memory.writeU64(Number(at), value);
  }

  get(at: number | bigint): bigint {
    return this.#memory.readU64(Number(at)) ?? 0n;
  }

  record(at: number | bigint, value: bigint): void {
    for (let i = 0n; i < 8n; i++) this.put(BigInt(at) + i * 8n, (value >> (i * 64n)) & 0xffff_ffff_ffff_ffffn);
  }

  /** Memory of its own. */
  frame(bytes: number): number {
    const at = Math.ceil(this.#next / bytes) * bytes;
    this.#next = at + bytes;
    return at;
  }

  get ds(): boolean {
    return (this.#id.idr5 & 0x80) !== 0;
  }
}

export interface Geometry {
  readonly g: number;
  /** Input bits. */
  readonly width: number;
  /** In the manual's numbering. */
  readonly start: number;
  readonly root: number;
  readonly ds: boolean;
  /** 64K descriptors have 52-bit addresses. */
  readonly wide: boolean;
  readonly big: boolean;
}

/** Memory for a table, and the address that names it: stage 2 may stand between. */
export type Placement = (bytes: number) => { readonly name: bigint; readonly at: number };

/** Translation tables of one stage, as software would build them. */
export class Tables {
  readonly geometry: Geometry;
  readonly #b: Builder;
  readonly #place: Placement;
  readonly #names = new Map<bigint, number>();

  constructor(b: Builder, geometry: Geometry, place: Placement) {
    this.#b = b;
    this.geometry = geometry;
    this.#place = place;
  }

  /** Levels that may have leaves. */
  get leafLevels(): number[] {
    const { g, ds, wide, start } = this.geometry;
    const levels = g === 12 ? (ds ? [0, 1, 2, 3] : [1, 2, 3]) : g === 14 ? (ds ? [1, 2, 3] : [2, 3]) : wide ? [1, 2, 3] : [2, 3];
    return levels.filter((level) => level >= start);
  }

  shift(level: number): number {
    return this.geometry.g + (this.geometry.g - 3) * (3 - level);
  }

  /**
   * Puts a leaf for `input` into the tables, with the tables that lead to it. False when another leaf is in the way.
   * @param leaf what the leaf says besides its address and type @param table the same for table descriptors
   */
  map(input: bigint, output: bigint, level: number, leaf: () => bigint, table: () => bigint): boolean {
    const { start, root, width, g, big } = this.geometry;
    let at = root;
    for (let l = start; ; l++) {
      const shift = BigInt(this.shift(l));
      const index = l === start ? (input % (1n << BigInt(width))) >> shift : (input >> shift) % (1n << BigInt(g - 3));
      const entry = at + Number(index) * 8;
      const raw = this.#b.get(entry);
      const there = big ? swap(raw) : raw;
      if (l === level) {
        if (there !== 0n) return false;
        this.#put(entry, this.#encode(output - (output % (1n << shift))) | leaf() | (l === 3 ? 3n : 1n));
        return true;
      }
      if (there === 0n) {
        const child = this.#place(2 ** g);
        this.#names.set(child.name, child.at);
        // Placing the table may have filled the entry: stage 2 maps tables of stage 1 with tables of its own.
        if (this.#b.get(entry) !== 0n) return false;
        this.#put(entry, this.#encode(child.name) | table() | 3n);
        ({ at } = child);
      } else {
        const known = (there & 3n) === 3n ? this.#names.get(this.#decode(there)) : undefined;
        if (known === undefined) return false;
        at = known;
      }
    }
  }

  #put(entry: number, word: bigint): void {
    this.#b.put(entry, this.geometry.big ? swap(word) : word);
  }

  #encode(address: bigint): bigint {
    const { g, ds, wide } = this.geometry;
    const low = address & 0xffff_ffff_ffffn;
    if (g === 16) return low | (wide ? ((address >> 48n) & 15n) << 12n : 0n);
    return ds ? low | (((address >> 48n) & 3n) << 48n) | (((address >> 50n) & 3n) << 8n) : low;
  }

  #decode(d: bigint): bigint {
    const { g, ds, wide } = this.geometry;
    const low = (d & 0xffff_ffff_ffffn) >> BigInt(g) << BigInt(g);
    if (g === 16) return low | (wide ? ((d >> 12n) & 15n) << 48n : 0n);
    return ds ? low | (((d >> 48n) & 3n) << 48n) | (((d >> 8n) & 3n) << 50n) : low;
  }
}

function swap(word: bigint): bigint {
  let out = 0n;
  for (let i = 0n; i < 8n; i++) out |= ((word >> (i * 8n)) & 0xffn) << ((7n - i) * 8n);
  return out;
}
