/**
 * The naive translator: one request after the other, straight from the manual, through memory every time. It shares no code with
 * `hardware/`, so that a mistake must be made twice to stay hidden. Steps are numbered as the data needs them; where the manual
 * tells no order, the one here is a choice.
 */
import { CONDITIONS, RECORDED_THOUGH_RECOVERABLE, type Response, Stop } from "./conditions.js";
import type { Answer, ReferenceCompletion, ReferenceRecord, ReferenceRequest, ReferenceState } from "./request.js";
import { checkCanonical, checkFirstFlags, checkSecondFlags, firstStage, secondStage } from "./stages.js";
import { checkHostPermission } from "./permissions.js";
import { legacyContext, legacyRoot, type PasidEntry, pasidDirectory, pasidEntry, PGTT, scalableContext, scalableRoot } from "./structures.js";
import { Trail } from "./trail.js";
import { bits, E, type ReferenceUnit } from "./unit.js";

/** What a request gets when nothing stops it. */
interface Outcome {
  readonly address?: bigint;
  readonly completion?: ReferenceCompletion;
  /** A right that was asked for and is missing: no fault of a translation request, but a row of the table. */
  readonly condition?: string;
}

/** What a translated address may be used for, before the request is looked at (3.6, 3.7, 3.8, 3.9). */
interface Reached {
  readonly address: bigint;
  readonly size: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly noSnoop: boolean;
  /** Pass-through: nothing was looked up. */
  readonly passed: boolean;
  /** Step 10: with `set` false it tells what forbids the flags that are owed; with true it sets them, if memory takes them. */
  readonly settle: (set: boolean) => void;
}

const NOTHING_OWED = (): void => {};

export function answer(state: ReferenceState, request: ReferenceRequest): Answer {
  const trail = new Trail();
  // 4.2.3: No Write means something with ECAP.NWFS only.
  const asked = request.kind === "translation" && !state.unit.ecap(E.NWFS) ? { ...request, write: true } : request;
  try {
    const outcome = carryOut(state, asked, trail);
    return { response: "done", ...outcome, set: trail.set, mayBeSet: trail.mayBeSet };
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    return refuse(state, asked, trail, error.condition);
  }
}

// ---- Step 0: translation is off (11.4.4.2, 4.2.1) -----------------------------

const inInterruptRange = (address: bigint): boolean => address >> 20n === 0xfeen;

function carryOut(state: ReferenceState, request: ReferenceRequest, trail: Trail): Outcome {
  const { unit } = state;
  if (request.kind === "translated" && request.pasid !== undefined && !unit.ecap(E.PTRS)) throw new Stop("UR");
  if (!state.enabled) {
    if (request.kind !== "untranslated") throw new Stop("UR");
    return { address: request.address };
  }
  // 3.14: without a PASID such a write is an interrupt, and anything else an error: never DMA.
  if (request.kind === "untranslated" && request.pasid === undefined && inInterruptRange(request.address)) {
    if (request.read && !request.zeroLength) throw new Stop("IRR.29");
    return { address: request.address };
  }
  checkMode(state, request);
  return bits(state.rtaddr, 11, 10) === 0n ? legacy(state, request, trail) : scalable(state, request, trail);
}

// ---- Step 2: translation table mode (7.1.3, table 26) --------------------------

function checkMode(state: ReferenceState, request: ReferenceRequest): void {
  const { unit, rtaddr } = state;
  const ttm = bits(rtaddr, 11, 10);
  if (ttm === 3n) throw new Stop(unit.ecap(E.ADMS) ? "RTA.4" : "RTA.1.1");
  if (ttm === 2n) throw new Stop("RTA.1.2");
  if (ttm === 1n && !unit.ecap(E.SMTS)) throw new Stop("RTA.1.3");
  if (ttm === 0n && request.kind === "page") throw new Stop("RTA.3");
  if (ttm === 0n && request.pasid !== undefined) throw new Stop("RTA.2");
  if (ttm === 0n && bits(rtaddr, 7) === 1n) throw new Stop("RTA.1.4");
  if (request.execute && request.pasid !== undefined && unit.major >= 8 && request.kind !== "page") throw new Stop("RTA.5");
}

// ---- Legacy mode (3.4.2) --------------------------------------------------------

