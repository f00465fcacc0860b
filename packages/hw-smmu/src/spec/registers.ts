/**
 * Registers of the Non-secure programming interface (SMMU 6.1 to 6.3): widths in bytes, the bits that software
 * stores, and what must be off for a write to count. Page 1 begins at 0x10000.
 */

/** Enables that make a register read-only while they, or their acknowledgement, are set. */
export type Guard = "SMMUEN" | "CMDQEN" | "EVENTQEN" | "PRIQEN" | "queues" | "GERROR_IRQEN" | "EVENTQ_IRQEN" | "PRIQ_IRQEN";

export interface Register {
  readonly name: string;
  readonly offset: number;
  readonly width: 4 | 8;
  readonly writable: bigint;
  readonly guard?: Guard;
  /** Registers of an absent capability are RES0. */
  readonly needs?: "PRI" | "MSI" | "MSI and PRI";
}

const all32 = 0xffff_ffffn;
/** RA or WA, ADDR[55:5], LOG2SIZE. */
const queueBase = (1n << 62n) | 0xff_ffff_ffff_ffffn;
const message = 0xff_ffff_ffff_fffcn;

function row(offset: number, width: 4 | 8, name: string, writable = 0n, guard?: Guard, needs?: Register["needs"]): Register {
  return { name, offset, width, writable, ...(guard ? { guard } : {}), ...(needs ? { needs } : {}) };
}

export const Reg = {
  IDR0: 0x00, IDR1: 0x04, IDR2: 0x08, IDR3: 0x0c, IDR4: 0x10, IDR5: 0x14, IIDR: 0x18, AIDR: 0x1c, CR0: 0x20, CR0ACK: 0x24, CR1: 0x28, CR2: 0x2c,
  STATUSR: 0x40, GBPA: 0x44, AGBPA: 0x48, IRQ_CTRL: 0x50, IRQ_CTRLACK: 0x54, GERROR: 0x60, GERRORN: 0x64, GERROR_IRQ_CFG0: 0x68,
  GERROR_IRQ_CFG1: 0x70, GERROR_IRQ_CFG2: 0x74, STRTAB_BASE: 0x80, STRTAB_BASE_CFG: 0x88, CMDQ_BASE: 0x90, CMDQ_PROD: 0x98, CMDQ_CONS: 0x9c,
  EVENTQ_BASE: 0xa0, EVENTQ_IRQ_CFG0: 0xb0, EVENTQ_IRQ_CFG1: 0xb8, EVENTQ_IRQ_CFG2: 0xbc, PRIQ_BASE: 0xc0, PRIQ_IRQ_CFG0: 0xd0,
  PRIQ_IRQ_CFG1: 0xd8, PRIQ_IRQ_CFG2: 0xdc, EVENTQ_PROD: 0x100a8, EVENTQ_CONS: 0x100ac, PRIQ_PROD: 0x100c8, PRIQ_CONS: 0x100cc,
} as const;

/** Bytes of the register set: two pages of 64 KiB. */
export const REGISTER_BYTES = 0x20000;

