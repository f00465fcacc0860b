/**
 * Registers. Intel VT-d Rev 5.10, section 11.4. Widths in bytes; `writable`
 * are the bits that software stores, `clear` the ones that a written 1 clears.
 * Bits in neither read as the hardware has them.
 */

/** What a register belongs to: without it the register is RsvdZ. `EIM` may take the upper halves of message addresses (11.4.7.5). */
export type RegisterNeed = "QI" | "IR" | "PRS" | "PLMR" | "PHMR" | "PMR" | "QI+EIM" | "PRS+EIM" | "EIM";

export interface Register {
  readonly name: string;
  readonly offset: number;
  readonly width: 4 | 8;
  readonly writable: bigint;
  readonly clear: bigint;
  readonly reset: bigint;
  /** Stored, but read as 0 (WO). */
  readonly writeOnly: bigint;
  /** Registers of an absent capability are RsvdZ. */
  readonly needs?: RegisterNeed;
  readonly section: string;
}

const all32 = 0xffff_ffffn;
const all64 = 0xffff_ffff_ffff_ffffn;

interface More {
  readonly clear?: bigint;
  readonly reset?: bigint;
  readonly writeOnly?: bigint;
  readonly needs?: RegisterNeed;
}

function row(offset: number, width: 4 | 8, name: string, section: string, writable: bigint, more: More = {}): Register {
  const { clear = 0n, reset = 0n, writeOnly = 0n, needs } = more;
  const register = { name, offset, width, writable, clear, reset, writeOnly, section };
  return needs ? { ...register, needs } : register;
}

export const Reg = {
  VER: 0x00, CAP: 0x08, ECAP: 0x10, GCMD: 0x18, GSTS: 0x1c, RTADDR: 0x20, CCMD: 0x28, FSTS: 0x34, FECTL: 0x38, FEDATA: 0x3c,
  FEADDR: 0x40, FEUADDR: 0x44, PMEN: 0x64, PLMBASE: 0x68, PLMLIMIT: 0x6c, PHMBASE: 0x70, PHMLIMIT: 0x78, IQH: 0x80, IQT: 0x88, IQA: 0x90,
  ICS: 0x9c, IECTL: 0xa0, IEDATA: 0xa4, IEADDR: 0xa8, IEUADDR: 0xac, IQERCD: 0xb0, IRTA: 0xb8, PQH: 0xc0, PQT: 0xc8, PQA: 0xd0, PRS: 0xdc,
  PECTL: 0xe0, PEDATA: 0xe4, PEADDR: 0xe8, PEUADDR: 0xec,
} as const;

/** The control, data, address and upper address register of an event's message; `needs` without EIM. */
function quartet(name: "F" | "I" | "P", offset: number, section: string, first: number, needs?: "QI" | "PRS"): Register[] {
  const own = needs ? { needs } : {};
  const upper: RegisterNeed = needs ? `${needs}+EIM` : "EIM";
  return [
    row(offset, 4, `${name}ECTL`, `${section}.${first}`, 0x8000_0000n, { reset: 0x8000_0000n, ...own }),
    row(offset + 4, 4, `${name}EDATA`, `${section}.${first + 1}`, 0xffffn, own),
    row(offset + 8, 4, `${name}EADDR`, `${section}.${first + 2}`, 0xffff_fffcn, own),
    row(offset + 12, 4, `${name}EUADDR`, `${section}.${first + 3}`, all32, { needs: upper }),
  ];
}

/** Protected regions begin and end at multiples of 1 MiB here: N = 19 (11.4.8). */
const REGION_LOW = 0xfff0_0000n;
const REGION_HIGH = all64 & ~0xf_ffffn;