function legacy(state: ReferenceState, request: ReferenceRequest, trail: Trail): Outcome {
  const { unit } = state;
  const { address } = request;
  const context = legacyContext(state, legacyRoot(state, request.rid), request, trail);
  if (request.kind === "translated") return translated(unit, address, "LGN.1.2", "LGN.4");
  if (request.kind === "translation" && inInterruptRange(address)) return interruptRange(request);
  if (context.type === 2n) {
    if (address >= 1n << unit.haw) throw new Stop("LGN.1.3");
    return { address };
  }
  if (address >= 1n << unit.inputBits(context.aw)) throw new Stop("LGN.1.1");
  const result = secondStage(state, { table: context.table, aw: context.aw, legacy: true, flags: false }, address, trail);
  const reached = { ...result, noSnoop: result.snoop, passed: false, settle: NOTHING_OWED };
  if (request.kind === "translation") return complete(request, reached, "LGN.4", ["LGN.2", "LGN.3"]);
  if (request.write && !result.write) throw new Stop("LGN.2");
  if (needsRead(unit, request, result.write) && !result.read) throw new Stop("LGN.3");
  if (inInterruptRange(result.address)) throw new Stop("LGN.4");
  return { address: result.address };
}

// ---- Scalable mode (3.4.3) ------------------------------------------------------

function scalable(state: ReferenceState, request: ReferenceRequest, trail: Trail): Outcome {
  const { unit } = state;
  const context = scalableContext(state, scalableRoot(state, request.rid), request, trail);
  const passed = request.kind === "translated" ? translated(unit, request.address, "SGN.4.1", "SGN.8.3") : undefined;
  if (passed && !context.hostPermission) return passed;
  if (request.kind === "translation" && request.pasid === undefined && inInterruptRange(request.address)) return interruptRange(request);
  const table = pasidDirectory(state, context.directory, context.pasid, trail);
  const entry = pasidEntry(state, table, context.pasid, trail);
  if (request.kind === "page") return {};
  if (passed) {
    checkHostPermission(state, entry, request);
    return passed;
  }
  if (request.execute && request.pasid !== undefined && !unit.ecap(E.ERS)) throw new Stop("SPT.5");
  if (context.privileged && !entry.sre) throw new Stop("SPT.6");
  const reached = translate(state, request, entry, context.privileged, trail);
  if (request.kind === "translation") return complete(request, reached, "SGN.8.2", ["SGN.6", "SGN.7"]);
  reached.settle(false);
  // Step 11, before anything is written: a request that is blocked must not have set D.
  if (inInterruptRange(reached.address)) throw new Stop("SGN.8.1");
  reached.settle(true);
  return { address: reached.address };
}

/** Steps 8 to 10. */
function translate(state: ReferenceState, request: ReferenceRequest, entry: PasidEntry, privileged: boolean, trail: Trail): Reached {
  if (entry.pgtt === PGTT.PASS) return passThrough(state, request, entry);
  if (entry.pgtt === PGTT.SECOND) return secondOnly(state, request, entry, trail);
  return firstOrNested(state, request, entry, privileged, trail);
}

/** 3.9 */
function passThrough({ unit }: ReferenceState, request: ReferenceRequest, entry: PasidEntry): Reached {
  if (request.address >= 1n << unit.haw) throw new Stop("SGN.4.2");
  return { address: request.address, size: unit.largestPage, read: true, write: true, noSnoop: entry.pgsnp, passed: true, settle: NOTHING_OWED };
}

/** 3.7 */
function secondOnly(state: ReferenceState, request: ReferenceRequest, entry: PasidEntry, trail: Trail): Reached {
  if (request.address >= 1n << state.unit.inputBits(entry.aw)) throw new Stop("SGN.5");
  const stage = { table: entry.secondTable, aw: entry.aw, legacy: false, flags: entry.ssade };
  const result = secondStage(state, stage, request.address, trail);
  const write = grants(state.unit, request, result);
  const settle = (set: boolean): void => checkSecondFlags(state, entry, result, write, trail, set);
  return { ...result, noSnoop: entry.pgsnp || result.snoop, passed: false, settle };
}

/** 3.6, 3.8 */
function firstOrNested(state: ReferenceState, request: ReferenceRequest, entry: PasidEntry, privileged: boolean, trail: Trail): Reached {
  checkCanonical(entry, request.address);
  const first = firstStage(state, entry, { address: request.address, privileged }, trail);
  if (entry.pgtt === PGTT.FIRST) {
    const write = grants(state.unit, request, { read: true, write: first.write });
    const settle = (set: boolean): void => checkFirstFlags(state, entry, first, write, trail, set);
    return { ...first, read: true, noSnoop: entry.pgsnp, passed: false, settle };
  }
  if (request.kind === "untranslated" && request.write && !first.write) throw new Stop("SGN.6");
  const stage = { table: entry.secondTable, aw: entry.aw, legacy: false, flags: entry.ssade };
  const second = secondStage(state, stage, first.address, trail);
  const rights = { read: second.read, write: first.write && second.write };
  const write = grants(state.unit, request, rights, second.write);
  const settle = (set: boolean): void => {
    checkFirstFlags(state, entry, first, write, trail, set);
    checkSecondFlags(state, entry, second, write, trail, set);
  };
  const size = first.size < second.size ? first.size : second.size;
  return { address: second.address, size, ...rights, noSnoop: entry.pgsnp || second.snoop, passed: false, settle };
}

