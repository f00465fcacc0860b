/** Invalidation descriptors (VT-d 6.5.2), one table a type, in 128 or 256 bits. */
import { defineFields, type FieldTable } from "@iommukit/core";
import { flag, oneOf, pagesOfMask, requester } from "./meanings.js";

const address = (value: bigint): string => `0x${(value << 12n).toString(16)}`;
const ccGranularity = oneOf("", "global", "domain", "device");
const iotlbGranularity = oneOf("", "global", "domain", "page");
const pasidIotlbGranularity = oneOf("", "", "PASID", "page");
const pasidCacheGranularity = oneOf("domain", "PASID", "", "global");
const hptGranularity = oneOf("", "global", "domain", "range");
const functionMask = oneOf("all of SID", "SID without bit 2", "SID without bits 2:1", "SID without bits 2:0");
const leafHint = flag("only leaves changed");
const responseCode = (value: bigint): string => (value === 0n ? "success" : value === 1n ? "invalid request" : value === 15n ? "response failure" : "reserved");
/** With S the size is in the address: the lowest 0 bit says how many pages. */
const deviceTlbSize = flag("size in the low address bits", "one page");

export const DescriptorType = { CC: 1, IOTLB: 2, DEV_TLB: 3, IEC: 4, WAIT: 5, P_IOTLB: 6, PC: 7, P_DEV_TLB: 8, PGR: 9, HPT: 0xa } as const;

export const CC_DESCRIPTOR: FieldTable = defineFields("Context-cache invalidate descriptor", "VT-d 6.5.2.1", 128, [
  [4, "type"], [2, "G", ccGranularity], [3, ""], [3, "typeHigh"], [4, ""], [16, "DID"], [16, "SID", requester], [2, "FM", functionMask], [14, ""], [64, ""],
]);
export const IOTLB_DESCRIPTOR: FieldTable = defineFields("IOTLB invalidate descriptor", "VT-d 6.5.2.3", 128, [
  [4, "type"], [2, "G", iotlbGranularity], [1, "DW", flag("drains writes")], [1, "DR", flag("drains reads")], [1, ""], [3, "typeHigh"], [4, ""], [16, "DID"], [32, ""],
  [6, "AM", pagesOfMask], [1, "IH", leafHint], [5, ""], [52, "ADDR", address],
]);
export const IEC_DESCRIPTOR: FieldTable = defineFields("Interrupt entry cache invalidate descriptor", "VT-d 6.5.2.7", 128, [
  [4, "type"], [1, "G", oneOf("global", "index")], [4, ""], [3, "typeHigh"], [15, ""], [5, "IM"], [16, "IIDX"], [16, ""], [64, ""],
]);
/** `PD` is reserved when ECAP.PDS is 0. */
export const WAIT_DESCRIPTOR: FieldTable = defineFields("Invalidation wait descriptor", "VT-d 6.5.2.8", 128, [
  [4, "type"], [1, "IF", flag("interrupts when done")], [1, "SW", flag("writes DATA when done")],
  [1, "FN", flag("later descriptors wait")], [1, "PD", flag("drains page requests")], [1, ""], [3, "typeHigh"], [20, ""], [32, "DATA"], [2, ""], [62, "STATUS_ADDR", (value) => `0x${(value << 2n).toString(16)}`],
]);
export const P_IOTLB_DESCRIPTOR: FieldTable = defineFields("PASID-based IOTLB invalidate descriptor", "VT-d 6.5.2.4", 256, [
  [4, "type"], [2, "G", pasidIotlbGranularity], [3, ""], [3, "typeHigh"], [4, ""], [16, "DID"], [20, "PASID"], [12, ""],
  [6, "AM", pagesOfMask], [1, "IH", leafHint], [5, ""], [52, "ADDR", address], [64, ""], [64, ""],
]);
export const PC_DESCRIPTOR: FieldTable = defineFields("PASID-cache invalidate descriptor", "VT-d 6.5.2.2", 256, [
  [4, "type"], [2, "G", pasidCacheGranularity], [3, ""], [3, "typeHigh"], [4, ""], [16, "DID"], [20, "PASID"], [12, ""],
  [64, ""], [64, ""], [64, ""],
]);

/** `PFSID` is reserved when ECAP.DIT is 0. */
export const DEV_TLB_DESCRIPTOR: FieldTable = defineFields("Device-TLB invalidate descriptor", "VT-d 6.5.2.5", 128, [
  [4, "type"], [5, ""], [3, "typeHigh"], [4, "PFSID_LOW"], [5, "MIP"], [11, ""], [16, "SID", requester], [4, ""], [12, "PFSID_HIGH"],
  [1, "S", deviceTlbSize], [11, ""], [52, "ADDR", address],
]);
export const P_DEV_TLB_DESCRIPTOR: FieldTable = defineFields("PASID-based device-TLB invalidate descriptor", "VT-d 6.5.2.6", 256, [
  [4, "type"], [5, "MIP"], [3, "typeHigh"], [4, "PFSID_LOW"], [16, "SID", requester], [20, "PASID"], [12, "PFSID_HIGH"],
  [1, "GI", flag("every PASID")], [10, ""], [1, "S", deviceTlbSize], [52, "ADDR", address], [64, ""], [64, ""],
]);
export const PGR_DESCRIPTOR: FieldTable = defineFields("Page group response descriptor", "VT-d 7.7.1", 256, [
  [4, "type"], [1, "PP", flag("with PASID", "without PASID")], [4, ""], [3, "typeHigh"], [4, "RC", responseCode], [16, "RID", requester], [20, "PASID"], [12, ""],
  [2, ""], [1, "-"], [9, "PRGI"], [52, ""], [64, ""], [64, ""],
]);
export const HPT_DESCRIPTOR: FieldTable = defineFields("HPT invalidate descriptor", "VT-d 6.5.2", 256, [
  [4, "type"], [2, "G", hptGranularity], [3, ""], [3, "typeHigh"], [4, ""], [16, "HPTDID"], [32, ""],
  [6, "AM", pagesOfMask], [2, "IH", oneOf("level 1", "levels 1 and 2", "levels 1 to 3", "all levels")], [4, ""], [52, "ADDR", address], [64, ""], [64, ""],
]);

/** By type. */
export const DESCRIPTORS: ReadonlyMap<number, FieldTable> = new Map([
  [DescriptorType.CC, CC_DESCRIPTOR],
  [DescriptorType.IOTLB, IOTLB_DESCRIPTOR],
  [DescriptorType.IEC, IEC_DESCRIPTOR],
  [DescriptorType.WAIT, WAIT_DESCRIPTOR],
  [DescriptorType.P_IOTLB, P_IOTLB_DESCRIPTOR],
  [DescriptorType.PC, PC_DESCRIPTOR],
  [DescriptorType.DEV_TLB, DEV_TLB_DESCRIPTOR],
  [DescriptorType.P_DEV_TLB, P_DEV_TLB_DESCRIPTOR],
  [DescriptorType.PGR, PGR_DESCRIPTOR],
  [DescriptorType.HPT, HPT_DESCRIPTOR],
]);

/** IQERCD.IQEI values (11.4.9.9). */
export const QueueError = {
  NONE: 0, INVALID_TAIL: 1, FETCH: 2, INVALID_TYPE: 3, RESERVED_FIELD: 4, INVALID_WIDTH: 5, TAIL_ALIGNMENT: 6, RESERVED_MODE: 7,
} as const;
