/** CAP and ECAP (11.4.2, 11.4.3): one row a field, and what the rest of the model asks of them. */
import { defineFields, extractBits, type FieldTable } from "@iommukit/core";

export const CAP: FieldTable = defineFields("CAP", "VT-d 11.4.2", 64, [
  [3, "ND"], [1, ""], [1, "RWBF"], [1, "PLMR"], [1, "PHMR"], [1, "CM"], [5, "SAGAW"], [3, ""], [6, "MGAW"], [1, "ZLR"], [1, "-"],
  [10, "FRO"], [4, "SSLPS"], [1, ""], [1, "PSI"], [8, "NFR"], [6, "MAMV"], [1, "DWD"], [1, "DRD"], [1, "FS1GP"], [2, ""], [1, "PI"],
  [1, "FS5LP"], [1, "ECMDS"], [1, "ESIRTPS"], [1, "ESRTPS"],
]);

export const ECAP: FieldTable = defineFields("ECAP", "VT-d 11.4.3", 64, [
  [1, "C"], [1, "QI"], [1, "DT"], [1, "IR"], [1, "EIM"], [1, "-"], [1, "PT"], [1, "SC"], [10, "IRO"], [2, ""], [4, "MHMV"], [1, "-"],
  [1, "MTS"], [1, "NEST"], [1, ""], [1, "-"], [1, "PRS"], [1, "ERS"], [1, "SRS"], [1, ""], [1, "NWFS"], [1, "EAFS"], [5, "PSS"],
  [1, "PASID"], [1, "DIT"], [1, "PDS"], [1, "SMTS"], [1, "VCS"], [1, "SSADS"], [1, "SSTS"], [1, "FSTS"], [1, "SMPWC"], [1, "RPS"],
  [1, "TDXCS"], [1, "PMS"], [1, "ADMS"], [1, "RPRIVS"], [1, ""], [1, "HPTS"], [1, "PTRS"], [1, "SSIRWS"], [1, "SMS"], [1, "HPT1GPS"],
  [1, "RDTS"], [1, "EIMER"], [1, "IRREQ"], [1, ""],
]);

/** The words of a unit, taken apart. Flags are booleans, counts and offsets numbers. */
export interface Capabilities {
  readonly version: number;
  readonly cap: bigint;
  readonly ecap: bigint;
  /** Host address width in bits. */
  readonly haw: number;
  readonly majorVersion: number;
  readonly domainIdBits: number;
  readonly cachingMode: boolean;
  readonly sagaw: number;
  readonly mgaw: number;
  readonly zeroLengthRead: boolean;
  readonly faultRecordOffset: number;
  readonly faultRecords: number;
  readonly secondStageLargePages: number;
  readonly pageSelective: boolean;
  readonly maxAddressMask: number;
  readonly firstStage1G: boolean;
  readonly firstStage5Level: boolean;
  readonly srtpFlushes: boolean;
  readonly queuedInvalidation: boolean;
  readonly deviceTlb: boolean;
  readonly interruptRemapping: boolean;
  readonly passThrough: boolean;
  readonly snoopControl: boolean;
  readonly iotlbOffset: number;
  readonly memoryType: boolean;
  readonly nesting: boolean;
  readonly pageRequests: boolean;
  readonly supervisor: boolean;
  readonly extendedAccessed: boolean;
  readonly pasidBits: number;
  readonly pasid: boolean;
  readonly pageRequestDrain: boolean;
  readonly scalableMode: boolean;
  readonly secondStageDirty: boolean;
  readonly secondStage: boolean;
  readonly firstStage: boolean;
  readonly walkCoherency: boolean;
  readonly ridPasid: boolean;
  readonly abortMode: boolean;
  readonly ridPrivileged: boolean;
  readonly hostPermission: boolean;
  readonly translatedPasid: boolean;
  readonly postedInterrupts: boolean;
  readonly extendedInterrupts: boolean;
  readonly deviceTlbThrottle: boolean;
  /** RTADDR.SSIRWE may be set. */
  readonly secondStageIoRights: boolean;
  /** NWFS: the no-write flag of translation requests. */
  readonly noWriteFlag: boolean;
  /** HPT1GPS: 1 GiB permissions in host permission tables. */
  readonly hostPermission1G: boolean;
  readonly writeBufferFlush: boolean;
  readonly protectedLow: boolean;
  readonly protectedHigh: boolean;
  /** SIRTP and turning IRE off flush the interrupt entry cache. */
  readonly sirtpFlushes: boolean;
  readonly stopMarkers: boolean;
  /** EIMER, IRREQ: interrupts pass in x2APIC format only, and not before remapping is on. */
  readonly extendedModeRequired: boolean;
  readonly remappingRequired: boolean;
}

