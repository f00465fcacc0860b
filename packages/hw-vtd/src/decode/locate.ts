/** From a requester to its tables, structure by structure. The order of checks is that of the data, then of the manual's wording (VT-d 7.1). */
import { extractBits, type FieldTable, formatRid } from "@iommukit/core";
import { breaksRules, isIgnored, violations } from "../spec/conditions.js";
import {
  LEGACY_CONTEXT_ENTRY,
  LEGACY_ROOT_ENTRY,
  PASID_DIRECTORY_ENTRY,
  PASID_TABLE_ENTRY,
  Pgtt,
  SCALABLE_CONTEXT_ENTRY,
  SCALABLE_ROOT_ENTRY,
  TranslationTableMode,
} from "../spec/entries.js";
import { Blocked, type Trail } from "./trail.js";

/** Tables of one stage. */
export interface Stage {
  readonly root: number;
  readonly topLevel: number;
}

/** How a requester's addresses are translated. */
export interface Translation {
  readonly kind: "first-stage" | "second-stage" | "nested" | "pass-through";
  readonly legacy: boolean;
  readonly domain: number;
  readonly firstStage: Stage;
  readonly secondStage: Stage;
  /** PASID that the tables know it by. */
  readonly pasid?: number;
  readonly ridPrivileged: boolean;
  readonly supervisorEnable: boolean;
  readonly writeProtect: boolean;
  readonly extendedAccessed: boolean;
  readonly secondStageDirty: boolean;
  readonly walkSnoop: boolean;
}

const NO_STAGE: Stage = { root: 0, topLevel: 0 };

/** Values of a structure's fields, by name. */
class Fields {
  readonly #table: FieldTable;
  readonly #words: readonly bigint[];

  constructor(table: FieldTable, words: readonly bigint[]) {
    this.#table = table;
    this.#words = words;
  }

