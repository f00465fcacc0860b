/**
 * The two stages of paging (VT-d 3.6 to 3.8), each walk explained entry by entry.
 * Accesses to first-stage tables of a nested translation go through the second
 * stage first, and every one of those walks is shown.
 */
import { extractBits, type FieldTable } from "@iommukit/core";
import { breaksRules } from "../spec/conditions.js";
import { FIRST_STAGE_LEVELS, type PagingLevel, SECOND_STAGE_LEVELS } from "../spec/paging-entries.js";
import type { Stage, Translation } from "./locate.js";
import { Blocked, type Trail } from "./trail.js";
import { readWords } from "./unit.js";

/** What a request wants. An execute request is a read. */
export interface Wanted {
  readonly read: boolean;
  readonly write: boolean;
  readonly privileged: boolean;
}

/** Bits of rights: 1 read, 2 write. */
export interface Mapped {
  readonly pa: number;
  readonly pageSize: number;
  readonly rights: number;
}

const PS = 1n << 7n;
const FIRST = { P: 1n, RW: 2n, US: 4n, A: 0x20n, D: 0x40n, EA: 0x400n };
const SECOND = { A: 0x100n, D: 0x200n };

export const levelSize = (level: number): bigint => 1n << BigInt(12 + 9 * level);
const indexOf = (address: bigint, level: number): number => Number((address / levelSize(level)) & 511n);

export interface Entry {
  readonly table: FieldTable;
  readonly leaf: boolean;
}

/** What a word is at this level: the rows of a large page when PS is set, where there are such rows. */
export function entryKind(levels: readonly PagingLevel[], level: number, word: bigint): Entry {
  const { table, large } = levels[level];
  if (large !== undefined && (word & PS) !== 0n) return { table: large, leaf: true };
  return { table, leaf: level === 0 };
}

/** Address in an entry, in bytes. */
export function addressOf({ table }: Entry, word: bigint): number {
  const field = table.fields.find((row) => row.name === "ADDR");
  if (field === undefined) throw new RangeError(`${table.structure} has no address`);
  return Number(extractBits([word], field.low, field.width) << BigInt(field.low));
}

/** R and W of a second-stage entry, or IR and IW. */
export function secondStageRights(word: bigint, ssirwe: boolean): number {
  return Number((ssirwe ? word >> 61n : word) & 3n);
}

/** Highest address + 1 of a second stage: min(MGAW, AW). */
export function secondStageLimit(trail: Trail, stage: Stage): bigint {
  return 1n << BigInt(Math.min(trail.unit.caps.mgaw, 12 + 9 * (stage.topLevel + 1)));
}

/** Condition of a second-stage walk that is denied: of the request itself, or of a first-stage access. */
interface Denial {
  readonly read: string;
  readonly write: string;
}

interface Purpose {
  readonly depth: number;
  readonly purpose?: string;
}

/** @throws Blocked */
export function walkSecondStage(trail: Trail, t: Translation, address: bigint, wanted: Wanted, denial: Denial, why: Purpose): Mapped {
  const { unit } = trail;
  let table = t.secondStage.root;
  let rights = 3;
  let clean = false;
  for (let level = t.secondStage.topLevel; ; level--) {
    const index = indexOf(address, level);
    const pa = table + index * 8;
    const [word] = readWords(unit.source, pa, 64) ?? [];
    if (word === undefined) throw new Blocked(unreadableSecond(t, level));
    const entry = entryKind(SECOND_STAGE_LEVELS, level, word);
    const from = `${why.depth === 0 ? "IOVA" : "address"} bits ${20 + 9 * level}:${12 + 9 * level}`;
    trail.show(entry.table, pa, [word], { index: { value: index, from }, ...(why.depth === 0 ? {} : why) });
    const own = secondStageRights(word, unit.ssirwe);
    if (own === 0) throw new Blocked(t.legacy ? (wanted.write ? "LGN.2" : "LGN.3") : "SSS.2");
    if (breaksRules(entry.table, [word], unit)) throw new Blocked(t.legacy ? "LSS.2" : "SSS.3");
    rights &= own;
    clean ||= (word & SECOND.A) === 0n || (entry.leaf && wanted.write && (word & SECOND.D) === 0n);
    if (!entry.leaf) {
      table = addressOf(entry, word);
      continue;
    }
    if (rights === 0 && !t.legacy) throw new Blocked("SSS.2");
    if (wanted.write && (rights & 2) === 0) throw new Blocked(denial.write);
    if (wanted.read && (rights & 1) === 0) throw new Blocked(denial.read);
    if (t.secondStageDirty && clean) needsSnoop(trail, t, "SSS.5");
    const size = levelSize(level);
    return { pa: addressOf(entry, word) + Number(address % size), pageSize: Number(size), rights };
  }
}

function unreadableSecond(t: Translation, level: number): string {
  const top = level === t.secondStage.topLevel;
  if (t.legacy) return top ? "LCT.4.3" : "LSS.1";
  return top ? "SSS.4" : "SSS.1";
}

