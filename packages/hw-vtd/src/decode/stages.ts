/**
 * The two stages of paging (VT-d 3.6 to 3.8), each walk explained entry by entry.
 * Accesses to first-stage tables of a nested translation go through the second
 * stage first, and every one of those walks is shown.
 */
import { extractBits, type FieldTable } from "@iommukit/core";
import { readWords } from "@iommukit/core/decode";
import { breaksRules } from "../spec/conditions.js";
import { FIRST_STAGE_LEVELS, type PagingLevel, SECOND_STAGE_LEVELS } from "../spec/paging-entries.js";
import type { Stage, Translation } from "./locate.js";
import { Blocked, type Trail } from "./trail.js";

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

/** A second-stage walk, and which flags its entries lack. */
export interface SecondMapped extends Mapped {
  /** Some entry has A=0. */
  readonly notAccessed: boolean;
  /** The leaf has D=0. */
  readonly notDirty: boolean;
}

const INTERRUPT_FIRST = 0xfee0_0000;
const INTERRUPT_LAST = 0xfeef_ffff;
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

/** Walk and permissions; flags are the caller's business. @throws Blocked */
export function walkSecondStage(trail: Trail, t: Translation, address: bigint, wanted: Wanted, denial: Denial, why: Purpose): SecondMapped {
  const { unit } = trail;
  let table = t.secondStage.root;
  let rights = 3;
  let notAccessed = false;
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
    notAccessed ||= (word & SECOND.A) === 0n;
    if (!entry.leaf) {
      table = addressOf(entry, word);
      continue;
    }
    if (rights === 0 && !t.legacy) throw new Blocked("SSS.2");
    if (wanted.write && (rights & 2) === 0) throw new Blocked(denial.write);
    if (wanted.read && (rights & 1) === 0) throw new Blocked(denial.read);
    const size = levelSize(level);
    return { pa: addressOf(entry, word) + Number(address % size), pageSize: Number(size), rights, notAccessed, notDirty: (word & SECOND.D) === 0n };
  }
}

/** The second stage alone. @throws Blocked */
export function translateSecondStage(trail: Trail, t: Translation, address: bigint, wanted: Wanted): Mapped {
  if (address >= secondStageLimit(trail, t.secondStage)) throw new Blocked(t.legacy ? "LGN.1.1" : "SGN.5");
  const mapped = walkSecondStage(trail, t, address, wanted, t.legacy ? { read: "LGN.3", write: "LGN.2" } : { read: "SGN.7", write: "SGN.6" }, { depth: 0 });
  secondStageFlags(trail, t, mapped, wanted.write);
  checkOutput(t, mapped.pa);
  return mapped;
}

/** No request ends in the interrupt range (3.14). @throws Blocked */
export function checkOutput(t: Translation, pa: number): void {
  if (pa >= INTERRUPT_FIRST && pa <= INTERRUPT_LAST) throw new Blocked(t.legacy ? "LGN.4" : "SGN.8.1");
}

function secondStageFlags(trail: Trail, t: Translation, mapped: SecondMapped, dirties: boolean): void {
  if (t.secondStageDirty && (mapped.notAccessed || (dirties && mapped.notDirty))) needsSnoop(trail, t, "SSS.5");
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

/** A first-stage entry on the way. */
interface Visited {
  readonly word: bigint;
  readonly leaf: boolean;
  /** How the second stage maps the entry itself, when nested. */
  readonly through: SecondMapped | undefined;
}

/** The first stage, alone or through the second: the walk, then permissions, then flags in the order of the reads. @throws Blocked */
export function translateFirstStage(trail: Trail, t: Translation, address: bigint, wanted: Wanted): Mapped {
  const { unit } = trail;
  const { topLevel } = t.firstStage;
  const nested = t.kind === "nested";
  let table = t.firstStage.root;
  let writable = true;
  const visited: Visited[] = [];
  for (let level = topLevel; ; level--) {
    const index = indexOf(address, level);
    const at = table + index * 8;
    const name = FIRST_STAGE_LEVELS[level].table.structure;
    const through = nested ? readThroughSecondStage(trail, t, at, level === topLevel ? "SFS.6" : "SFS.7", `for the ${name} at guest-physical 0x${at.toString(16)}`) : undefined;
    const pa = through?.pa ?? at;
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
    visited.push({ word, leaf: entry.leaf, through });
    if (!entry.leaf) {
      table = next;
      continue;
    }
    const mayWrite = writable || (wanted.privileged && !t.writeProtect);
    if (wanted.write && !mayWrite) throw new Blocked("SGN.6");
    const size = levelSize(level);
    const mapped = { pa: next + Number(address % size), pageSize: Number(size), rights: mayWrite ? 3 : 1 };
    if (nested) return translateGuestPage(trail, t, mapped, wanted, visited);
    for (const step of visited) firstStageFlags(trail, t, step, wanted);
    checkOutput(t, mapped.pa);
    return mapped;
  }
}

/** Host address of a first-stage entry. Reading one takes R, and W too when the second stage keeps dirty flags (3.8.1). */
function readThroughSecondStage(trail: Trail, t: Translation, at: number, denied: string, purpose: string): SecondMapped {
  const wanted = { read: true, write: false, privileged: false };
  const mapped = walkSecondStage(trail, t, BigInt(at), wanted, { read: denied, write: denied }, { depth: 1, purpose });
  if (t.secondStageDirty && (mapped.rights & 2) === 0) throw new Blocked(denied);
  return mapped;
}

/** The page itself: the second stage has the last word on where it is and what may be done. */
function translateGuestPage(trail: Trail, t: Translation, mapped: Mapped, wanted: Wanted, visited: readonly Visited[]): Mapped {
  const purpose = `for the page at guest-physical 0x${mapped.pa.toString(16)}`;
  const host = walkSecondStage(trail, t, BigInt(mapped.pa), wanted, { read: "SGN.7", write: "SGN.6" }, { depth: 1, purpose });
  checkOutput(t, host.pa);
  for (const step of visited) firstStageFlags(trail, t, step, wanted);
  secondStageFlags(trail, t, host, wanted.write);
  return { pa: host.pa, pageSize: Math.min(mapped.pageSize, host.pageSize), rights: mapped.rights & host.rights };
}

/** A, EA and D of one entry; through the second stage that takes W there (SFS.8), and A on the way. */
function firstStageFlags(trail: Trail, t: Translation, { word, leaf, through }: Visited, wanted: Wanted): void {
  if (through !== undefined) secondStageFlags(trail, t, through, false);
  const needed = FIRST.A | (t.extendedAccessed ? FIRST.EA : 0n) | (leaf && wanted.write ? FIRST.D : 0n);
  if ((word & needed) === needed) return;
  if (through !== undefined && (through.rights & 2) === 0) throw new Blocked("SFS.8");
  needsSnoop(trail, t, "SFS.9");
}
