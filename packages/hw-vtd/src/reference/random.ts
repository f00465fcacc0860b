/** A small generator of pseudo-random numbers: one 32-bit seed gives one sequence (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 to 2^32 - 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** 0 to limit - 1. */
  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit);
  }

  chance(probability: number): boolean {
    return this.next() < probability * 2 ** 32;
  }

  flag(probability: number): bigint {
    return this.chance(probability) ? 1n : 0n;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)];
  }

  /** A number of `width` bits. */
  bits(width: number): bigint {
    const whole = (BigInt(this.next()) << 32n) | BigInt(this.next());
    return whole & ((1n << BigInt(width)) - 1n);
  }
}
