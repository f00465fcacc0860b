/** From a requester to its tables, structure by structure, for humans. Strict where hardware faults, and it says why. */
import { decodeFields, type DecodedField, fieldValue, type FieldTable, formatRid, type TableSource, type WalkStep } from "@iommukit/core";
import { type Capabilities, readCapabilities } from "../spec/capabilities.js";
import {
  LEGACY_CONTEXT_ENTRY,
  LEGACY_ROOT_ENTRY,
  PASID_DIRECTORY_ENTRY,
  PASID_TABLE_ENTRY,
  Pgtt,
  SCALABLE_CONTEXT_ENTRY,
  SCALABLE_ROOT_ENTRY,
} from "../spec/entries.js";
import { FAULTS, faultIndex } from "../spec/faults.js";

/** A walk that ended early. */
export class Blocked extends Error {
  readonly condition: string;

  constructor(condition: string) {
    super(condition);
    this.condition = condition;
  }
}

/** Where a requester's addresses are translated. */
export interface Translation {
  readonly kind: "first-stage" | "second-stage" | "pass-through" | "unsupported";
  readonly domain: number;
  readonly root: number;
  readonly topLevel: number;
  readonly legacy: boolean;
}

export interface Unit {
  readonly caps: Capabilities;
  readonly source: TableSource;
  readonly rootTable: number;
  readonly mode: number;
}

/** Host address width is not in a register; without it no pointer bit below 52 is called reserved. */
const UNKNOWN_HAW = 52;

/** @throws RangeError when a register is missing */
export function readUnit(source: TableSource): Unit {
  const word = (name: string): bigint => {
    const value = source.registers[name];
    if (value === undefined) throw new RangeError(`register ${name} is not given; VT-d tables need RTADDR, CAP and ECAP`);
    return value;
  };
  const root = word("RTADDR");
  const caps = readCapabilities(Number(source.registers.VER ?? 0x10n), word("CAP"), word("ECAP"), Number(source.registers.HAW ?? UNKNOWN_HAW));
  return { caps, source, rootTable: Number(root >> 12n) * 4096, mode: Number((root >> 10n) & 3n) };
}

export function readWords(source: TableSource, pa: number, bits: number): bigint[] | undefined {
  const bytes = new Uint8Array(bits / 8);
  if (pa + bytes.length > 2 ** 52 || !source.read(pa, bytes)) return undefined;
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bits / 64 }, (_, i) => view.getBigUint64(i * 8, true));
}

const pointer = (table: FieldTable, words: readonly bigint[], name: string): number => Number(fieldValue(table, words, name)) * 4096;

/** Reads one structure and appends it to the steps. @throws Blocked with the bus-error condition */
function read(unit: Unit, steps: WalkStep[], table: FieldTable, pa: number, index: { value: number; from: string }, unreadable: string): bigint[] {
  const words = readWords(unit.source, pa, table.bits);
  if (words === undefined) throw new Blocked(unreadable);
  steps.push({ structure: table.structure, section: table.section, pa, index, words, fields: decodeFields(table, words) });
  return words;
}

function checkReserved(table: FieldTable, words: readonly bigint[], condition: string): void {
  if (table.reserved.some((mask, i) => (words[i] & mask) !== 0n)) throw new Blocked(condition);
}

/** @throws Blocked with the fault condition that hardware would report */
export function locate(unit: Unit, rid: number, pasid: number | undefined, steps: WalkStep[]): Translation {
  if (unit.mode === 0) {
    if (pasid !== undefined && pasid !== 0) throw new Blocked("RTA.2");
    return locateLegacy(unit, rid, steps);
  }
  if (unit.mode === 1) return locateScalable(unit, rid, pasid, steps);
  throw new Blocked(unit.mode === 2 ? "RTA.1.2" : unit.caps.abortMode ? "RTA.4" : "RTA.1.1");
}

function locateLegacy(unit: Unit, rid: number, steps: WalkStep[]): Translation {
  const bus = { value: rid >> 8, from: `bus of ${formatRid(rid)}` };
  const root = read(unit, steps, LEGACY_ROOT_ENTRY, unit.rootTable + (rid >> 8) * 16, bus, "LRT.1");
  if ((root[0] & 1n) === 0n) throw new Blocked("LRT.2");
  checkReserved(LEGACY_ROOT_ENTRY, root, "LRT.3");
  const pa = pointer(LEGACY_ROOT_ENTRY, root, "CTP") + (rid & 0xff) * 16;
  const entry = read(unit, steps, LEGACY_CONTEXT_ENTRY, pa, { value: rid & 0xff, from: `devfn of ${formatRid(rid)}` }, "LCT.1");
  const value = (name: string): number => Number(fieldValue(LEGACY_CONTEXT_ENTRY, entry, name));
  if ((entry[0] & 1n) === 0n) throw new Blocked("LCT.2");
  checkReserved(LEGACY_CONTEXT_ENTRY, entry, "LCT.3");
  const type = value("TT");
  if (type === 3 || (type === 1 && !unit.caps.deviceTlb) || (type === 2 && !unit.caps.passThrough)) throw new Blocked("LCT.4.2");
  const width = value("AW");
  if (width < 1 || width > 3 || ((unit.caps.sagaw >> width) & 1) === 0) throw new Blocked("LCT.4.1");
  return {
    kind: type === 2 ? "pass-through" : "second-stage",
    domain: value("DID"),
    root: pointer(LEGACY_CONTEXT_ENTRY, entry, "SSPTPTR"),
    topLevel: width + 1,
    legacy: true,
  };
}