/** In offset order. */
export const REGISTERS: readonly Register[] = [
  row(Reg.IDR0, 4, "IDR0"),
  row(Reg.IDR1, 4, "IDR1"),
  row(Reg.IDR2, 4, "IDR2"),
  row(Reg.IDR3, 4, "IDR3"),
  row(Reg.IDR4, 4, "IDR4"),
  row(Reg.IDR5, 4, "IDR5"),
  row(Reg.IIDR, 4, "IIDR"),
  row(Reg.AIDR, 4, "AIDR"),
  row(Reg.CR0, 4, "CR0", all32),
  row(Reg.CR0ACK, 4, "CR0ACK"),
  row(Reg.CR1, 4, "CR1", 0xfffn),
  row(Reg.CR2, 4, "CR2", 0xfn, "SMMUEN"),
  row(Reg.STATUSR, 4, "STATUSR"),
  row(Reg.GBPA, 4, "GBPA", all32),
  row(Reg.AGBPA, 4, "AGBPA"),
  row(Reg.IRQ_CTRL, 4, "IRQ_CTRL", 7n),
  row(Reg.IRQ_CTRLACK, 4, "IRQ_CTRLACK"),
  row(Reg.GERROR, 4, "GERROR"),
  row(Reg.GERRORN, 4, "GERRORN", 0x7fdn),
  row(Reg.GERROR_IRQ_CFG0, 8, "GERROR_IRQ_CFG0", message, "GERROR_IRQEN", "MSI"),
  row(Reg.GERROR_IRQ_CFG1, 4, "GERROR_IRQ_CFG1", all32, "GERROR_IRQEN", "MSI"),
  row(Reg.GERROR_IRQ_CFG2, 4, "GERROR_IRQ_CFG2", 0x3fn, "GERROR_IRQEN", "MSI"),
  row(Reg.STRTAB_BASE, 8, "STRTAB_BASE", (1n << 62n) | 0xff_ffff_ffff_ffc0n, "SMMUEN"),
  row(Reg.STRTAB_BASE_CFG, 4, "STRTAB_BASE_CFG", 0x3_07ffn, "SMMUEN"),
  row(Reg.CMDQ_BASE, 8, "CMDQ_BASE", queueBase, "CMDQEN"),
  row(Reg.CMDQ_PROD, 4, "CMDQ_PROD", 0xf_ffffn),
  row(Reg.CMDQ_CONS, 4, "CMDQ_CONS", 0x7f0f_ffffn, "CMDQEN"),
  row(Reg.EVENTQ_BASE, 8, "EVENTQ_BASE", queueBase, "EVENTQEN"),
  row(Reg.EVENTQ_IRQ_CFG0, 8, "EVENTQ_IRQ_CFG0", message, "EVENTQ_IRQEN", "MSI"),
  row(Reg.EVENTQ_IRQ_CFG1, 4, "EVENTQ_IRQ_CFG1", all32, "EVENTQ_IRQEN", "MSI"),
  row(Reg.EVENTQ_IRQ_CFG2, 4, "EVENTQ_IRQ_CFG2", 0x3fn, "EVENTQ_IRQEN", "MSI"),
  row(Reg.PRIQ_BASE, 8, "PRIQ_BASE", queueBase, "PRIQEN", "PRI"),
  row(Reg.PRIQ_IRQ_CFG0, 8, "PRIQ_IRQ_CFG0", message, "PRIQ_IRQEN", "MSI and PRI"),
  row(Reg.PRIQ_IRQ_CFG1, 4, "PRIQ_IRQ_CFG1", all32, "PRIQ_IRQEN", "MSI and PRI"),
  row(Reg.PRIQ_IRQ_CFG2, 4, "PRIQ_IRQ_CFG2", 0x8000_003fn, "PRIQ_IRQEN", "PRI"),
  row(Reg.EVENTQ_PROD, 4, "EVENTQ_PROD", 0x800f_ffffn, "EVENTQEN"),
  row(Reg.EVENTQ_CONS, 4, "EVENTQ_CONS", 0x800f_ffffn),
  row(Reg.PRIQ_PROD, 4, "PRIQ_PROD", 0x800f_ffffn, "PRIQEN", "PRI"),
  row(Reg.PRIQ_CONS, 4, "PRIQ_CONS", 0x800f_ffffn, undefined, "PRI"),
];

/** CR0 and CR0ACK (6.3.9). */
export const Cr0 = { SMMUEN: 1, PRIQEN: 2, EVENTQEN: 4, CMDQEN: 8, ATSCHK: 0x10, VMW: 0x1c0 } as const;
/** CR1 (6.3.11): the attributes of queue accesses, and of table accesses. */
export const Cr1 = { QUEUE: 0x3f, TABLE: 0xfc0 } as const;
/** CR2 (6.3.12). */
export const Cr2 = { E2H: 1, RECINVSID: 2, PTM: 4, REC_CFG_ATS: 8 } as const;
/** GBPA (6.3.14). */
export const Gbpa = { UPDATE: 0x8000_0000, ABORT: 0x10_0000, WRITABLE: 0x1f_3f1f } as const;
/** IRQ_CTRL (6.3.16). */
export const IrqCtrl = { GERROR: 1, PRIQ: 2, EVENTQ: 4 } as const;
/** GERROR and GERRORN (6.3.18): an error is active while the two differ. */
export const Gerror = {
  CMDQ_ERR: 1, EVENTQ_ABT_ERR: 4, PRIQ_ABT_ERR: 8, MSI_CMDQ_ABT_ERR: 0x10, MSI_EVENTQ_ABT_ERR: 0x20, MSI_PRIQ_ABT_ERR: 0x40, MSI_GERROR_ABT_ERR: 0x80,
} as const;
/** CMDQ_CONS.ERR (7.1). */
export const CommandError = { NONE: 0, ILL: 1, ABT: 2, ATC_INV_SYNC: 3 } as const;
/** OVFLG and OVACKFLG of output queues (6.3.30, 6.3.31). */
export const OVERFLOW = 0x8000_0000;
