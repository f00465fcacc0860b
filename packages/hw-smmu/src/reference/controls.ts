/** What registers, stream table entry and context descriptor say together. */
import { bit, bits, num } from "./bits.js";
import type { Request, State } from "./request.js";

export const SIZES: readonly number[] = [32, 36, 40, 42, 44, 48, 52, 56];

export type Half = { readonly size: number; readonly granule: number; readonly base: bigint; readonly enabled: boolean; readonly tbi: boolean; readonly had: boolean; readonly e0pd: boolean };

export function hasDs({ id }: State): boolean {
  return bit(id.idr5, 7);
}

/** Bits of what goes into stage 2, or past stage 1. */
export function inputSize(s: State): number {
  return Math.max(bit(s.id.idr0, 2) ? 40 : 0, bit(s.id.idr0, 3) ? s.oas : 0);
}

/** PRIVCFG and INSTCFG (5.2). */
export function override(s: State, r: Request): void {
  const allowed = bit(s.id.idr1, 26);
  const priv = allowed ? num(s.ste, 113, 112) : 0;
  const inst = allowed ? num(s.ste, 115, 114) : 0;
  const fetch = r.write ? false : inst === 2 ? false : inst === 3 ? true : r.fetch;
  s.need = { read: r.read, write: r.write, fetch, privileged: priv === 2 ? false : priv === 3 ? true : r.privileged };
}

/** Bits of what stage 2 puts out. */
export function stage2Size(s: State): number {
  const code = num(s.ste, 178, 176);
  return Math.min(SIZES[s.minor === 0 ? Math.min(code, 5) : Math.min(code, 6)], s.oas);
}

/** Start level in the manual's numbering, and the log2 of the start table's entries; undefined where not allowed. */
export function start2(s: State): { level: number; width: number } | undefined {
  const ste = s.ste;
  const ds = hasDs(s) && bit(ste, 195);
  const sl0 = num(ste, 167, 166);
  const tg = num(ste, 175, 174);
  const t0sz = num(ste, 165, 160);
  let level: number | undefined;
  if (tg === 0) {
    if (ds && bit(ste, 194)) level = sl0 === 0 ? -1 : undefined;
    else level = [2, 1, 0, bit(s.id.idr3, 9) ? 3 : undefined][sl0];
  } else if (tg === 2) level = [3, 2, 1, ds ? 0 : undefined][sl0];
  else level = [3, 2, 1, undefined][sl0];
  if (level === undefined) return undefined;
  const g = [12, 16, 14][tg];
  const width = 64 - t0sz - (g + (g - 3) * (3 - level));
  const most = tg === 0 && level === -1 ? 4 : tg === 2 && level === 0 ? 5 : tg === 1 && level === 1 ? 10 : g + 1;
  return width >= 1 && width <= most ? { level, width } : undefined;
}

/** NS-EL2 without E2H: one privilege level, no upper half. */
export function isEl2(s: State): boolean {
  const used = num(s.ste, 3, 1) === 5 && bit(s.id.idr0, 9) && bit(s.id.idr0, 1);
  return used && num(s.ste, 95, 94) === 2 && !bit(s.registers.cr2, 0);
}

/** Lower and upper addresses. */
export function halvesOf(s: State): readonly [Half, Half] {
  const cd = s.cd;
  const e0pd = bit(s.id.idr3, 13) && !isEl2(s);
  const had = bit(s.id.idr3, 2);
  return [
    { size: num(cd, 5, 0), granule: [12, 16, 14, 0][num(cd, 7, 6)], base: bits(cd, 119, 68) << 4n, enabled: isEl2(s) || !bit(cd, 14), tbi: bit(cd, 38), had: had && bit(cd, 65), e0pd: e0pd && bit(cd, 66) },
    { size: num(cd, 21, 16), granule: [0, 14, 12, 16][num(cd, 23, 22)], base: bits(cd, 183, 132) << 4n, enabled: !isEl2(s) && !bit(cd, 30), tbi: bit(cd, 39), had: had && bit(cd, 129), e0pd: e0pd && bit(cd, 130) },
  ];
}

/** Bits of what stage 1 puts out. */
export function stage1Size(s: State): number {
  const code = num(s.cd, 34, 32);
  return Math.min(SIZES[s.minor === 0 ? Math.min(code, 5) : Math.min(code, 6)], s.oas);
}
