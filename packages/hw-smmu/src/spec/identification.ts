/** Identification registers (SMMU 6.3.1 to 6.3.8): one row a field, and what the rest of the model asks of them. */
import { defineFields, extractBits, type FieldTable } from "@iommukit/core";
import { oneOf } from "./words.js";

/** Rows cover 32 bits; the upper half is padding, since tables are made of 64-bit words. */
const word32 = (name: string, section: string, rows: Parameters<typeof defineFields>[3]): FieldTable => defineFields(name, section, 64, [...rows, [32, ""]]);

export const IDR0: FieldTable = word32("SMMU_IDR0", "SMMU 6.3.1", [
  [1, "S2P"], [1, "S1P"], [2, "TTF", oneOf("reserved", "AArch32", "AArch64", "both")], [1, "COHACC"], [1, "BTM"],
  [2, "HTTU", oneOf("none", "access flag", "access flag and dirty state", "with table access flags")], [1, "DORMHINT"], [1, "Hyp"], [1, "ATS"],
  [1, "NS1ATS"], [1, "ASID16"], [1, "MSI"], [1, "SEV"], [1, "ATOS"], [1, "PRI"], [1, "VMW"], [1, "VMID16"], [1, "CD2L"], [1, "VATOS"],
  [2, "TTENDIAN", oneOf("mixed", "reserved", "little", "big")], [1, "ATSRECERR"], [2, "STALL_MODEL", oneOf("stall and terminate", "no stall", "stall always")],
  [1, "TERM_MODEL"], [2, "ST_LEVEL", oneOf("linear", "two-level")], [1, ""], [1, "RME_IMPL"], [1, ""],
]);
export const IDR1: FieldTable = word32("SMMU_IDR1", "SMMU 6.3.2", [
  [6, "SIDSIZE"], [5, "SSIDSIZE"], [5, "PRIQS"], [5, "EVENTQS"], [5, "CMDQS"], [1, "ATTR_PERMS_OVR"], [1, "ATTR_TYPES_OVR"], [1, "REL"],
  [1, "QUEUES_PRESET"], [1, "TABLES_PRESET"], [1, "ECMDQ"],
]);
export const IDR3: FieldTable = word32("SMMU_IDR3", "SMMU 6.3.4", [
  [2, ""], [1, "HAD"], [1, "PBHA"], [1, "XNX"], [1, "PPS"], [1, ""], [1, "MPAM"], [1, "FWB"], [1, "STT"], [1, "RIL"], [2, "BBML"], [1, "E0PD"],
  [1, "PTWNNC"], [1, "DPT"], [1, "PASIDTT"], [1, "EPAN"], [1, "S1PI"], [1, "S2PI"], [1, "S2PO"], [1, "THE"], [1, "MTEPERM"], [1, "AIE"], [8, ""],
]);
export const IDR5: FieldTable = word32("SMMU_IDR5", "SMMU 6.3.6", [
  [3, "OAS", oneOf("32 bits", "36 bits", "40 bits", "42 bits", "44 bits", "48 bits", "52 bits", "56 bits")], [1, ""], [1, "GRAN4K"], [1, "GRAN16K"],
  [1, "GRAN64K"], [1, "DS"], [1, "D128"], [1, ""], [2, "VAX", oneOf("48 bits", "52 bits", "56 bits")], [4, ""], [16, "STALL_MAX"],
]);
export const IIDR: FieldTable = word32("SMMU_IIDR", "SMMU 6.3.7", [[12, "Implementer"], [4, "Revision"], [4, "Variant"], [12, "ProductID"]]);
export const AIDR: FieldTable = word32("SMMU_AIDR", "SMMU 6.3.8", [[4, "ArchMinorRev"], [4, "ArchMajorRev"], [24, ""]]);

/** Bits of an output address size, by the encoding of OAS, IPS and S2PS. */
export const ADDRESS_SIZES: readonly number[] = [32, 36, 40, 42, 44, 48, 52, 56];

/** What a unit is told to be. Registers that are left out read 0. */
export interface Identification {
  readonly idr0: number;
  readonly idr1: number;
  readonly idr2?: number;
  readonly idr3: number;
  readonly idr4?: number;
  readonly idr5: number;
  readonly iidr?: number;
  /** Minor revision of SMMUv3 in bits 3:0. */
  readonly aidr: number;
}

