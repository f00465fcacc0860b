/** Where the stream table entry and the context descriptor of a request lie (3.3, 5.3, 5.4). */
import { align, bit, bits, num } from "./bits.js";
import { inputSize } from "./controls.js";
import { E, type State, Stop } from "./request.js";
import { throughSecond } from "./stage2.js";

export function streamEntry(s: State, stream: number): bigint {
  const { strtabBase, strtabCfg } = s.registers;
  const log2 = strtabCfg & 63;
  const twoLevel = num(BigInt(s.id.idr0), 28, 27) === 1 && ((strtabCfg >> 16) & 3) === 1;
  if (BigInt(stream) >= 1n << BigInt(Math.min(log2, s.id.idr1 & 63))) throw new Stop(E.BAD_STREAMID);
  const base = strtabBase & 0xff_ffff_ffff_ffc0n;
  if (!twoLevel) return structure(s, align(base, 1n << BigInt(log2 + 6)) + BigInt(stream) * 64n, E.STE_FETCH);
  const coded = (strtabCfg >> 6) & 31;
  const split = coded === 8 || coded === 10 ? coded : 6;
  const table = align(base, 1n << BigInt(Math.max(6, log2 - split + 3)));
  const at = table + BigInt(Math.floor(stream / 2 ** split)) * 8n;
  const l1 = s.memory.read(at);
  if (l1 === undefined) throw new Stop(E.STE_FETCH, { fetch: at });
  const span = num(l1, 4, 0);
  if (span === 0 || span >= 12 || span > split + 1) throw new Stop(E.BAD_STREAMID);
  const below = stream % 2 ** split;
  if (below >= 2 ** (span - 1)) throw new Stop(E.BAD_STREAMID);
  return structure(s, align(l1 & 0xff_ffff_ffff_ffc0n, 1n << BigInt(5 + span)) + BigInt(below) * 64n, E.STE_FETCH);
}

/** 64 bytes as one number. */
function structure(s: State, at: bigint, type: number): bigint {
  let value = 0n;
  for (let i = 0n; i < 8n; i++) {
    const word = s.memory.read(at + i * 8n);
    if (word === undefined) throw new Stop(type, { fetch: at });
    value |= word << (i * 64n);
  }
  return value;
}

export function contextDescriptor(s: State, index: number, cdMax: number): bigint {
  const pointer = bits(s.ste, 55, 6) << 6n;
  const fmt = cdMax === 0 ? 0 : num(s.ste, 5, 4);
  if (fmt === 0 || fmt === 3) return cdAt(s, align(pointer, 64n << BigInt(cdMax)) + BigInt(index) * 64n);
  const leaf = fmt === 1 ? 6 : 10;
  const entries = Math.max(1, 2 ** (cdMax - leaf));
  const at = align(pointer, BigInt(Math.max(64, entries * 8))) + BigInt(Math.floor(index / 2 ** leaf)) * 8n;
  const physical = s.stage2 ? throughSecond(s, at, { read: true, write: false, fetch: false, privileged: false }, "CD") : at;
  const l1 = s.memory.read(physical);
  if (l1 === undefined) throw new Stop(E.CD_FETCH, { fetch: physical });
  const table = bits(l1, 55, 12) << 12n;
  if (!bit(l1, 0) || table >= 1n << BigInt(s.stage2 ? inputSize(s) : s.oas)) throw new Stop(E.BAD_SUBSTREAMID);
  return cdAt(s, align(table, 64n << BigInt(leaf)) + BigInt(index % 2 ** leaf) * 64n);
}

function cdAt(s: State, at: bigint): bigint {
  const physical = s.stage2 ? throughSecond(s, at, { read: true, write: false, fetch: false, privileged: false }, "CD") : at;
  return structure(s, physical, E.CD_FETCH);
}
