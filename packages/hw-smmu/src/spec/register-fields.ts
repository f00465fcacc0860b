/** Fields of the registers that decoders explain (SMMU 6.3). What a register does when it is written is in `registers.ts` and in the hardware. */
import { defineFields, type FieldRow, type FieldTable } from "@iommukit/core";
import { AIDR, IDR0, IDR1, IDR3, IDR5, IIDR } from "./identification.js";
import { addressFrom, oneOf } from "./words.js";

const word32 = (name: string, section: string, rows: readonly FieldRow[]): FieldTable => defineFields(`SMMU_${name}`, `SMMU ${section}`, 64, [...rows, [32, ""]]);
const index: readonly FieldRow[] = [[20, "index and wrap"]];
const errors: readonly FieldRow[] = [
  [1, "CMDQ_ERR"], [1, ""], [1, "EVENTQ_ABT_ERR"], [1, "PRIQ_ABT_ERR"], [1, "MSI_CMDQ_ABT_ERR"], [1, "MSI_EVENTQ_ABT_ERR"], [1, "MSI_PRIQ_ABT_ERR"],
  [1, "MSI_GERROR_ABT_ERR"], [1, "SFM_ERR"], [1, "CMDQP_ERR"], [1, "DPT_ERR"], [21, ""],
];
const queueBase = (name: string, section: string, hint: string): FieldTable =>
  defineFields(`SMMU_${name}`, `SMMU ${section}`, 64, [[5, "LOG2SIZE", (bits) => `${2n ** bits} entries`], [51, "ADDR", addressFrom(5)], [6, ""], [1, hint], [1, ""]]);
const output = (name: string, section: string, flag: string): FieldTable => word32(name, section, [...index, [11, ""], [1, flag]]);

/** Fields that override have the meanings of those of an STE. */
export const GBPA: FieldTable = word32("GBPA", "6.3.14", [
  [4, "MemAttr"], [1, "MTCFG"], [3, ""], [4, "ALLOCCFG"], [2, "SHCFG"], [2, ""], [2, "PRIVCFG"], [2, "INSTCFG"], [1, "ABORT"], [10, ""], [1, "Update"],
]);

export const REGISTER_LAYOUTS: readonly { readonly table: FieldTable; readonly bits: 32 | 64 }[] = [
  ...[
    IDR0, IDR1, IDR3, IDR5, IIDR, AIDR,
    word32("CR0", "6.3.9", [[1, "SMMUEN"], [1, "PRIQEN"], [1, "EVENTQEN"], [1, "CMDQEN"], [1, "ATSCHK"], [1, ""], [3, "VMW", (bits) => `${bits} low VMID bits do not count`], [23, ""]]),
    word32("CR1", "6.3.11", [[2, "QUEUE_IC"], [2, "QUEUE_OC"], [2, "QUEUE_SH"], [2, "TABLE_IC"], [2, "TABLE_OC"], [2, "TABLE_SH"], [20, ""]]),
    word32("CR2", "6.3.12", [[1, "E2H"], [1, "RECINVSID"], [1, "PTM"], [1, "REC_CFG_ATS"], [28, ""]]),
    GBPA,
    word32("GERROR", "6.3.18", errors),
    word32("GERRORN", "6.3.19", errors),
    word32("STRTAB_BASE_CFG", "6.3.25", [[6, "LOG2SIZE", (bits) => `${2n ** bits} StreamIDs`], [5, "SPLIT"], [5, ""], [2, "FMT", oneOf("linear", "two-level")], [14, ""]]),
    word32("CMDQ_PROD", "6.3.27", [...index, [12, ""]]),
    word32("CMDQ_CONS", "6.3.28", [...index, [4, ""], [7, "ERR", oneOf("none", "CERROR_ILL", "CERROR_ABT", "CERROR_ATC_INV_SYNC")], [1, ""]]),
    output("EVENTQ_PROD", "6.3.30", "OVFLG"), output("EVENTQ_CONS", "6.3.31", "OVACKFLG"), output("PRIQ_PROD", "6.3.36", "OVFLG"), output("PRIQ_CONS", "6.3.37", "OVACKFLG"),
  ].map((table) => ({ table, bits: 32 as const })),
  ...[
    defineFields("SMMU_STRTAB_BASE", "SMMU 6.3.24", 64, [[6, ""], [50, "ADDR", addressFrom(6)], [6, ""], [1, "RA"], [1, ""]]),
    queueBase("CMDQ_BASE", "6.3.26", "RA"), queueBase("EVENTQ_BASE", "6.3.29", "WA"), queueBase("PRIQ_BASE", "6.3.35", "WA"),
  ].map((table) => ({ table, bits: 64 as const })),
];
