/** What makes a stream table entry (5.2.2) or a context descriptor (5.4.1) ILLEGAL. */
import { bit, bits, num } from "./bits.js";
import { halvesOf, hasDs, inputSize, isEl2, stage1Size, stage2Size, start2 } from "./controls.js";
import { E, type State, Stop } from "./request.js";

export function checkSte(s: State, config: number): void {
  const ste = s.ste;
  const { idr0, idr1, idr3, idr5 } = s.id;
  const s1 = (config & 1) !== 0;
  const s2 = (config & 2) !== 0;
  const bad = (when: boolean): void => {
    if (when) throw new Stop(E.BAD_STE);
  };
  bad(s1 && !bit(idr0, 1));
  bad(s2 && !bit(idr0, 0));
  const s2s = bit(ste, 185);
  if (bit(idr0, 10) && config !== 4) {
    const eats = num(ste, 93, 92);
    bad(eats === 2 && (config !== 7 || s2s || bit(idr0, 11)));
    bad(eats === 1 && s2 && s2s);
  }
  const strw = num(ste, 95, 94);
  bad(config === 5 && bit(idr0, 1) && bit(idr0, 9) && (strw === 1 || strw === 3));
  const stallModel = num(BigInt(idr0), 25, 24);
  const ssidSize = (idr1 >> 6) & 31;
  if (s1) {
    bad(bit(ste, 91) && stallModel !== 0);
    const cdMax = num(ste, 63, 59);
    bad(ssidSize !== 0 && cdMax > ssidSize);
    const fmt = num(ste, 5, 4);
    bad(ssidSize !== 0 && cdMax !== 0 && !bit(idr0, 19) && (fmt === 1 || fmt === 2));
    bad(bits(ste, 55, 6) << 6n >= 1n << BigInt(s2 ? inputSize(s) : s.oas));
  }
  const ds = hasDs(s) && bit(ste, 195);
  if (s2) {
    bad(!bit(ste, 179) || !bit(idr0, 3));
    bad((s2s && stallModel === 1) || (!s2s && stallModel === 2));
    const httu = num(BigInt(idr0), 7, 6);
    const ha = bit(ste, 184);
    const hd = bit(ste, 183);
    bad((ha || hd) && httu === 0);
    bad(hd && httu === 1);
    bad(httu === 3 && bit(ste, 187) && !ha);
    const tg = num(ste, 175, 174);
    bad(tg === 3 || !bit(idr5, [4, 6, 5][tg]));
    const t0sz = num(ste, 165, 160);
    const stt = bit(idr3, 9);
    bad(t0sz > (stt ? (tg === 1 ? 47 : 48) : 39));
    bad(t0sz < Math.max(tg === 1 || ds ? 12 : 16, 64 - inputSize(s)));
    bad(start2(s) === undefined);
    const ps = stage2Size(s);
    bad((bits(ste, 247, 196) << 4n) >= 1n << BigInt(tg !== 1 && !ds ? Math.min(48, ps) : ps));
    endian(s, bit(ste, 180), E.BAD_STE);
  }
  const el1 = !(config === 5 && bit(idr0, 9) && strw === 2);
  bad(bit(idr0, 0) && !bit(idr0, 18) && config !== 4 && el1 && num(ste, 143, 136) !== 0);
}

function endian(s: State, big: boolean, type: number): void {
  const model = num(BigInt(s.id.idr0), 22, 21);
  if ((model === 2 && big) || (model === 3 && !big)) throw new Stop(type);
}

export function checkCd(s: State): void {
  const cd = s.cd;
  const { idr0, idr3, idr5 } = s.id;
  const bad = (when: boolean): void => {
    if (when) throw new Stop(E.BAD_CD);
  };
  bad(!bit(cd, 31));
  const stalls = bit(cd, 44);
  const stallModel = num(BigInt(idr0), 25, 24);
  bad(bit(s.ste, 91) && stalls);
  bad(bit(idr0, 26) && !bit(cd, 46));
  bad((stallModel === 1 && stalls) || (stallModel === 2 && !stalls));
  bad(!bit(cd, 41) || !bit(idr0, 3));
  const httu = num(BigInt(idr0), 7, 6);
  bad((bit(cd, 43) || bit(cd, 42)) && httu === 0);
  bad(bit(cd, 42) && httu === 1);
  bad(httu === 3 && bit(cd, 67) && !bit(cd, 43));
  bad(!bit(idr0, 12) && !isEl2(s) && num(cd, 63, 56) !== 0);
  const ds = hasDs(s) && bit(cd, 186);
  for (const half of halvesOf(s)) {
    if (!half.enabled) continue;
    endian(s, bit(cd, 15), E.BAD_CD);
    bad(half.granule === 0 || !bit(idr5, { 12: 4, 14: 5, 16: 6 }[half.granule] ?? 31));
    const wide = num(BigInt(idr5), 11, 10) >= 1 && (half.granule === 16 || ds);
    bad(half.size > (bit(idr3, 9) ? (half.granule === 16 ? 47 : 48) : 39) || half.size < (wide ? 12 : 16));
    bad(half.base >= 1n << BigInt(half.granule !== 16 && !ds ? Math.min(48, stage1Size(s)) : stage1Size(s)));
  }
}
