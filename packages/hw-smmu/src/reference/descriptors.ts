/** Descriptors of translation tables (DDI0487 D8.3). */
import { bits, swap } from "./bits.js";
import type { State } from "./request.js";

/** OA of a descriptor for a granule. */
export function output(s: State, d: bigint, g: number, low: number, ds: boolean): bigint {
  let oa = bits(d, 47, low) << BigInt(low);
  if (g === 16 && s.oas >= 52) oa |= bits(d, 15, 12) << 48n;
  if (g !== 16 && ds) oa |= (bits(d, 49, 48) << 48n) | (bits(d, 9, 8) << 50n);
  return oa;
}

export function blockAllowed(s: State, g: number, level: number, ds: boolean): boolean {
  if (g === 12) return level === 1 || level === 2 || (level === 0 && ds);
  if (g === 14) return level === 2 || (level === 1 && ds);
  return level === 2 || (level === 1 && s.oas >= 52);
}

export function load(s: State, at: bigint, big: boolean): bigint | undefined {
  const word = s.memory.read(at);
  return word === undefined || !big ? word : swap(word);
}

export function store(s: State, at: bigint, value: bigint, big: boolean): void {
  s.memory.write(at, big ? swap(value) : value);
}