interface Rights {
  readonly read: boolean;
  readonly write: boolean;
}

/** CAP.ZLR: a zero-length read may go where the second stage lets write (3.7.1). */
function needsRead(unit: ReferenceUnit, request: ReferenceRequest, writable: boolean): boolean {
  return request.read && !(request.zeroLength && unit.cap(22) === 1n && writable);
}

/**
 * Untranslated: stops when a right is missing (SGN.6 before SGN.7). Gives back whether the page is written. A translation
 * request without No Write counts as an AtomicOp, where write is granted (4.2.3).
 */
function grants(unit: ReferenceUnit, request: ReferenceRequest, rights: Rights, writable = rights.write): boolean {
  if (request.kind === "translation") return request.write && rights.write;
  if (request.write && !rights.write) throw new Stop("SGN.6");
  if (needsRead(unit, request, writable) && !rights.read) throw new Stop("SGN.7");
  return request.write;
}

// ---- Translated requests and translation requests (4.2) --------------------------

function translated(unit: ReferenceUnit, address: bigint, tooHigh: string, interrupt: string): Outcome {
  if (address >= 1n << unit.haw) throw new Stop(tooHigh);
  if (inInterruptRange(address)) throw new Stop(interrupt);
  return { address };
}

/** Conditions S.1 and S.2 (4.2.3): the device may write messages there, untranslated. */
function interruptRange({ write }: ReferenceRequest): Outcome {
  return { completion: { read: false, write, privileged: false, untranslatedOnly: write, noSnoop: false, address: 0n, size: 12n } };
}

/** 4.2.3, table 12 */
function complete(request: ReferenceRequest, reached: Reached, overlap: string, [noWrite, noRead]: readonly [string, string]): Outcome {
  const { read } = reached;
  const write = reached.write && request.write;
  const start = (reached.address >> reached.size) << reached.size;
  reached.settle(false);
  const overlaps = start < 0xfef0_0000n && start + (1n << reached.size) > 0xfee0_0000n;
  if (overlaps && !reached.passed) throw new Stop(overlap);
  reached.settle(true);
  const privileged = request.pasid !== undefined && request.privileged;
  const missing = request.write && !write ? { condition: noWrite } : read ? {} : { condition: noRead };
  return { ...missing, completion: { read, write, privileged, untranslatedOnly: false, noSnoop: reached.noSnoop, address: reached.address, size: reached.size } };
}

// ---- Refusal and record (7.1, 7.2) ------------------------------------------------

function refuse(state: ReferenceState, request: ReferenceRequest, trail: Trail, condition: string): Answer {
  // Memory refused a flag: those before it are set.
  if (condition === "SFS.10" || condition === "SSS.6") for (const [address, flags] of trail.set) trail.may(address, flags);
  const flags = { set: new Map<bigint, bigint>(), mayBeSet: trail.mayBeSet };
  const row = CONDITIONS.get(condition);
  // Not a fault: the root complex refuses it.
  if (row === undefined) return { response: request.kind === "page" ? "IR" : "UR", ...flags };
  const response: Response = row[request.kind];
  if (response === "-") throw new RangeError(`${condition} does not exist for a ${request.kind} request`);
  const recoverable = response === "none" || response === "rest";
  const recorded = !(row.qualified && trail.silent) && (!recoverable || condition === RECORDED_THOUGH_RECOVERABLE);
  const record = recorded ? { record: recordOf(state, request, row.code) } : {};
  if (!recoverable) return { response, condition, ...record, ...flags };
  const privileged = request.pasid !== undefined && request.privileged;
  const completion = { read: false, write: false, privileged, untranslatedOnly: false, noSnoop: false, address: 0n, size: 12n };
  return { response: "done", completion, condition, ...record, ...flags };
}

/** 11.4.7.6; FI holds no bits above the largest AGAW. */
function recordOf({ unit }: ReferenceState, request: ReferenceRequest, reason: number): ReferenceRecord {
  const width = unit.largestAw === 0n ? unit.mgaw : 30n + 9n * unit.largestAw;
  const read = request.kind === "translation" || request.read;
  const write = request.kind !== "translation" && request.write;
  // PP, PV, EXE and PRIV are reserved without ECAP.PASID.
  const pasid = unit.ecap(E.PASID) ? request.pasid : undefined;
  return {
    reason,
    sid: request.rid,
    pasid,
    address: request.address & ((1n << width) - 1n) & ~0xfffn,
    type: request.kind === "page" ? "page" : write ? (read ? "atomic" : "write") : "read",
    at: { untranslated: 0, translation: 1, translated: 2, page: 0 }[request.kind],
    execute: pasid !== undefined && request.execute && !write,
    privileged: pasid !== undefined && request.privileged,
  };
}