/** Accessed and dirty flags are set by snooped walks only (3.10). */
function needsSnoop(trail: Trail, t: Translation, condition: "SFS.9" | "SSS.5"): void {
  if (t.walkSnoop) return;
  if (trail.unit.strict) throw new Blocked(condition);
  const note = `an accessed or dirty flag must be set, but the walk is not snooped: a strict unit faults with ${condition === "SFS.9" ? "0x90 (SFS.9)" : "0x7c (SSS.5)"}`;
  if (!trail.notes.includes(note)) trail.notes.push(note);
}

/** The final address of a first-stage walk: guest-physical when nested. @throws Blocked */
export function walkFirstStage(trail: Trail, t: Translation, address: bigint, wanted: Wanted): Mapped {
  const { unit } = trail;
  const { topLevel } = t.firstStage;
  const nested = t.kind === "nested";
  let table = t.firstStage.root;
  let writable = true;
  const visited: { readonly at: number; readonly word: bigint; readonly leaf: boolean }[] = [];
  for (let level = topLevel; ; level--) {
    const index = indexOf(address, level);
    const at = table + index * 8;
    const name = FIRST_STAGE_LEVELS[level].table.structure;
    const pa = nested ? readThroughSecondStage(trail, t, at, level === topLevel ? "SFS.6" : "SFS.7", `for the ${name} at guest-physical 0x${at.toString(16)}`) : at;
    const [word] = readWords(unit.source, pa, 64) ?? [];
    if (word === undefined) throw new Blocked(level === topLevel ? "SFS.4" : "SFS.1");
    const entry = entryKind(FIRST_STAGE_LEVELS, level, word);
    const purpose = nested ? { purpose: `guest-physical 0x${at.toString(16)}` } : {};
    trail.show(entry.table, pa, [word], { index: { value: index, from: `IOVA bits ${20 + 9 * level}:${12 + 9 * level}` }, ...purpose });
    if ((word & FIRST.P) === 0n) throw new Blocked("SFS.2");
    if (breaksRules(entry.table, [word], unit)) throw new Blocked("SFS.3");
    const next = addressOf(entry, word);
    if (nested && BigInt(next) >= secondStageLimit(trail, t.secondStage)) throw new Blocked("SFS.5");
    if (!wanted.privileged && (word & FIRST.US) === 0n) throw new Blocked("SGN.2");
    writable &&= (word & FIRST.RW) !== 0n;
    visited.push({ at, word, leaf: entry.leaf });
    if (!entry.leaf) {
      table = next;
      continue;
    }
    const mayWrite = writable || (wanted.privileged && !t.writeProtect);
    if (wanted.write && !mayWrite) throw new Blocked("SGN.6");
    const size = levelSize(level);
    const mapped = { pa: next + Number(address % size), pageSize: Number(size), rights: mayWrite ? 3 : 1 };
    const final = nested ? throughSecondStage(trail, t, mapped, wanted) : mapped;
    updateFlags(trail, t, visited, wanted);
    return final;
  }
}

/** Host address of a first-stage entry. Reading one takes R, and W too when the second stage keeps dirty flags (3.8.1). */
function readThroughSecondStage(trail: Trail, t: Translation, at: number, denied: string, purpose: string): number {
  const wanted = { read: true, write: false, privileged: false };
  const mapped = walkSecondStage(trail, t, BigInt(at), wanted, { read: denied, write: denied }, { depth: 1, purpose });
  if (t.secondStageDirty && (mapped.rights & 2) === 0) throw new Blocked(denied);
  return mapped.pa;
}

/** The page itself: the second stage has the last word on where it is and what may be done. */
function throughSecondStage(trail: Trail, t: Translation, mapped: Mapped, wanted: Wanted): Mapped {
  if (BigInt(mapped.pa) >= secondStageLimit(trail, t.secondStage)) throw new Blocked("SFS.5");
  const purpose = `for the page at guest-physical 0x${mapped.pa.toString(16)}`;
  const host = walkSecondStage(trail, t, BigInt(mapped.pa), wanted, { read: "SGN.7", write: "SGN.6" }, { depth: 1, purpose });
  return { pa: host.pa, pageSize: Math.min(mapped.pageSize, host.pageSize), rights: mapped.rights & host.rights };
}

/** A, EA and D of the entries that were used; through the second stage that takes R and W there (SFS.8). */
function updateFlags(trail: Trail, t: Translation, visited: readonly { readonly at: number; readonly word: bigint; readonly leaf: boolean }[], wanted: Wanted): void {
  const accessed = FIRST.A | (t.extendedAccessed ? FIRST.EA : 0n);
  const dirty = visited.filter(({ word, leaf }) => {
    const needed = accessed | (leaf && wanted.write ? FIRST.D : 0n);
    return (word & needed) !== needed;
  });
  if (dirty.length === 0) return;
  needsSnoop(trail, t, "SFS.9");
  if (t.kind !== "nested") return;
  const { length } = trail.steps;
  for (const { at } of dirty) {
    const { rights } = walkSecondStage(trail, t, BigInt(at), { read: true, write: false, privileged: false }, { read: "SFS.8", write: "SFS.8" }, { depth: 1 });
    if ((rights & 2) === 0) throw new Blocked("SFS.8");
  }
  // The same entries again: shown once is enough.
  trail.steps.length = length;
}
