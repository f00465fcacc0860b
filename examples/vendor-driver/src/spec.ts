/**
 * The Acme IOMMU, release 1: what its manual would say.
 *
 * Registers, 8 bytes each:
 *
 * | offset | name | access | meaning |
 * | --- | --- | --- | --- |
 * | 0x00 | ID | RO | 0x454d4341, "ACME" |
 * | 0x08 | TABLE | RW | bits 51:12: device directory; bit 0: translation is on. Off: every request is blocked |
 * | 0x10 | FLUSH | WO | bits 15:0: requester whose translations are forgotten; bit 63: all of them |
 * | 0x18 | FAULT | RO | bits 15:0: requester, 23:16: code, 63: valid. A write of 1 to bit 63 clears it; until then later faults are lost |
 * | 0x20 | ADDRESS | RO | input address of the fault |
 *
 * A device directory has one entry for each bus, a device table one for each device and function; tables translate 39 bits in three
 * levels, with pages of 4 KiB and 2 MiB.
 */
import { createFormat, defineFields, type FieldTable, type PageTableFormat } from "@iommukit/core";

export const Register = { ID: 0x00, TABLE: 0x08, FLUSH: 0x10, FAULT: 0x18, ADDRESS: 0x20 } as const;
export const REGISTER_BYTES = 0x1000;
export const ID = 0x454d_4341n;
export const ENABLE = 1n;
export const EVERYTHING = 1n << 63n;
export const VALID = 1n << 63n;

export const FaultCode = { OFF: 1, NO_DEVICE: 2, RANGE: 3, NOT_PRESENT: 4, RESERVED: 5, BUS_ERROR: 6, READ_ONLY: 7, PASID: 8 } as const;
export const FAULT_TEXT: Readonly<Record<number, string>> = {
  [FaultCode.OFF]: "translation is off",
  [FaultCode.NO_DEVICE]: "the requester has no entry",
  [FaultCode.RANGE]: "the address has more than 39 bits",
  [FaultCode.NOT_PRESENT]: "an entry is not valid",
  [FaultCode.RESERVED]: "an entry has a reserved bit set",
  [FaultCode.BUS_ERROR]: "a table is outside memory",
  [FaultCode.READ_ONLY]: "a write of a page without W",
  [FaultCode.PASID]: "there are no PASIDs here",
};

/** Highest level of the tables, and input address bits. */
export const TOP_LEVEL = 2;
export const ADDRESS_BITS = 39;
export const HOST_ADDRESS_BITS = 48;

/** Bits of an entry. */
export const Entry = { V: 1, W: 2, LEAF: 4 } as const;

const at = (value: bigint): string | undefined => (value === 0n ? undefined : `at 0x${(value << 12n).toString(16)}`);

export const DIRECTORY_ENTRY: FieldTable = defineFields("Device directory entry", "Acme 2.1", 64, [[1, "V"], [11, ""], [36, "TABLE", at], [16, ""]]);
export const DEVICE_ENTRY: FieldTable = defineFields("Device entry", "Acme 2.2", 64, [[1, "V"], [11, ""], [36, "ROOT", at], [16, ""]]);
export const TABLE_ENTRY: FieldTable = defineFields("Table entry", "Acme 3.1", 64, [[1, "V"], [1, "-"], [1, "LEAF"], [9, ""], [36, "ADDRESS", at], [16, ""]]);
export const LEAF_ENTRY: FieldTable = defineFields("Leaf", "Acme 3.2", 64, [[1, "V"], [1, "W"], [1, "LEAF"], [9, ""], [36, "ADDRESS", at], [16, ""]]);

const UNUSED = 0xffff_0000_0000_0ff8n;

export const FORMAT: PageTableFormat = createFormat({
  name: "Acme",
  maxLevel: TOP_LEVEL,
  presentMask: Entry.V,
  leafMask: Entry.LEAF,
  leafValue: Entry.LEAF,
  pageMask: Entry.LEAF,
  pageValue: Entry.LEAF,
  leafLevels: [1],
  addressWidth: HOST_ADDRESS_BITS,
  reserved: (level, leaf) => {
    if (!leaf) return UNUSED | (level === TOP_LEVEL ? BigInt(Entry.LEAF) : 0n);
    return UNUSED | (level === 1 ? 0x1f_f000n : 0n);
  },
  tableLo: Entry.V,
  pageLo: Entry.V | Entry.LEAF,
  blockLo: Entry.V | Entry.LEAF,
});
