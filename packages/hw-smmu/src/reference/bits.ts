/** Numbers taken apart. */

export const bits = (value: bigint, high: number, low: number): bigint => (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
export const bit = (value: bigint | number, at: number): boolean => ((BigInt(value) >> BigInt(at)) & 1n) === 1n;
export const num = (value: bigint, high: number, low: number): number => Number(bits(value, high, low));
export const align = (value: bigint, bytes: bigint): bigint => value - (value % bytes);

export function swap(word: bigint): bigint {
  let out = 0n;
  for (let i = 0n; i < 8n; i++) out |= ((word >> (i * 8n)) & 0xffn) << ((7n - i) * 8n);
  return out;
}
