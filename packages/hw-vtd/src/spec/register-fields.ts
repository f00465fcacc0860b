/**
 * Fields of every register (VT-d 11.4), for decoders. What a register does when
 * it is written is in `registers.ts` and in the hardware. The MTRR registers
 * (100h to 218h) and those of performance monitoring (300h to 380h) are known by
 * name only: nothing models them.
 */
import { defineFields, type FieldRow, type FieldTable } from "@iommukit/core";
import { CAP, ECAP } from "./capabilities.js";
import { flag, oneOf, page, pageAddress, pagesOfMask, requester } from "./meanings.js";

export interface RegisterLayout {
  /** Byte offset; "IRO" and "FRO" are where ECAP and CAP say, and what follows is added. */
  readonly offset: number | `IRO+${number}` | `FRO+${number}`;
  readonly table: FieldTable;
}

const address = (low: number) => (value: bigint): string | undefined => (value === 0n ? undefined : `0x${(value << BigInt(low)).toString(16)}`);
const bytes = (shift: number) => (value: bigint): string => `byte 0x${(value << BigInt(shift)).toString(16)} of the queue`;
const tableMode = oneOf("legacy", "scalable", "", "abort-DMA");
const queueError = oneOf(
  "no error is told", "the tail is outside the queue", "the descriptor could not be read", "the type is not valid in this mode or unit", "a reserved field is set",
  "128-bit descriptors in a mode that needs 256, or the other way round", "the tail is not aligned to 256-bit descriptors", "RTADDR.TTM is reserved",
);
const cacheGranularity = oneOf("rejected or none", "global", "domain", "device");
const iotlbGranularity = oneOf("rejected or none", "global", "domain", "page");

/** The control, data and address registers of one interrupt (11.4.7.2 and its like). */
function message(name: string, offset: number, section: string): RegisterLayout[] {
  const [chapter, first] = [section.slice(0, section.lastIndexOf(".")), Number(section.slice(section.lastIndexOf(".") + 1))];
  const row = (i: number, suffix: string, rows: readonly FieldRow[]): RegisterLayout => ({
    offset: offset + 4 * i,
    table: defineFields(name + suffix, `VT-d ${chapter}.${first + i}`, 32, rows),
  });
  return [
    row(0, "CTL", [[30, "-"], [1, "IP", flag("an interrupt is pending")], [1, "IM", flag("masked", "not masked")]]),
    row(1, "DATA", [[16, "IMD", (value) => `vector 0x${(value & 0xffn).toString(16)}`], [16, "EIMD"]]),
    row(2, "ADDR", [[2, "-"], [30, "MA", address(2)]]),
    row(3, "UADDR", [[32, "MUA"]]),
  ];
}

/** Bits of GCMD; GSTS has the same with an S (11.4.4). */
function globalBits(name: string, section: string, names: readonly string[]): FieldTable {
  const [cfi, sirtp, ire, qie, wbf, srtp, te] = names;
  return defineFields(name, section, 32, [
    [23, "-"], [1, cfi, flag("compatibility-format interrupts pass")], [1, sirtp, flag("interrupt remapping table pointer latched")],
    [1, ire, flag("interrupt remapping on")], [1, qie, flag("queued invalidation on")], [1, wbf, flag("write buffer flush")], [2, "-"],
    [1, srtp, flag("root table pointer latched")], [1, te, flag("DMA remapping on", "DMA remapping off: requests pass untranslated")],
  ]);
}

const queuePointer = (name: string, section: string, low: number, high: number): FieldTable =>
  defineFields(name, section, 64, [[low, ""], [high - low + 1, name === "IQH" || name === "PQH" ? "QH" : "QT", bytes(low)], [63 - high, ""]]);

