/** First and second stage (VT-d 3.6, 3.7, 3.8, 9.7, 9.8): steps 9 and 10. */
import { Stop } from "./conditions.js";
import type { ReferenceState } from "./request.js";
import type { PasidEntry } from "./structures.js";
import type { Trail } from "./trail.js";
import { bits, E } from "./unit.js";

const ones = (high: bigint | number, low: bigint | number = high): bigint =>
  BigInt(high) < BigInt(low) ? 0n : ((1n << (BigInt(high) - BigInt(low) + 1n)) - 1n) << BigInt(low);

/** Index of an address into the table of a level; level 0 is the last. */
const indexOf = (address: bigint, level: number): bigint => (address >> BigInt(12 + 9 * level)) & 511n;
const pageBits = (level: number): bigint => BigInt(12 + 9 * level);
const frameOf = (entry: bigint, level: number): bigint => (bits(entry, 51, 12) << 12n) & ~ones(pageBits(level) - 1n, 0);

/** A walk's entry whose flags may have to be set. */
interface Met {
  readonly address: bigint;
  readonly value: bigint;
  readonly leaf: boolean;
}

export interface SecondStage {
  readonly table: bigint;
  readonly aw: bigint;
  readonly legacy: boolean;
  /** Accessed and dirty flags are kept (SSADE). */
  readonly flags: boolean;
}

export interface SecondResult {
  readonly address: bigint;
  readonly size: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly snoop: boolean;
  readonly path: readonly Met[];
}

/** 9.8: reserved bits of an entry that grants something. */
function secondReserved(state: ReferenceState, level: number, leaf: boolean, ssirwe: boolean): bigint {
  const { unit } = state;
  let mask = ones(51, unit.haw);
  if (!ssirwe) mask |= ones(62);
  if (!leaf) return level >= 3 ? mask | ones(7) | ones(11) : mask | ones(11);
  if (!unit.ecap(E.SC)) mask |= ones(11);
  if (level > 0) mask |= ones(pageBits(level) - 1n, 12);
  if (level === 1 && unit.cap(34) === 0n) mask |= ones(7);
  if (level === 2 && unit.cap(35) === 0n) mask |= ones(7);
  return mask;
}

/** 3.7: rights are the AND of all levels; what the request needs of them is decided by the caller. */
export function secondStage(state: ReferenceState, stage: SecondStage, address: bigint, trail: Trail): SecondResult {
  const ssirwe = bits(state.rtaddr, 7) === 1n && !stage.legacy;
  const top = Number(stage.aw) + 1;
  let table = stage.table;
  let read = true;
  let write = true;
  const path: Met[] = [];
  for (let level = top; ; level--) {
    const at = table + indexOf(address, level) * 8n;
    const value = state.memory.read64(at);
    if (value === undefined) throw new Stop(level === top ? (stage.legacy ? "LCT.4.3" : "SSS.4") : stage.legacy ? "LSS.1" : "SSS.1");
    const mayRead = bits(value, ssirwe ? 61 : 0) === 1n;
    const mayWrite = bits(value, ssirwe ? 62 : 1) === 1n;
    read &&= mayRead;
    write &&= mayWrite;
    // 3.7.1: reserved bits count only in an entry that grants something.
    if (!mayRead && !mayWrite) {
      if (!stage.legacy) throw new Stop("SSS.2");
      return { address: 0n, size: 12n, read: false, write: false, snoop: false, path };
    }
    const leaf = level === 0 || (level <= 2 && bits(value, 7) === 1n);
    if ((value & secondReserved(state, level, leaf, ssirwe)) !== 0n) throw new Stop(stage.legacy ? "LSS.2" : "SSS.3");
    path.push({ address: at, value, leaf });
    if (stage.flags) trail.may(at, ones(8));
    if (!leaf) {
      table = frameOf(value, 0);
      continue;
    }
    if (!read && !write && !stage.legacy) throw new Stop("SSS.2");
    const size = pageBits(level);
    return { address: frameOf(value, level) | (address & ones(size - 1n, 0)), size, read, write, snoop: bits(value, 11) === 1n, path };
  }
}

/** 3.7.2: A of every entry that was used, D of the leaf for a write. Needs a snooped walk when something is to be set; writes only with `set`. */
export function checkSecondFlags(state: ReferenceState, entry: PasidEntry, result: SecondResult, write: boolean, trail: Trail, set: boolean): void {
  if (!entry.ssade) return;
  for (const met of result.path) {
    const flags = ones(8) | (met.leaf && write ? ones(9) : 0n);
    owe(state, entry, met, flags, trail, set, "SSS.5", "SSS.6");
  }
}

/** An entry as this walk has left it: one table can be met twice. */
function flagsNow(state: ReferenceState, met: Met, trail: Trail): bigint {
  return (state.memory.read64(met.address) ?? 0n) | (trail.set.get(met.address) ?? 0n);
}

/** One atomic update of one entry, if any of the flags is missing. */
function owe(state: ReferenceState, entry: PasidEntry, met: Met, flags: bigint, trail: Trail, set: boolean, unsnooped: string, failed: string): void {
  if ((flagsNow(state, met, trail) & flags) === flags) return;
  if (!entry.pwsnp || !state.unit.ecap(E.SMPWC)) throw new Stop(unsnooped);
  if (!set) return;
  if (!state.memory.writable(met.address)) throw new Stop(failed);
  trail.must(met.address, flags);
}

