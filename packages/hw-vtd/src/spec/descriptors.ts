/** Invalidation descriptors (VT-d 6.5.2), one table a type, in 128 or 256 bits. */
import { defineFields, type FieldTable } from "@iommukit/core";

const address = (value: bigint): string => `0x${(value << 12n).toString(16)}`;
const ccGranularity = (value: bigint): string => ["reserved", "global", "domain", "device"][Number(value)];
const iotlbGranularity = (value: bigint): string => ["reserved", "global", "domain", "page"][Number(value)];
const pasidIotlbGranularity = (value: bigint): string => ["reserved", "reserved", "PASID", "page"][Number(value)];
const pasidCacheGranularity = (value: bigint): string => ["domain", "PASID", "reserved", "global"][Number(value)];

export const DescriptorType = { CC: 1, IOTLB: 2, DEV_TLB: 3, IEC: 4, WAIT: 5, P_IOTLB: 6, PC: 7, P_DEV_TLB: 8, PGR: 9, HPT: 0xa } as const;

export const CC_DESCRIPTOR: FieldTable = defineFields("Context-cache invalidate descriptor", "VT-d 6.5.2.1", 128, [
  [4, "type"], [2, "G", ccGranularity], [3, ""], [3, "typeHigh"], [4, ""], [16, "DID"], [16, "SID"], [2, "FM"], [14, ""], [64, ""],
]);
export const IOTLB_DESCRIPTOR: FieldTable = defineFields("IOTLB invalidate descriptor", "VT-d 6.5.2.3", 128, [
  [4, "type"], [2, "G", iotlbGranularity], [1, "DW"], [1, "DR"], [1, ""], [3, "typeHigh"], [4, ""], [16, "DID"], [32, ""],
  [6, "AM"], [1, "IH"], [5, ""], [52, "ADDR", address],
]);
export const IEC_DESCRIPTOR: FieldTable = defineFields("Interrupt entry cache invalidate descriptor", "VT-d 6.5.2.7", 128, [
  [4, "type"], [1, "G"], [4, ""], [3, "typeHigh"], [15, ""], [5, "IM"], [16, "IIDX"], [16, ""], [64, ""],
]);
/** `PD` is reserved when ECAP.PDS is 0. */
export const WAIT_DESCRIPTOR: FieldTable = defineFields("Invalidation wait descriptor", "VT-d 6.5.2.8", 128, [
  [4, "type"], [1, "IF"], [1, "SW"], [1, "FN"], [1, "PD"], [1, ""], [3, "typeHigh"], [20, ""], [32, "DATA"], [2, ""], [62, "STATUS_ADDR"],
]);
export const P_IOTLB_DESCRIPTOR: FieldTable = defineFields("PASID-based IOTLB invalidate descriptor", "VT-d 6.5.2.4", 256, [
  [4, "type"], [2, "G", pasidIotlbGranularity], [3, ""], [3, "typeHigh"], [4, ""], [16, "DID"], [20, "PASID"], [12, ""],
  [6, "AM"], [1, "IH"], [5, ""], [52, "ADDR", address], [64, ""], [64, ""],
]);
export const PC_DESCRIPTOR: FieldTable = defineFields("PASID-cache invalidate descriptor", "VT-d 6.5.2.2", 256, [
  [4, "type"], [2, "G", pasidCacheGranularity], [3, ""], [3, "typeHigh"], [4, ""], [16, "DID"], [20, "PASID"], [12, ""],
  [64, ""], [64, ""], [64, ""],
]);

/** `PFSID` is reserved when ECAP.DIT is 0. */
export const DEV_TLB_DESCRIPTOR: FieldTable = defineFields("Device-TLB invalidate descriptor", "VT-d 6.5.2.5", 128, [
  [4, "type"], [5, ""], [3, "typeHigh"], [4, "PFSID_LOW"], [5, "MIP"], [11, ""], [16, "SID"], [4, ""], [12, "PFSID_HIGH"],
  [1, "S"], [11, ""], [52, "ADDR", address],
]);
export const P_DEV_TLB_DESCRIPTOR: FieldTable = defineFields("PASID-based device-TLB invalidate descriptor", "VT-d 6.5.2.6", 256, [
  [4, "type"], [5, "MIP"], [3, "typeHigh"], [4, "PFSID_LOW"], [16, "SID"], [20, "PASID"], [12, "PFSID_HIGH"],
  [1, "GI"], [10, ""], [1, "S"], [52, "ADDR", address], [64, ""], [64, ""],
]);
export const PGR_DESCRIPTOR: FieldTable = defineFields("Page group response descriptor", "VT-d 7.7.1", 256, [
  [4, "type"], [1, "PP"], [4, ""], [3, "typeHigh"], [4, "RC"], [16, "RID"], [20, "PASID"], [12, ""],
  [2, ""], [1, "-"], [9, "PRGI"], [52, ""], [64, ""], [64, ""],
]);

/** By type; type A belongs to a capability that is not modelled (ECAP.HPTS). */
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
]);

/** IQERCD.IQEI values (11.4.9.9). */
export const QueueError = {
  NONE: 0, INVALID_TAIL: 1, FETCH: 2, INVALID_TYPE: 3, RESERVED_FIELD: 4, INVALID_WIDTH: 5, TAIL_ALIGNMENT: 6, RESERVED_MODE: 7,
} as const;