  number(name: string): number {
    const field = this.#table.fields.find((row) => row.name === name);
    if (field === undefined) throw new RangeError(`${this.#table.structure} has no field ${name}`);
    return Number(extractBits(this.#words, field.low, field.width));
  }

  isSet(name: string): boolean {
    return this.number(name) !== 0;
  }

  /** A page number as an address. */
  address(name: string): number {
    return this.number(name) * 4096;
  }
}

/** @throws Blocked with the fault condition that hardware would report */
export function locate(trail: Trail, rid: number, pasid: number | undefined, execute: boolean): Translation {
  const { mode, caps, ssirwe } = trail.unit;
  if (mode === TranslationTableMode.ABORT) throw new Blocked(caps.abortMode ? "RTA.4" : "RTA.1.1");
  if (mode === TranslationTableMode.RESERVED) throw new Blocked("RTA.1.2");
  if (mode === TranslationTableMode.SCALABLE && !caps.scalableMode) throw new Blocked("RTA.1.3");
  if (mode === TranslationTableMode.LEGACY && pasid !== undefined) throw new Blocked("RTA.2");
  if (mode === TranslationTableMode.LEGACY && ssirwe) throw new Blocked("RTA.1.4");
  if (mode === TranslationTableMode.LEGACY) return locateLegacy(trail, rid);
  if (pasid !== undefined && execute && caps.majorVersion >= 8) throw new Blocked("RTA.5");
  return locateScalable(trail, rid, pasid);
}

function locateLegacy(trail: Trail, rid: number): Translation {
  const { caps, rootTable } = trail.unit;
  const root = trail.read(LEGACY_ROOT_ENTRY, rootTable + (rid >> 8) * 16, { index: { value: rid >> 8, from: `bus of ${formatRid(rid)}` } }, "LRT.1");
  if ((root[0] & 1n) === 0n) throw new Blocked("LRT.2");
  if (breaksRules(LEGACY_ROOT_ENTRY, root, trail.unit)) throw new Blocked("LRT.3");
  const pa = new Fields(LEGACY_ROOT_ENTRY, root).address("CTP") + (rid & 0xff) * 16;
  const words = trail.read(LEGACY_CONTEXT_ENTRY, pa, { index: { value: rid & 0xff, from: `devfn of ${formatRid(rid)}` } }, "LCT.1");
  trail.noteFaultDisable(LEGACY_CONTEXT_ENTRY, words);
  if ((words[0] & 1n) === 0n) throw new Blocked("LCT.2");
  if (breaksRules(LEGACY_CONTEXT_ENTRY, words, trail.unit)) throw new Blocked("LCT.3");
  const entry = new Fields(LEGACY_CONTEXT_ENTRY, words);
  const type = entry.number("TT");
  if (type === 3 || (type === 1 && !caps.deviceTlb) || (type === 2 && !caps.passThrough)) throw new Blocked("LCT.4.2");
  const width = entry.number("AW");
  const largest = Math.max(...[1, 2, 3].filter((candidate) => isWidth(trail, candidate)));
  if (!isWidth(trail, width) || (type === 2 && width !== largest)) throw new Blocked("LCT.4.1");
  return {
    kind: type === 2 ? "pass-through" : "second-stage",
    legacy: true,
    domain: entry.number("DID"),
    firstStage: NO_STAGE,
    secondStage: { root: entry.address("SSPTPTR"), topLevel: width + 1 },
    ridPrivileged: false,
    supervisorEnable: false,
    writeProtect: false,
    extendedAccessed: false,
    secondStageDirty: false,
    walkSnoop: false,
  };
}

function locateScalable(trail: Trail, rid: number, pasid: number | undefined): Translation {
  const { caps, rootTable } = trail.unit;
  const root = trail.read(SCALABLE_ROOT_ENTRY, rootTable + (rid >> 8) * 16, { index: { value: rid >> 8, from: `bus of ${formatRid(rid)}` } }, "SRT.1");
  const upper = (rid & 0x80) !== 0;
  if ((root[upper ? 1 : 0] & 1n) === 0n) throw new Blocked("SRT.2");
  // Only the half that is used: the other one may hold anything.
  if (breaksRules(SCALABLE_ROOT_ENTRY, upper ? [0n, root[1]] : [root[0], 0n], trail.unit)) throw new Blocked("SRT.3");
  const table = new Fields(SCALABLE_ROOT_ENTRY, root).address(upper ? "UCTP" : "LCTP");
  const words = trail.read(SCALABLE_CONTEXT_ENTRY, table + (rid & 0x7f) * 32, { index: { value: rid & 0x7f, from: `devfn of ${formatRid(rid)}, 7 bits` } }, "SCT.1");
  trail.noteFaultDisable(SCALABLE_CONTEXT_ENTRY, words);
  if ((words[0] & 1n) === 0n) throw new Blocked("SCT.2");
  if (breaksRules(SCALABLE_CONTEXT_ENTRY, words, trail.unit)) throw new Blocked("SCT.3");
  const entry = new Fields(SCALABLE_CONTEXT_ENTRY, words);
  if (!entry.isSet("DTE") && entry.isSet("PRE")) throw new Blocked("SCT.4.1");
  const ridPasid = caps.ridPasid ? entry.number("RID_PASID") : 0;
  const limit = 2 ** (entry.number("PDTS") + 13);
  if (ridPasid >= limit) throw new Blocked("SCT.4.2");
  // A request with PASID meets PASIDE=0 by itself: SCT.4.3 is for the others (7.1).
  if (pasid !== undefined && !entry.isSet("PASIDE")) throw new Blocked("SCT.6");
  if (entry.isSet("EPTR") && !entry.isSet("PASIDE")) throw new Blocked("SCT.4.3");
  if (pasid !== undefined) {
    if (pasid >= 2 ** caps.pasidBits) throw new Blocked("SGN.10");
    if (pasid >= limit) throw new Blocked("SCT.7");
    if (pasid === ridPasid) throw new Blocked("SCT.9");
  }
  const used = pasid ?? ridPasid;
  const directoryPa = entry.address("PASIDDIRPTR") + (used >>> 6) * 8;
  const directory = trail.read(PASID_DIRECTORY_ENTRY, directoryPa, { index: { value: used >>> 6, from: `${pasidName(pasid)} bits 19:6` } }, "SPD.1");
  trail.noteFaultDisable(PASID_DIRECTORY_ENTRY, directory);
  if ((directory[0] & 1n) === 0n) throw new Blocked("SPD.2");
  if (breaksRules(PASID_DIRECTORY_ENTRY, directory, trail.unit)) throw new Blocked("SPD.3");
  const pa = new Fields(PASID_DIRECTORY_ENTRY, directory).address("SMPTBLPTR") + (used & 63) * 64;
  return readPasidEntry(trail, pa, used, pasidName(pasid), caps.ridPrivileged && entry.isSet("RID_PRIV"));
}

const pasidName = (pasid: number | undefined): string => (pasid === undefined ? "RID_PASID" : "PASID");

function readPasidEntry(trail: Trail, pa: number, pasid: number, name: string, ridPrivileged: boolean): Translation {
  const { caps } = trail.unit;
  const words = trail.read(PASID_TABLE_ENTRY, pa, { index: { value: pasid & 63, from: `${name} bits 5:0` } }, "SPT.1");
  trail.noteFaultDisable(PASID_TABLE_ENTRY, words);
  if ((words[0] & 1n) === 0n) throw new Blocked("SPT.2");
  const entry = new Fields(PASID_TABLE_ENTRY, words);
  const type = entry.number("PGTT");
  checkPasidReserved(trail, words, type);
  const first = type === Pgtt.FIRST_STAGE || type === Pgtt.NESTED;
  const second = type === Pgtt.SECOND_STAGE || type === Pgtt.NESTED;
  if ((!first && !second && type !== Pgtt.PASS_THROUGH) || (first && !caps.firstStage) || (second && !caps.secondStage)) throw new Blocked("SPT.4.2");
  if ((type === Pgtt.PASS_THROUGH && !caps.passThrough) || (type === Pgtt.NESTED && !caps.nesting)) throw new Blocked("SPT.4.2");
  const width = entry.number("AW");
  if (second && !isWidth(trail, width)) throw new Blocked("SPT.4.1");
  const mode = entry.number("FSPM");
  if (first && (mode > 1 || (mode === 1 && !caps.firstStage5Level))) throw new Blocked("SPT.4.3");
  const firstStage = first ? { root: entry.address("FSPTPTR"), topLevel: mode + 3 } : NO_STAGE;
  if (type === Pgtt.NESTED && firstStage.root >= 2 ** Math.min(caps.mgaw, 30 + 9 * width)) throw new Blocked("SPT.4.4");
  return {
    kind: type === Pgtt.PASS_THROUGH ? "pass-through" : first && second ? "nested" : first ? "first-stage" : "second-stage",
    legacy: false,
    domain: entry.number("DID"),
    pasid,
    firstStage,
    secondStage: second ? { root: entry.address("SSPTPTR"), topLevel: width + 1 } : NO_STAGE,
    ridPrivileged,
    supervisorEnable: entry.isSet("SRE"),
    writeProtect: entry.isSet("WPE"),
    extendedAccessed: entry.isSet("EAFE"),
    secondStageDirty: second && entry.isSet("SSADE"),
    walkSnoop: caps.walkCoherency && entry.isSet("PWSNP"),
  };
}

function checkPasidReserved(trail: Trail, words: readonly bigint[], pgtt: number): void {
  const { unit } = trail;
  if (unit.strict || (words[0] & 0x1cn) === 0n || unit.caps.secondStage || !isIgnored("AW", pgtt)) {
    if (breaksRules(PASID_TABLE_ENTRY, words, unit)) throw new Blocked("SPT.3");
    return;
  }
  const withoutWidth = [words[0] & ~0x1cn, ...words.slice(1)];
  if (breaksRules(PASID_TABLE_ENTRY, withoutWidth, unit)) throw new Blocked("SPT.3");
  if (violations(PASID_TABLE_ENTRY, words, unit).length > 0) {
    trail.notes.push("AW is reserved while ECAP.SSTS=0 (VT-d 9.6): a strict unit faults with 0x5a (SPT.3); Linux writes it all the same, and QEMU needs it");
  }
}

/** AW: 1, 2, 3 for 39, 48, 57 bits; the bit of that number in SAGAW. */
function isWidth(trail: Trail, width: number): boolean {
  return width >= 1 && width <= 3 && ((trail.unit.caps.sagaw >> width) & 1) === 1;
}