/** STALL_MODEL (6.3.1). */
export const StallModel = { BOTH: 0, NONE: 1, FORCED: 2 } as const;
/** TTENDIAN (6.3.1). */
export const TableEndian = { MIXED: 0, LITTLE: 2, BIG: 3 } as const;

/** The registers taken apart. Flags are booleans, counts and sizes numbers. */
export interface Capabilities {
  readonly minor: number;
  readonly stage1: boolean;
  readonly stage2: boolean;
  readonly aarch32: boolean;
  readonly aarch64: boolean;
  /** Accesses of the unit's own are coherent with the processors' caches. */
  readonly coherent: boolean;
  readonly httu: number;
  readonly hyp: boolean;
  readonly ats: boolean;
  readonly noSplitAts: boolean;
  readonly asid16: boolean;
  readonly msi: boolean;
  readonly sev: boolean;
  readonly pri: boolean;
  readonly vmidWildcard: boolean;
  readonly vmid16: boolean;
  readonly twoLevelCd: boolean;
  readonly endian: number;
  readonly atsRecordErrors: boolean;
  readonly stallModel: number;
  readonly abortOnly: boolean;
  readonly twoLevelStream: boolean;
  readonly sidBits: number;
  readonly ssidBits: number;
  readonly priqBits: number;
  readonly eventqBits: number;
  readonly cmdqBits: number;
  readonly permissionOverride: boolean;
  readonly typeOverride: boolean;
  readonly hierarchicalDisable: boolean;
  readonly executeNever: boolean;
  readonly pasidResponse: boolean;
  readonly forceWriteBack: boolean;
  readonly smallTables: boolean;
  readonly rangeInvalidation: boolean;
  /** BBML: what a change of page sizes needs (3.21.1). */
  readonly breakBeforeMake: number;
  readonly e0pd: boolean;
  readonly normalTables: boolean;
  readonly translatedPasid: boolean;
  readonly enhancedPan: boolean;
  readonly tagPermissions: boolean;
  /** Output address size in bits. */
  readonly oas: number;
  /** Intermediate address size in bits (3.4). */
  readonly ias: number;
  readonly granules: readonly boolean[];
  readonly ds: boolean;
  readonly vax: number;
  /** Stalls that may be outstanding; 0 when the register does not say. */
  readonly stallMax: number;
}

const read = (table: FieldTable, word: number) => (name: string): number => {
  const field = table.fields.find((row) => row.name === name);
  if (field === undefined) throw new RangeError(`${table.structure} has no field ${name}`);
  return Number(extractBits([BigInt(word >>> 0)], field.low, field.width));
};

export function readCapabilities(id: Identification): Capabilities {
  const idr0 = read(IDR0, id.idr0);
  const idr1 = read(IDR1, id.idr1);
  const idr3 = read(IDR3, id.idr3);
  const idr5 = read(IDR5, id.idr5);
  const ttf = idr0("TTF");
  const oas = ADDRESS_SIZES[idr5("OAS")];
  const aarch64 = (ttf & 2) !== 0;
  const queueBits = (name: string): number => Math.min(idr1(name), 19);
  return {
    minor: id.aidr & 15,
    stage1: idr0("S1P") === 1,
    stage2: idr0("S2P") === 1,
    aarch32: (ttf & 1) !== 0,
    aarch64,
    coherent: idr0("COHACC") === 1,
    httu: idr0("HTTU"),
    hyp: idr0("Hyp") === 1,
    ats: idr0("ATS") === 1,
    noSplitAts: idr0("NS1ATS") === 1,
    asid16: idr0("ASID16") === 1,
    msi: idr0("MSI") === 1,
    sev: idr0("SEV") === 1,
    pri: idr0("PRI") === 1,
    vmidWildcard: idr0("VMW") === 1,
    vmid16: idr0("VMID16") === 1,
    twoLevelCd: idr0("CD2L") === 1,
    endian: idr0("TTENDIAN"),
    atsRecordErrors: idr0("ATSRECERR") === 1,
    stallModel: idr0("STALL_MODEL"),
    abortOnly: idr0("TERM_MODEL") === 1,
    twoLevelStream: idr0("ST_LEVEL") === 1,
    sidBits: Math.min(idr1("SIDSIZE"), 32),
    ssidBits: Math.min(idr1("SSIDSIZE"), 20),
    priqBits: queueBits("PRIQS"),
    eventqBits: queueBits("EVENTQS"),
    cmdqBits: queueBits("CMDQS"),
    permissionOverride: idr1("ATTR_PERMS_OVR") === 1,
    typeOverride: idr1("ATTR_TYPES_OVR") === 1,
    hierarchicalDisable: idr3("HAD") === 1,
    executeNever: idr3("XNX") === 1,
    pasidResponse: idr3("PPS") === 1,
    forceWriteBack: idr3("FWB") === 1,
    smallTables: idr3("STT") === 1,
    rangeInvalidation: idr3("RIL") === 1,
    breakBeforeMake: idr3("BBML"),
    e0pd: idr3("E0PD") === 1,
    normalTables: idr3("PTWNNC") === 1,
    translatedPasid: idr3("PASIDTT") === 1,
    enhancedPan: idr3("EPAN") === 1,
    tagPermissions: idr3("MTEPERM") === 1,
    oas,
    ias: Math.max((ttf & 1) !== 0 ? 40 : 0, aarch64 ? oas : 0),
    // By the encoding of TG0 and S2TG: 4K, 64K, 16K.
    granules: [idr5("GRAN4K") === 1, idr5("GRAN64K") === 1, idr5("GRAN16K") === 1],
    ds: idr5("DS") === 1,
    vax: idr5("VAX"),
    stallMax: idr5("STALL_MAX"),
  };
}

