/** CAP and ECAP (11.4.2, 11.4.3): one row a field, and what the rest of the model asks of them. */
import { defineFields, extractBits, type FieldTable } from "@iommukit/core";
import { flag, oneOf } from "./meanings.js";

const widths = (value: bigint): string | undefined => {
  const names = ["39 bits", "48 bits", "57 bits"].filter((_, i) => ((value >> BigInt(i + 1)) & 1n) === 1n);
  return names.length === 0 ? undefined : names.join(", ");
};
const offset = (value: bigint): string => `at 0x${(value * 16n).toString(16)}`;

export const CAP: FieldTable = defineFields("CAP", "VT-d 11.4.2", 64, [
  [3, "ND", (value) => (value === 7n ? "reserved" : `${4n + 2n * value}-bit domain ids`)], [1, "AFL", flag("advanced fault logging, removed in Rev 4.0")], [1, "RWBF", flag("write buffers must be flushed")],
  [1, "PLMR", flag("protected low memory region")], [1, "PHMR", flag("protected high memory region")], [1, "CM", flag("caching mode: every change must be invalidated")],
  [5, "SAGAW", widths], [3, ""], [6, "MGAW", (value) => `${value + 1n}-bit guest addresses`], [1, "ZLR", flag("zero-length reads of write-only pages")], [1, "-"],
  [10, "FRO", (value) => `fault records ${offset(value)}`], [4, "SSLPS", oneOf("4 KiB only", "2 MiB pages", "", "2 MiB and 1 GiB pages")], [1, ""],
  [1, "PSI", flag("page-selective invalidation")], [8, "NFR", (value) => `${value + 1n} fault records`], [6, "MAMV", (value) => (value === 0n ? "one page at a time" : `up to 2^${value} pages at once`)],
  [1, "DWD", flag("write draining")], [1, "DRD", flag("read draining")], [1, "FS1GP", flag("1 GiB first-stage pages")], [2, ""], [1, "PI", flag("posted interrupts")],
  [1, "FS5LP", flag("5-level first stage")], [1, "ECMDS", flag("enhanced commands")], [1, "ESIRTPS", flag("SIRTP flushes the interrupt entry cache")],
  [1, "ESRTPS", flag("SRTP flushes the caches")],
]);

export const ECAP: FieldTable = defineFields("ECAP", "VT-d 11.4.3", 64, [
  [1, "C", flag("root, context and PASID structures are snooped")], [1, "QI", flag("queued invalidation")], [1, "DT", flag("device-TLBs")],
  [1, "IR", flag("interrupt remapping")], [1, "EIM", flag("x2APIC interrupts")], [1, "-"], [1, "PT", flag("pass-through")], [1, "SC", flag("snoop control")],
  [10, "IRO", (value) => `IOTLB registers ${offset(value)}`], [2, ""], [4, "MHMV", (value) => (value === 0n ? undefined : `up to 2^${value} interrupt entries at once`)],
  [1, "ECS", flag("extended mode, removed in Rev 3.0")], [1, "MTS", flag("memory types")], [1, "NEST", flag("nested translation")],
  [1, "DIS", flag("deferred invalidation, removed")], [1, "PASID_OLD", flag("PASIDs of the extended mode, removed in Rev 3.0")], [1, "PRS", flag("page requests")], [1, "ERS", flag("execute requests")],
  [1, "SRS", flag("privileged requests")], [1, ""], [1, "NWFS", flag("no-write flag")], [1, "EAFS", flag("extended accessed flag")],
  [5, "PSS", (value) => (value === 0n ? undefined : `${value + 1n}-bit PASIDs`)], [1, "PASID", flag("requests with PASID")], [1, "DIT", flag("device-TLB invalidation throttle")],
  [1, "PDS", flag("page request drain")], [1, "SMTS", flag("scalable mode")], [1, "VCS", flag("virtual commands")],
  [1, "SSADS", flag("second-stage accessed and dirty flags")], [1, "SSTS", flag("second stage in scalable mode")], [1, "FSTS", flag("first stage in scalable mode")],
  [1, "SMPWC", flag("snooped page walks")], [1, "RPS", flag("RID_PASID")], [1, "TDXCS"], [1, "PMS", flag("performance monitoring")],
  [1, "ADMS", flag("abort-DMA mode")], [1, "RPRIVS", flag("RID_PRIV")], [1, ""], [1, "HPTS", flag("host permission tables")],
  [1, "PTRS", flag("translated requests with PASID")], [1, "SSIRWS", flag("second-stage IR and IW bits")], [1, "SMS", flag("stop markers")],
  [1, "HPT1GPS", flag("1 GiB host permissions")], [1, "RDTS"], [1, "EIMER", flag("EIME must be used")], [1, "IRREQ", flag("interrupt remapping must be used")], [1, ""],
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
