/** Host permission tables (VT-d 3.12, 9.9): what translated requests may reach. */
import { Stop } from "./conditions.js";
import type { ReferenceRequest, ReferenceState } from "./request.js";
import type { PasidEntry } from "./structures.js";
import { bits, E } from "./unit.js";

/** Bits that index a table, and bits that choose one of its entry's permissions. */
interface Level {
  readonly index: readonly [number, number];
  readonly permission: readonly [number, number] | undefined;
}

const LEVELS: readonly Level[] = [
  { index: [51, 41], permission: undefined },
  { index: [40, 33], permission: [32, 30] },
  { index: [32, 25], permission: [24, 21] },
  { index: [24, 17], permission: [16, 12] },
];

export function checkHostPermission(state: ReferenceState, entry: PasidEntry, request: ReferenceRequest): void {
  const { unit, memory } = state;
  const { address } = request;
  // HPTSZ: 4 KiB of 16-byte entries that cover 2^41 each, doubled with each step.
  if (address >= 1n << (49n + entry.hostSize)) throw new Stop("SPT.9");
  let table = entry.hostTable;
  for (const [depth, { index, permission }] of LEVELS.entries()) {
    const at = table + bits(address, ...index) * 16n;
    const [low, high] = [memory.read64(at), memory.read64(at + 8n)];
    if (low === undefined || high === undefined) throw new Stop(depth === 0 ? "HPT.3" : "HPT.1");
    const whole = (high << 64n) | low;
    const last = depth === 3;
    // 1 GiB permissions are optional.
    const field = depth === 1 && !unit.ecap(E.HPT1GPS) ? undefined : permission;
    const count = field === undefined ? 0n : 1n << BigInt(field[0] - field[1] + 1);
    for (let i = 0n; i < 32n; i++) {
      const four = (whole >> (4n * i)) & 15n;
      const reserved = i < count ? 12n : last || i < 16n ? 15n : 0n;
      if ((four & reserved) !== 0n) throw new Stop("HPT.2");
    }
    if (!last && (bits(high, 11, 1) !== 0n || high >> unit.haw !== 0n)) throw new Stop("HPT.2");
    const rights = field === undefined ? 0n : (whole >> (4n * bits(address, ...field))) & 3n;
    if (rights !== 0n || last || bits(high, 0) === 0n) {
      judge(state, request, rights);
      return;
    }
    table = bits(high, 63, 12) << 12n;
  }
}

function judge({ unit }: ReferenceState, request: ReferenceRequest, rights: bigint): void {
  if (request.zeroLength && unit.cap(22) === 1n) {
    if (rights === 0n) throw new Stop("HPT.4");
    return;
  }
  if (request.write && bits(rights, 1) === 0n) throw new Stop("HPT.5");
  if (request.read && bits(rights, 0) === 0n) throw new Stop("HPT.6");
}