export interface FirstRequest {
  readonly address: bigint;
  readonly privileged: boolean;
}

interface FirstMet extends Met {
  /** Nested: how the entry itself was reached through the second stage. */
  readonly through: SecondResult | undefined;
}

export interface FirstResult {
  readonly address: bigint;
  readonly size: bigint;
  readonly write: boolean;
  readonly path: readonly FirstMet[];
}

/** 9.7 */
function firstReserved(state: ReferenceState, level: number, leaf: boolean): bigint {
  let mask = ones(51, state.unit.haw);
  if (level >= 3) mask |= ones(7);
  if (leaf && level > 0) mask |= ones(pageBits(level) - 1n, 13);
  if (leaf && level === 2 && state.unit.cap(56) === 0n) mask |= ones(7);
  return mask;
}

/** 3.6.1: the bits above the top table's index repeat its highest bit. */
export function checkCanonical(entry: PasidEntry, address: bigint): void {
  const sign = entry.fiveLevels ? 56 : 47;
  const upper = bits(address, 63, sign);
  if (upper !== 0n && upper !== ones(63 - sign, 0)) throw new Stop("SGN.1");
}

/** 3.8: where an entry of a first-stage table lies in host memory. */
function throughSecond(state: ReferenceState, entry: PasidEntry, guest: bigint, top: boolean, trail: Trail): SecondResult {
  const stage = { table: entry.secondTable, aw: entry.aw, legacy: false, flags: entry.ssade };
  const result = secondStage(state, stage, guest, trail);
  if (!result.read) throw new Stop(top ? "SFS.6" : "SFS.7");
  if (entry.ssade && !result.write) throw new Stop(state.unit.choices.ssadeDenied === "SFS.8" ? "SFS.8" : top ? "SFS.6" : "SFS.7");
  return result;
}

/** As `throughSecond`; a denial by U/S further up may come first. */
function reachTable(state: ReferenceState, entry: PasidEntry, guest: bigint, top: boolean, denied: boolean, trail: Trail): SecondResult {
  try {
    return throughSecond(state, entry, guest, top, trail);
  } catch (error) {
    throw denied && state.unit.choices.userDenial === "first" ? new Stop("SGN.2") : error;
  }
}

/** 3.6: level by level; R/W is judged by the caller, from all levels. */
export function firstStage(state: ReferenceState, entry: PasidEntry, request: FirstRequest, trail: Trail): FirstResult {
  const nested = entry.pgtt === 3n;
  const top = entry.fiveLevels ? 4 : 3;
  const path: FirstMet[] = [];
  let table = entry.firstTable;
  let write = true;
  let denied = false;
  for (let level = top; ; level--) {
    const guest = table + indexOf(request.address, level) * 8n;
    const through = nested ? reachTable(state, entry, guest, level === top, denied, trail) : undefined;
    const at = through?.address ?? guest;
    const value = state.memory.read64(at);
    // 3.6.1 tests U/S in every entry that is present: whether that comes before what is wrong below is not told.
    const stop = (condition: string): Stop => new Stop(denied && state.unit.choices.userDenial === "first" ? "SGN.2" : condition);
    if (value === undefined) throw stop(level === top ? "SFS.4" : "SFS.1");
    if (bits(value, 0) === 0n) throw stop("SFS.2");
    const leaf = level === 0 || (level <= 2 && bits(value, 7) === 1n);
    if ((value & firstReserved(state, level, leaf)) !== 0n) throw stop("SFS.3");
    const target = frameOf(value, leaf ? level : 0);
    if (nested && target >= 1n << state.unit.inputBits(entry.aw)) throw stop("SFS.5");
    denied ||= !request.privileged && bits(value, 2) === 0n;
    write &&= bits(value, 1) === 1n;
    path.push({ address: at, value, leaf, through });
    trail.may(at, entry.eafe ? ones(5) | ones(10) : ones(5));
    // A flag set on the way writes the first-stage entry, and so dirties the page that holds it.
    if (through && entry.ssade) trail.may(through.path[through.path.length - 1].address, ones(9));
    if (!leaf) {
      table = target;
      continue;
    }
    if (denied) throw new Stop("SGN.2");
    const size = pageBits(level);
    // 3.6.1: a supervisor may write read-only pages while WPE=0.
    return { address: target | (request.address & ones(size - 1n, 0)), size, write: write || (request.privileged && !entry.wpe), path };
  }
}

/** 3.6.2, 3.8.1: A, EA and D, in the order in which the entries were met; nested, with those of the second stage on the way. */
export function checkFirstFlags(state: ReferenceState, entry: PasidEntry, result: FirstResult, write: boolean, trail: Trail, set: boolean): void {
  for (const met of result.path) {
    const flags = ones(5) | (entry.eafe ? ones(10) : 0n) | (met.leaf && write ? ones(6) : 0n);
    const update = (flagsNow(state, met, trail) & flags) !== flags;
    if (met.through) {
      checkSecondFlags(state, entry, met.through, !update && state.unit.choices.dirtyTables === "reads", trail, set);
      if (update && !met.through.write) throw new Stop("SFS.8");
      // An entry that cannot be written does not dirty its page.
      owe(state, entry, met, flags, trail, false, "SFS.9", "SFS.10");
      if (update) checkSecondFlags(state, entry, met.through, true, trail, set);
    }
    owe(state, entry, met, flags, trail, set, "SFS.9", "SFS.10");
  }
}