function locateScalable(unit: Unit, rid: number, pasid: number | undefined, steps: WalkStep[]): Translation {
  const { caps } = unit;
  if (!caps.scalableMode) throw new Blocked("RTA.1.3");
  const root = read(unit, steps, SCALABLE_ROOT_ENTRY, unit.rootTable + (rid >> 8) * 16, { value: rid >> 8, from: `bus of ${formatRid(rid)}` }, "SRT.1");
  const half = (rid >> 7) & 1;
  if ((root[half] & 1n) === 0n) throw new Blocked("SRT.2");
  if ((root[half] & 0xffen) !== 0n) throw new Blocked("SRT.3");
  const context = pointer(SCALABLE_ROOT_ENTRY, root, half === 0 ? "LCTP" : "UCTP") + (rid & 0x7f) * 32;
  const entry = read(unit, steps, SCALABLE_CONTEXT_ENTRY, context, { value: rid & 0x7f, from: `devfn of ${formatRid(rid)}, 7 bits` }, "SCT.1");
  const value = (name: string): number => Number(fieldValue(SCALABLE_CONTEXT_ENTRY, entry, name));
  if ((entry[0] & 1n) === 0n) throw new Blocked("SCT.2");
  checkReserved(SCALABLE_CONTEXT_ENTRY, entry, "SCT.3");
  if (value("DTE") === 0 && value("PRE") === 1) throw new Blocked("SCT.4.1");
  const ridPasid = caps.ridPasid ? value("RID_PASID") : 0;
  const limit = 2 ** (value("PDTS") + 13);
  if (ridPasid >= limit) throw new Blocked("SCT.4.2");
  // A dump is asked with PASID 0 for the requester itself, as the uAPI does.
  const used = pasid === undefined || pasid === 0 ? ridPasid : pasid;
  if (used !== ridPasid) {
    if (value("PASIDE") === 0) throw new Blocked("SCT.6");
    if (used >= 2 ** caps.pasidBits) throw new Blocked("SGN.10");
    if (used >= limit) throw new Blocked("SCT.7");
  }
  const directoryPa = pointer(SCALABLE_CONTEXT_ENTRY, entry, "PASIDDIRPTR") + (used >>> 6) * 8;
  const directory = read(unit, steps, PASID_DIRECTORY_ENTRY, directoryPa, { value: used >>> 6, from: "PASID bits 19:6" }, "SPD.1");
  if ((directory[0] & 1n) === 0n) throw new Blocked("SPD.2");
  checkReserved(PASID_DIRECTORY_ENTRY, directory, "SPD.3");
  return readPasidEntry(unit, pointer(PASID_DIRECTORY_ENTRY, directory, "SMPTBLPTR") + (used & 63) * 64, used, steps);
}

function readPasidEntry(unit: Unit, pa: number, pasid: number, steps: WalkStep[]): Translation {
  const { caps } = unit;
  const entry = read(unit, steps, PASID_TABLE_ENTRY, pa, { value: pasid & 63, from: "PASID bits 5:0" }, "SPT.1");
  const value = (name: string): number => Number(fieldValue(PASID_TABLE_ENTRY, entry, name));
  if ((entry[0] & 1n) === 0n) throw new Blocked("SPT.2");
  checkReserved(PASID_TABLE_ENTRY, entry, "SPT.3");
  const type = value("PGTT");
  const base = { domain: value("DID"), legacy: false };
  if (!caps.secondStage && value("AW") !== 0) markReserved(steps, "AW", "reserved while ECAP.SSTS=0 (VT-d 9.6); Linux writes it all the same, and QEMU needs it");
  if (type === Pgtt.FIRST_STAGE && caps.firstStage) {
    const mode = value("FSPM");
    if (mode > 1 || (mode === 1 && !caps.firstStage5Level)) throw new Blocked("SPT.4.3");
    return { ...base, kind: "first-stage", root: pointer(PASID_TABLE_ENTRY, entry, "FSPTPTR"), topLevel: mode + 3 };
  }
  if (type === Pgtt.SECOND_STAGE && caps.secondStage) {
    const width = value("AW");
    if (width < 1 || width > 3 || ((caps.sagaw >> width) & 1) === 0) throw new Blocked("SPT.4.1");
    return { ...base, kind: "second-stage", root: pointer(PASID_TABLE_ENTRY, entry, "SSPTPTR"), topLevel: width + 1 };
  }
  if (type === Pgtt.PASS_THROUGH && caps.passThrough) return { ...base, kind: "pass-through", root: 0, topLevel: 0 };
  throw new Blocked("SPT.4.2");
}

/** Puts a violation on a field of the last step that does not stop the walk. */
function markReserved(steps: WalkStep[], name: string, violation: string): void {
  const last = steps.length - 1;
  const fields: DecodedField[] = steps[last].fields.map((field) => (field.name === name ? { ...field, violation } : field));
  steps[last] = { ...steps[last], fields };
}

/** "reason 0x71 (SFS.2)" and its sentence. */
export function describeCondition(name: string): { readonly code: string; readonly reason: string } {
  const row = FAULTS[faultIndex(name)];
  return { code: `0x${row.code.toString(16)} (${row.name})`, reason: row.text };
}
