/** Stage 2 (DDI0487 D8): from an intermediate address to a physical one. */
import { align, bit, bits, num } from "./bits.js";
import { hasDs, stage2Size, start2 } from "./controls.js";
import { blockAllowed, load, output, store } from "./descriptors.js";
import { type Cause, E, type Need, type State, Stop } from "./request.js";

/** Through stage 2, with its updates. */
export function throughSecond(s: State, ipa: bigint, need: Need, cause: Cause): bigint {
  const { address, update } = secondStage(s, ipa, need, cause);
  update?.();
  return address;
}

export function secondStage(s: State, ipa: bigint, need: Need, cause: Cause): { address: bigint; d: bigint; update: (() => void) | undefined } {
  const ste = s.ste;
  const fault = (type: number, more: Stop["more"] = {}): Stop => new Stop(type, { controlled: true, stage2: true, cause, ipa, ...more });
  const t0sz = num(ste, 165, 160);
  if (ipa >= 1n << BigInt(64 - t0sz)) throw fault(E.TRANSLATION);
  const g = [12, 16, 14][num(ste, 175, 174)];
  const stride = g - 3;
  const ds = hasDs(s) && bit(ste, 195);
  const start = start2(s);
  if (start === undefined) throw new Error("stage 2 without a start level");
  const big = bit(ste, 180);
  let { level } = start;
  let table = align(bits(ste, 247, 196) << 4n, BigInt(Math.max(2 ** start.width * 8, stage2Size(s) > 48 ? 64 : 8)));
  const path: { at: bigint; d: bigint }[] = [];
  for (;;) {
    const shift = g + stride * (3 - level);
    const index = path.length === 0 ? ipa >> BigInt(shift) : bits(ipa, shift + stride - 1, shift);
    const at = table + index * 8n;
    const d = load(s, at, big);
    if (d === undefined) throw new Stop(E.WALK_EABT, { stage2: true, cause, ipa, fetch: at });
    path.push({ at, d });
    const isTable = level < 3 && bit(d, 1);
    const isLeaf = level === 3 ? bit(d, 1) : !bit(d, 1) && blockAllowed(s, g, level, ds);
    if (!bit(d, 0) || (!isTable && !isLeaf)) throw fault(E.TRANSLATION);
    if (output(s, d, g, g, ds) >= 1n << BigInt(stage2Size(s))) throw fault(E.ADDR_SIZE);
    if (isLeaf) break;
    table = output(s, d, g, g, ds);
    level++;
  }
  const { d } = path[path.length - 1];
  const ha = bit(ste, 184);
  const hd = ha && bit(ste, 183);
  const af = bit(d, 10);
  if (!af && !ha && !bit(ste, 181)) throw fault(E.ACCESS);
  const clean = hd && bit(d, 51) && !bit(d, 7);
  const xn = bit(s.id.idr3, 4) ? num(d, 54, 53) : bit(d, 54) ? 2 : 0;
  const allowed = { read: bit(d, 6), write: bit(d, 7) || clean, fetch: xn === 0 || (xn === 1 && !need.privileged) || (xn === 3 && need.privileged) };
  if (need.write && !allowed.write) throw fault(E.PERMISSION);
  if (need.fetch ? !allowed.fetch : need.read && !allowed.read) throw fault(E.PERMISSION, { readAlone: cause === "IN" && need.write && s.minor >= 1 });
  if (cause !== "IN" && bit(ste, 182)) {
    const attributes = num(d, 5, 2);
    const device = bit(s.id.idr3, 8) && bit(ste, 89) ? (attributes & 4) === 0 : attributes < 4;
    if (device) throw fault(E.PERMISSION);
  }
  const shift = BigInt(g + stride * (3 - level));
  const address = align(output(s, d, g, g, ds), 1n << shift) + (ipa % (1n << shift));
  const tables = num(BigInt(s.id.idr0), 7, 6) === 3 && bit(ste, 187);
  const update = (): void => {
    path.forEach((entry, i) => {
      const leaf = i === path.length - 1;
      let value = entry.d;
      if (leaf && ha && !af) value |= 1n << 10n;
      if (leaf && clean && need.write) value |= 1n << 7n;
      if (!leaf && tables) value |= 1n << 10n;
      if (value !== entry.d) store(s, entry.at, value, big);
    });
  };
  return { address, d, update };
}