export function readCapabilities(version: number, cap: bigint, ecap: bigint, haw: number): Capabilities {
  const from = (table: FieldTable, word: bigint, name: string): number => {
    const field = table.fields.find((row) => row.name === name);
    if (field === undefined) throw new RangeError(`${table.structure} has no field ${name}`);
    return Number(extractBits([word], field.low, field.width));
  };
  const c = (name: string): number => from(CAP, cap, name);
  const e = (name: string): number => from(ECAP, ecap, name);
  return {
    version, cap, ecap, haw,
    majorVersion: (version >> 4) & 15,
    domainIdBits: 4 + 2 * c("ND"),
    cachingMode: c("CM") === 1,
    sagaw: c("SAGAW"),
    mgaw: c("MGAW") + 1,
    zeroLengthRead: c("ZLR") === 1,
    faultRecordOffset: c("FRO") * 16,
    faultRecords: c("NFR") + 1,
    secondStageLargePages: c("SSLPS"),
    pageSelective: c("PSI") === 1,
    maxAddressMask: c("MAMV"),
    firstStage1G: c("FS1GP") === 1,
    firstStage5Level: c("FS5LP") === 1,
    srtpFlushes: c("ESRTPS") === 1,
    queuedInvalidation: e("QI") === 1,
    deviceTlb: e("DT") === 1,
    interruptRemapping: e("IR") === 1,
    passThrough: e("PT") === 1,
    snoopControl: e("SC") === 1,
    iotlbOffset: e("IRO") * 16,
    memoryType: e("MTS") === 1,
    nesting: e("NEST") === 1,
    pageRequests: e("PRS") === 1,
    supervisor: e("SRS") === 1,
    extendedAccessed: e("EAFS") === 1,
    pasidBits: e("PSS") + 1,
    pasid: e("PASID") === 1,
    pageRequestDrain: e("PDS") === 1,
    scalableMode: e("SMTS") === 1,
    secondStageDirty: e("SSADS") === 1,
    secondStage: e("SSTS") === 1,
    firstStage: e("FSTS") === 1,
    walkCoherency: e("SMPWC") === 1,
    ridPasid: e("RPS") === 1,
    abortMode: e("ADMS") === 1,
    ridPrivileged: e("RPRIVS") === 1,
    hostPermission: e("HPTS") === 1,
    translatedPasid: e("PTRS") === 1,
    postedInterrupts: c("PI") === 1,
    extendedInterrupts: e("EIM") === 1,
    deviceTlbThrottle: e("DIT") === 1,
    secondStageIoRights: e("SSIRWS") === 1,
    noWriteFlag: e("NWFS") === 1,
    hostPermission1G: e("HPT1GPS") === 1,
    writeBufferFlush: c("RWBF") === 1,
    protectedLow: c("PLMR") === 1,
    protectedHigh: c("PHMR") === 1,
    sirtpFlushes: c("ESIRTPS") === 1,
    stopMarkers: e("SMS") === 1,
    extendedModeRequired: e("EIMER") === 1,
    remappingRequired: e("IRREQ") === 1,
  };
}
