/**
 * Random configurations: mostly valid tables with a few mutations, so that requests get deep before something stops them. A
 * configuration is plain data, and can be printed and shrunk.
 */
import { Random } from "./random.js";
import type { Kind } from "./request.js";
import type { UnitWords } from "./unit.js";
import { E } from "./unit.js";

export interface Question {
  readonly kind: Kind;
  readonly rid: number;
  /** -1: without. */
  readonly pasid: number;
  readonly address: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  readonly privileged: boolean;
  readonly zeroLength: boolean;
}

export interface Configuration {
  readonly seed: number;
  readonly rtaddr: bigint;
  readonly enabled: boolean;
  /** Memory, word by word; everything else is 0. */
  readonly words: ReadonlyMap<number, bigint>;
  readonly questions: readonly Question[];
}

/** Where memory is: low RAM, RAM above 32 bits, and a part that takes no writes. */
export const LOW_RAM: number = 0x20_0000;
/** A page of its own, where no table points. */
export const PAGE_QUEUE: number = 0x1800_0000;
export const HIGH_RAM: number = 0x40_0000_0000;
export const HIGH_BYTES: number = 0x10_0000;
export const READ_ONLY: number = 0x1000_0000;
export const READ_ONLY_BYTES: number = 0x10_0000;

export function answers(address: number): boolean {
  return address < LOW_RAM || inHigh(address) || inReadOnly(address);
}

export function inHigh(address: number): boolean {
  return address >= HIGH_RAM && address < HIGH_RAM + HIGH_BYTES;
}

export function inReadOnly(address: number): boolean {
  return address >= READ_ONLY && address < READ_ONLY + READ_ONLY_BYTES;
}

const CAP_FIXED = (1n << 39n) | (18n << 48n) | (3n << 54n) | (1n << 63n) | (0x22n << 24n);
const ECAP_FIXED = 0b11n | (0xfn << 8n);

/** A unit, with every optional part of translation there or not. What depends on something else comes with it (11.4.2, 11.4.3). */
export function randomUnit(random: Random): UnitWords {
  const yes = (probability: number): boolean => random.chance(probability);
  const on = new Set<number>();
  const add = (bit: number, when: boolean): void => void (when && on.add(bit));
  const scalable = yes(0.85);
  add(E.DT, yes(0.8));
  add(E.PT, yes(0.9));
  add(E.SC, yes(0.7));
  add(E.NWFS, on.has(E.DT) && yes(0.7));
  if (scalable) {
    on.add(E.SMTS);
    add(E.MTS, yes(0.5));
    add(E.FSTS, yes(0.9));
    add(E.SSTS, !on.has(E.FSTS) || yes(0.9));
    add(E.NEST, on.has(E.FSTS) && on.has(E.SSTS) && yes(0.95));
    add(E.PRS, on.has(E.DT) && yes(0.8));
    add(E.SRS, yes(0.7));
    add(E.SMPWC, yes(0.85));
    add(E.EAFS, on.has(E.FSTS) && on.has(E.SMPWC) && yes(0.7));
    add(E.SSADS, on.has(E.SMPWC) && on.has(E.SSTS) && yes(0.8));
    add(E.PASID, yes(0.9));
    add(E.RPS, yes(0.7));
    add(E.ADMS, yes(0.5));
    add(E.RPRIVS, on.has(E.SRS) && yes(0.7));
    add(E.PTRS, on.has(E.PASID) && on.has(E.DT) && yes(0.5));
    add(E.SSIRWS, on.has(E.SSTS) && yes(0.5));
    add(E.HPTS, on.has(E.DT) && yes(0.6));
    add(E.HPT1GPS, on.has(E.HPTS) && yes(0.5));
  }
  let ecap = ECAP_FIXED | (BigInt(random.pick([19, 19, 15, 14, 7])) << 35n);
  for (const bit of on) ecap |= 1n << BigInt(bit);
  const first = on.has(E.FSTS);
  let cap = CAP_FIXED | BigInt(random.below(7)) | (BigInt(1 + random.below(7)) << 9n) | (BigInt(random.pick([38, 44, 47, 47, 56]) & 63) << 16n);
  cap |= (BigInt(random.pick([0, 1, 3, 3, 3])) << 34n) | (random.flag(0.7) << 22n);
  if (first && yes(0.7)) cap |= 1n << 56n;
  if (first && yes(0.6)) cap |= 1n << 60n;
  const version = random.pick([0x10, 0x30, 0x50, 0x60, 0x70, 0x80]);
  return { version, cap, ecap, haw: random.pick([39, 42, 46, 48, 52]) };
}