/** In offset order. IVA, IOTLB and FRCD lie where ECAP.IRO and CAP.FRO say and are added by the unit. */
export const REGISTERS: readonly Register[] = [
  row(Reg.VER, 4, "VER", "11.4.1", 0n),
  row(Reg.CAP, 8, "CAP", "11.4.2", 0n),
  row(Reg.ECAP, 8, "ECAP", "11.4.3", 0n),
  row(Reg.GCMD, 4, "GCMD", "11.4.4.1", all32, { writeOnly: all32 }),
  row(Reg.GSTS, 4, "GSTS", "11.4.4.2", 0n),
  row(Reg.RTADDR, 8, "RTADDR", "11.4.5", all64 & ~0x3ffn),
  row(Reg.CCMD, 8, "CCMD", "11.4.6.1", 0xe003_ffff_ffff_ffffn, { writeOnly: 0x3_ffff_0000n }),
  row(Reg.FSTS, 4, "FSTS", "11.4.7.1", 0n, { clear: 0x71n }),
  ...quartet("F", Reg.FECTL, "11.4.7", 2),
  row(Reg.PMEN, 4, "PMEN", "11.4.8.1", 0x8000_0000n, { needs: "PMR" }),
  row(Reg.PLMBASE, 4, "PLMBASE", "11.4.8.2", REGION_LOW, { needs: "PLMR" }),
  row(Reg.PLMLIMIT, 4, "PLMLIMIT", "11.4.8.3", REGION_LOW, { needs: "PLMR" }),
  row(Reg.PHMBASE, 8, "PHMBASE", "11.4.8.4", REGION_HIGH, { needs: "PHMR" }),
  row(Reg.PHMLIMIT, 8, "PHMLIMIT", "11.4.8.5", REGION_HIGH, { needs: "PHMR" }),
  row(Reg.IQH, 8, "IQH", "11.4.9.1", 0n, { needs: "QI" }),
  row(Reg.IQT, 8, "IQT", "11.4.9.2", 0x7fff0n, { needs: "QI" }),
  row(Reg.IQA, 8, "IQA", "11.4.9.3", all64 & ~0x7f8n, { needs: "QI" }),
  row(Reg.ICS, 4, "ICS", "11.4.9.4", 0n, { clear: 1n, needs: "QI" }),
  ...quartet("I", Reg.IECTL, "11.4.9", 5, "QI"),
  row(Reg.IQERCD, 8, "IQERCD", "11.4.9.9", 0n, { needs: "QI" }),
  row(Reg.IRTA, 8, "IRTA", "11.4.10", 0xffff_ffff_ffff_f80fn, { needs: "IR" }),
  row(Reg.PQH, 8, "PQH", "11.4.11.1", 0x7ffe0n, { needs: "PRS" }),
  row(Reg.PQT, 8, "PQT", "11.4.11.2", 0x7ffe0n, { needs: "PRS" }),
  row(Reg.PQA, 8, "PQA", "11.4.11.3", all64 & ~0xff8n, { needs: "PRS" }),
  row(Reg.PRS, 4, "PRS", "11.4.11.4", 0n, { clear: 3n, needs: "PRS" }),
  ...quartet("P", Reg.PECTL, "11.4.11", 5, "PRS"),
];

/** IVA, IOTLB and the fault records, where ECAP.IRO and CAP.FRO put them. */
export function placedRegisters(iotlbOffset: number, faultRecordOffset: number, faultRecords: number): Register[] {
  const placed = [
    row(iotlbOffset, 8, "IVA", "11.4.6.2", all64, { writeOnly: all64 }),
    row(iotlbOffset + 8, 8, "IOTLB", "11.4.6.3", 0xb003_ffff_0000_0000n),
  ];
  for (let i = 0; i < faultRecords; i++) {
    const offset = faultRecordOffset + i * 16;
    placed.push(row(offset, 8, `FRCD${i}L`, "11.4.7.6", 0n), row(offset + 8, 8, `FRCD${i}H`, "11.4.7.6", 0n, { clear: 1n << 63n }));
  }
  return placed;
}

/** Bits of GCMD and GSTS (11.4.4), as signed 32-bit numbers. */
export const Gcmd = {
  TE: -0x8000_0000, SRTP: 0x4000_0000, WBF: 0x800_0000, QIE: 0x400_0000, IRE: 0x200_0000, SIRTP: 0x100_0000, CFI: 0x80_0000,
} as const;
/** Bits of FSTS (11.4.7.1). */
export const Fsts = { PFO: 1, PPF: 2, IQE: 0x10, ICE: 0x20, ITE: 0x40 } as const;
/** Bits of PRS (11.4.11.4). */
export const Prs = { PPR: 1, PRO: 2 } as const;
/** Bit 31 (IM) and bit 30 (IP) of FECTL, IECTL, PECTL. */
export const EventControl = { IM: -0x8000_0000, IP: 0x4000_0000 } as const;
/** Bits of PMEN (11.4.8.1). */
export const Pmen = { EPM: -0x8000_0000, PRS: 1 } as const;
/** Bits of RTADDR (11.4.5). */
export const Rtaddr = { SSIRWE: 0x80 } as const;
/** Bits of IQA (11.4.9.3). */
export const Iqa = { DW: 0x800 } as const;
/** Bits of IRTA (11.4.10). */
export const Irta = { EIME: 0x800 } as const;
