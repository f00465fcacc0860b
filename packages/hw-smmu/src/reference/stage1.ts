/** Stage 1 (DDI0487 D8): from an input address to an intermediate one. Updates come when the rest of the way is free. */
import { align, bit, bits, num } from "./bits.js";
import { halvesOf, hasDs, isEl2, stage1Size } from "./controls.js";
import { blockAllowed, load, output, store } from "./descriptors.js";
import { E, type State, Stop } from "./request.js";
import { throughSecond } from "./stage2.js";

export function firstStage(s: State, input: bigint): { address: bigint; attributes: readonly [byte: number, sh: number]; update: (() => void) | undefined } {
  const cd = s.cd;
  const need = s.need;
  const halves = halvesOf(s);
  const fault = (type: number, more: Stop["more"] = {}): Stop => new Stop(type, { controlled: true, ...more });
  const upper = bit(input, 55);
  const half = halves[upper ? 1 : 0];
  if (!half.enabled) throw fault(E.TRANSLATION);
  const top = half.tbi ? 55 : 63;
  const width = 64 - half.size;
  const sign = bits(input, top, width);
  if (sign !== (upper ? (1n << BigInt(top - width + 1)) - 1n : 0n)) throw fault(E.TRANSLATION);
  if (half.e0pd && !need.privileged) throw fault(E.TRANSLATION);
  const ds = hasDs(s) && bit(cd, 186);
  const g = half.granule;
  const stride = g - 3;
  const va = bits(input, width - 1, 0);
  const big = bit(cd, 15);
  let level = 4 - Math.ceil((width - g) / stride);
  const startWidth = width - (g + stride * (3 - level));
  let table = align(half.base, BigInt(Math.max(2 ** startWidth * 8, stage1Size(s) > 48 ? 64 : 8)));
  const path: { ipa: bigint; physical: bigint; d: bigint }[] = [];
  let noUnprivileged = false;
  let noWrite = false;
  let tableUxn = false;
  let tablePxn = false;
  for (;;) {
    const shift = g + stride * (3 - level);
    const index = path.length === 0 ? va >> BigInt(shift) : bits(va, shift + stride - 1, shift);
    const ipa = table + index * 8n;
    const physical = s.stage2 ? throughSecond(s, ipa, { read: true, write: false, fetch: false, privileged: false }, "TT") : ipa;
    const d = load(s, physical, big);
    if (d === undefined) throw new Stop(E.WALK_EABT, { cause: "TT", fetch: physical });
    path.push({ ipa, physical, d });
    const isTable = level < 3 && bit(d, 1);
    const isLeaf = level === 3 ? bit(d, 1) : !bit(d, 1) && blockAllowed(s, g, level, ds);
    if (!bit(d, 0) || (!isTable && !isLeaf)) throw fault(E.TRANSLATION);
    if (output(s, d, g, g, ds) >= 1n << BigInt(stage1Size(s))) throw fault(E.ADDR_SIZE);
    if (isLeaf) break;
    if (!half.had) {
      noUnprivileged ||= bit(d, 61);
      noWrite ||= bit(d, 62);
      tableUxn ||= bit(d, 60);
      tablePxn ||= bit(d, 59);
    }
    table = output(s, d, g, g, ds);
    level++;
  }
  const shift = g + stride * (3 - level);
  const { d } = path[path.length - 1];
  const ha = bit(cd, 43);
  const hd = ha && bit(cd, 42);
  const af = bit(d, 10);
  if (!af && !ha && !bit(cd, 35)) throw fault(E.ACCESS);
  const clean = hd && bit(d, 51) && bit(d, 7);
  const wxn = bit(cd, 36);
  const writable = (!bit(d, 7) || clean) && !noWrite;
  const allowed = { read: true, write: writable, fetch: true };
  const uxn = bit(d, 54) || tableUxn;
  if (isEl2(s)) allowed.fetch = !uxn && !(wxn && writable);
  else {
    const userRead = bit(d, 6) && !noUnprivileged;
    const userWrite = userRead && writable;
    const userFetch = !uxn && !(wxn && userWrite);
    if (need.privileged) {
      const pan = bit(cd, 40) && (userRead || userWrite || (bit(s.id.idr3, 17) && bit(cd, 123) && userFetch));
      allowed.read = !pan;
      allowed.write = writable && !pan;
      allowed.fetch = !(bit(d, 53) || tablePxn) && !userWrite && !(wxn && writable);
    } else Object.assign(allowed, { read: userRead, write: userWrite, fetch: userFetch });
  }
  permit(s, allowed, fault);
  const low = BigInt(shift);
  const address = align(output(s, d, g, g, ds), 1n << low) + (va % (1n << low));
  const tables = num(BigInt(s.id.idr0), 7, 6) === 3 && bit(cd, 67);
  const changed = (ha && !af ? 1n << 10n : 0n) | 0n;
  const dirties = clean && need.write;
  const update = (): void => {
    path.forEach((entry, i) => {
      const leaf = i === path.length - 1;
      let value = entry.d;
      if (leaf) value = (value | changed) & (dirties ? ~(1n << 7n) : -1n);
      else if (tables) value |= 1n << 10n;
      if (value === entry.d) return;
      if (s.stage2) {
        try {
          throughSecond(s, entry.ipa, { read: true, write: true, fetch: false, privileged: false }, "TT");
        } catch (error) {
          if (error instanceof Stop) throw new Stop(error.type, { ...error.more, tableWrite: true });
          throw error;
        }
      }
      store(s, entry.physical, value, big);
    });
  };
  const index = num(d, 4, 2);
  const sh = ds && g !== 16 ? num(cd, upper ? 29 : 13, upper ? 28 : 12) : num(d, 9, 8);
  return { address, attributes: [num(cd, 192 + index * 8 + 7, 192 + index * 8), sh], update };
}

/** 13.4: writes are looked at first. */
function permit(s: State, allowed: { read: boolean; write: boolean; fetch: boolean }, fault: (type: number, more?: Stop["more"]) => Stop): void {
  const need = s.need;
  if (need.write && !allowed.write) throw fault(E.PERMISSION);
  if (need.fetch ? !allowed.fetch : need.read && !allowed.read) throw fault(E.PERMISSION, { readAlone: need.write && s.minor >= 1 });
}