export const REGISTER_LAYOUTS: readonly RegisterLayout[] = [
  { offset: 0x00, table: defineFields("VER", "VT-d 11.4.1", 32, [[4, "MIN"], [4, "MAX"], [24, ""]]) },
  { offset: 0x08, table: CAP },
  { offset: 0x10, table: ECAP },
  { offset: 0x18, table: globalBits("GCMD", "VT-d 11.4.4.1", ["CFI", "SIRTP", "IRE", "QIE", "WBF", "SRTP", "TE"]) },
  { offset: 0x1c, table: globalBits("GSTS", "VT-d 11.4.4.2", ["CFIS", "IRTPS", "IRES", "QIES", "WBFS", "RTPS", "TES"]) },
  {
    offset: 0x20,
    table: defineFields("RTADDR", "VT-d 11.4.5", 64, [[7, ""], [1, "SSIRWE", flag("second-stage rights are IR and IW")], [2, ""], [2, "TTM", tableMode], [52, "RTA", pageAddress]]),
  },
  {
    offset: 0x28,
    table: defineFields("CCMD", "VT-d 11.4.6.1", 64, [
      [16, "DID"], [16, "SID", requester], [2, "FM", oneOf("all of SID", "SID without bit 2", "SID without bits 2:1", "SID without bits 2:0")], [25, "-"],
      [2, "CAIG", cacheGranularity], [2, "CIRG", cacheGranularity], [1, "ICC", flag("an invalidation is under way")],
    ]),
  },
  {
    offset: 0x34,
    table: defineFields("FSTS", "VT-d 11.4.7.1", 32, [
      [1, "PFO", flag("overflow: faults are not recorded until it is cleared")], [1, "PPF", flag("a fault is recorded")], [2, ""],
      [1, "IQE", flag("invalidation queue error: IQERCD says which")], [1, "ICE", flag("a device-TLB completion did not fit")],
      [1, "ITE", flag("a device-TLB invalidation timed out")], [1, "-"], [8, "FRI"], [16, ""],
    ]),
  },
  ...message("FE", 0x38, "11.4.7.2"),
  { offset: 0x64, table: defineFields("PMEN", "VT-d 11.4.8.1", 32, [[1, "PRS", flag("protected regions are on")], [30, "-"], [1, "EPM", flag("protection asked for")]]) },
  { offset: 0x68, table: defineFields("PLMBASE", "VT-d 11.4.8.2", 32, [[32, "PLMB"]]) },
  { offset: 0x6c, table: defineFields("PLMLIMIT", "VT-d 11.4.8.3", 32, [[32, "PLML"]]) },
  { offset: 0x70, table: defineFields("PHMBASE", "VT-d 11.4.8.4", 64, [[64, "PHMB"]]) },
  { offset: 0x78, table: defineFields("PHMLIMIT", "VT-d 11.4.8.5", 64, [[64, "PHML"]]) },
  { offset: 0x80, table: queuePointer("IQH", "VT-d 11.4.9.1", 4, 18) },
  { offset: 0x88, table: queuePointer("IQT", "VT-d 11.4.9.2", 4, 18) },
  {
    offset: 0x90,
    table: defineFields("IQA", "VT-d 11.4.9.3", 64, [
      [3, "QS", (value) => `${4096n << value} bytes`], [8, ""], [1, "DW", flag("256-bit descriptors", "128-bit descriptors")], [52, "IQA", pageAddress],
    ]),
  },
  { offset: 0x9c, table: defineFields("ICS", "VT-d 11.4.9.4", 32, [[1, "IWC", flag("a wait descriptor with IF completed")], [31, ""]]) },
  ...message("IE", 0xa0, "11.4.9.5"),
  { offset: 0xb0, table: defineFields("IQERCD", "VT-d 11.4.9.9", 64, [[4, "IQEI", queueError], [28, ""], [16, "ITESID", requester], [16, "ICESID", requester]]) },
  {
    offset: 0xb8,
    table: defineFields("IRTA", "VT-d 11.4.10", 64, [
      [4, "S", (value) => `${2n ** (value + 1n)} entries`], [7, ""], [1, "EIME", flag("x2APIC: 32-bit destinations", "xAPIC: 8-bit destinations")], [52, "IRTA", pageAddress],
    ]),
  },
  { offset: 0xc0, table: queuePointer("PQH", "VT-d 11.4.11", 5, 18) },
  { offset: 0xc8, table: queuePointer("PQT", "VT-d 11.4.11", 5, 18) },
  { offset: 0xd0, table: defineFields("PQA", "VT-d 11.4.11", 64, [[3, "PQS", (value) => `${2n ** (value + 7n)} entries of 32 bytes`], [9, ""], [52, "PQA", pageAddress]]) },
  {
    offset: 0xdc,
    table: defineFields("PRS", "VT-d 11.4.11", 32, [[1, "PPR", flag("a page request is pending")], [1, "PRO", flag("overflow: page requests are dropped until it is cleared")], [30, ""]]),
  },
  ...message("PE", 0xe0, "11.4.11.5"),
  {
    offset: 0x400,
    table: defineFields("ECMD", "VT-d 11.4", 64, [[8, "CMD"], [8, ""], [48, "OA"]]),
  },
  { offset: 0x408, table: defineFields("ECEO", "VT-d 11.4", 64, [[64, "OB"]]) },
  {
    offset: 0x410,
    table: defineFields("ECRSP", "VT-d 11.4", 64, [[1, "IP", flag("a command is in progress")], [7, "SC", statusCode], [8, ""], [48, "RSLT"]]),
  },
  { offset: 0x420, table: defineFields("ECSTS0", "VT-d 11.4", 64, [[64, "STS"]]) },
  { offset: 0x428, table: defineFields("ECSTS1", "VT-d 11.4", 64, [[64, "STS"]]) },
  { offset: 0x430, table: defineFields("ECCAP0", "VT-d 11.4", 64, [[64, "CAP"]]) },
  { offset: 0x438, table: defineFields("ECCAP1", "VT-d 11.4", 64, [[64, "CAP"]]) },
  { offset: 0x440, table: defineFields("ECCAP2", "VT-d 11.4", 64, [[64, "CAP"]]) },
  {
    offset: 0x448,
    table: defineFields("ECCAP3", "VT-d 11.4", 64, [[48, "-"], [1, "ECNTS"], [1, "DCNTS"], [1, "RCFGS"], [1, "RCNTS"], [1, "FCNTS"], [1, "UFCNTS"], [10, "-"]]),
  },
  { offset: 0xe00, table: defineFields("VCMD", "VT-d 11.4", 64, [[8, "CMD", oneOf("", "allocate a PASID", "free a PASID")], [8, "-"], [20, "OP"], [28, "-"]]) },
  { offset: 0xe08, table: defineFields("VCMD_EO", "VT-d 11.4", 64, [[64, "OB"]]) },
  {
    offset: 0xe10,
    table: defineFields("VCRSP", "VT-d 11.4", 64, [[1, "IP", flag("a command is in progress")], [7, "SC", statusCode], [8, ""], [20, "PASID"], [28, ""]]),
  },
  { offset: 0xe30, table: defineFields("VCCAP", "VT-d 11.4", 64, [[1, "NS"], [1, "PAS", flag("PASIDs are handed out")], [1, "FPS", flag("PASIDs are taken back")], [61, "-"]]) },
  { offset: "IRO+0", table: defineFields("IVA", "VT-d 11.4.6.2", 64, [[6, "AM", pagesOfMask], [1, "IH", flag("only leaves changed")], [5, ""], [52, "ADDR", page]]) },
  {
    offset: "IRO+8",
    table: defineFields("IOTLB", "VT-d 11.4.6.2", 64, [
      [32, "-"], [16, "DID"], [1, "DW", flag("drains writes")], [1, "DR", flag("drains reads")], [7, "-"], [2, "IAIG", iotlbGranularity], [1, "-"],
      [2, "IIRG", iotlbGranularity], [1, "-"], [1, "IVT", flag("an invalidation is under way")],
    ]),
  },
];

/** ECRSP.SC and VCRSP.SC; 16 and up belong to the command. */
function statusCode(value: bigint): string {
  return ["success", "the command is not defined", "aborted: another operation was in flight"][Number(value)] ?? (value >= 16n ? `refused by the command (${value})` : "reserved");
}

/** Registers that the manual has and no part of this package models. */
export const NOT_MODELLED: Readonly<Record<string, string>> = {
  MTRR: "memory type range registers, 100h to 218h, only with ECAP.MTS",
  PERF: "performance monitoring, 300h to 380h, only with ECAP.PMS",
  RDTC: "DC0h, only with ECAP.RDTS",
  AFLOG: "58h, removed in Rev 4.0",
};