/** A combination of identification fields that the manual does not allow. */
export interface IdentificationRule {
  readonly name: string;
  readonly text: string;
  readonly broken: (caps: Capabilities, id: Identification) => boolean;
}

export const IDENTIFICATION_RULES: readonly IdentificationRule[] = [
  { name: "S1P, S2P", text: "at least one stage", broken: (c) => !c.stage1 && !c.stage2 },
  { name: "TTF", text: "at least one table format", broken: (c) => !c.aarch32 && !c.aarch64 },
  { name: "GRAN", text: "at least one granule for AArch64 tables", broken: (c) => c.aarch64 && !c.granules.includes(true) },
  { name: "SIDSIZE", text: "7 bits of StreamID or more need two-level stream tables", broken: (c) => c.sidBits >= 7 && !c.twoLevelStream },
  { name: "SIDSIZE", text: "at most 32", broken: (_, id) => (id.idr1 & 63) > 32 },
  { name: "SSIDSIZE", text: "at most 20", broken: (_, id) => ((id.idr1 >>> 6) & 31) > 20 },
  { name: "CMDQS, EVENTQS, PRIQS", text: "at most 19", broken: (_, id) => [11, 16, 21].some((low) => ((id.idr1 >>> low) & 31) > 19) },
  { name: "CD2L", text: "two-level CD tables need SubstreamIDs", broken: (c) => c.twoLevelCd && c.ssidBits === 0 },
  { name: "PRI", text: "page requests need ATS", broken: (c) => c.pri && !c.ats },
  { name: "STALL_MODEL", text: "3 is reserved", broken: (c) => c.stallModel === 3 },
  { name: "STALL_MAX", text: "must not be 0 where stalls are supported", broken: (c) => c.stallModel !== StallModel.NONE && c.stallMax === 0 },
  { name: "TTENDIAN", text: "1 is reserved", broken: (c) => c.endian === 1 },
  { name: "XNX, HAD", text: "from 3.1 on with their stage", broken: (c) => c.minor >= 1 && ((c.stage2 && !c.executeNever) || (c.stage1 && !c.hierarchicalDisable)) },
  { name: "RIL", text: "from 3.2 on", broken: (c) => c.minor >= 2 && !c.rangeInvalidation },
  { name: "FWB", text: "from 3.2 on with stage 2", broken: (c) => c.minor >= 2 && c.stage2 && !c.forceWriteBack },
  { name: "Hyp", text: "from 3.2 on with both stages", broken: (c) => c.minor >= 2 && c.stage1 && c.stage2 && !c.hyp },
  { name: "BBML", text: "1 or 2 from 3.2 on", broken: (c, id) => c.minor >= 2 && ((id.idr3 >>> 11) & 3) % 3 === 0 },
  { name: "E0PD", text: "from 3.3 on with stage 1", broken: (c) => c.minor >= 3 && c.stage1 && !c.e0pd },
  { name: "PTWNNC", text: "from 3.3 on with stage 2", broken: (c) => c.minor >= 3 && c.stage2 && !c.normalTables },
  { name: "EPAN", text: "from 3.4 on", broken: (c) => c.minor >= 4 && !c.enhancedPan },
];
