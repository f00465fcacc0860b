/**
 * Registers. Intel VT-d Rev 5.10, section 11.4. Widths in bytes; `writable`
 * are the bits that software stores, `clear` the ones that a written 1 clears.
 * Bits in neither read as the hardware has them.
 */

export interface Register {
  readonly name: string;
  readonly offset: number;
  readonly width: 4 | 8;
  readonly writable: bigint;
  readonly clear: bigint;
  readonly reset: bigint;
  /** Registers of an absent capability are RsvdZ. */
  readonly needs?: "QI" | "IR" | "PRS" | "PLMR" | "PHMR";
  readonly section: string;
}

const all32 = 0xffff_ffffn;
const all64 = 0xffff_ffff_ffff_ffffn;

function row(
  offset: number,
  width: 4 | 8,
  name: string,
  section: string,
  writable: bigint,
  more: { clear?: bigint; reset?: bigint; needs?: Register["needs"] } = {},
): Register {
  const { clear = 0n, reset = 0n, needs } = more;
  const register = { name, offset, width, writable, clear, reset, section };
  return needs ? { ...register, needs } : register;
}

export const Reg = {
  VER: 0x00, CAP: 0x08, ECAP: 0x10, GCMD: 0x18, GSTS: 0x1c, RTADDR: 0x20, CCMD: 0x28, FSTS: 0x34, FECTL: 0x38, FEDATA: 0x3c,
  FEADDR: 0x40, FEUADDR: 0x44, PMEN: 0x64, IQH: 0x80, IQT: 0x88, IQA: 0x90, ICS: 0x9c, IECTL: 0xa0, IEDATA: 0xa4, IEADDR: 0xa8,
  IEUADDR: 0xac, IQERCD: 0xb0, IRTA: 0xb8,
} as const;

/** In offset order. IVA, IOTLB and FRCD lie where ECAP.IRO and CAP.FRO say and are added by the unit. */
export const REGISTERS: readonly Register[] = [
  row(Reg.VER, 4, "VER", "11.4.1", 0n),
  row(Reg.CAP, 8, "CAP", "11.4.2", 0n),
  row(Reg.ECAP, 8, "ECAP", "11.4.3", 0n),
  row(Reg.GCMD, 4, "GCMD", "11.4.4.1", all32),
  row(Reg.GSTS, 4, "GSTS", "11.4.4.2", 0n),
  row(Reg.RTADDR, 8, "RTADDR", "11.4.5", all64 & ~0x37fn),
  row(Reg.CCMD, 8, "CCMD", "11.4.6.1", 0xe003_ffff_ffff_ffffn),
  row(Reg.FSTS, 4, "FSTS", "11.4.7.1", 0n, { clear: 0x71n }),
  row(Reg.FECTL, 4, "FECTL", "11.4.7.2", 0x8000_0000n, { reset: 0x8000_0000n }),
  row(Reg.FEDATA, 4, "FEDATA", "11.4.7.3", 0xffffn),
  row(Reg.FEADDR, 4, "FEADDR", "11.4.7.4", 0xffff_fffcn),
  row(Reg.FEUADDR, 4, "FEUADDR", "11.4.7.5", all32),
  row(Reg.IQH, 8, "IQH", "11.4.9.1", 0n, { needs: "QI" }),
  row(Reg.IQT, 8, "IQT", "11.4.9.2", 0x7fff0n, { needs: "QI" }),
  row(Reg.IQA, 8, "IQA", "11.4.9.3", all64 & ~0x7f8n, { needs: "QI" }),
  row(Reg.ICS, 4, "ICS", "11.4.9.4", 0n, { clear: 1n, needs: "QI" }),
  row(Reg.IECTL, 4, "IECTL", "11.4.9.5", 0x8000_0000n, { reset: 0x8000_0000n, needs: "QI" }),
  row(Reg.IEDATA, 4, "IEDATA", "11.4.9.6", 0xffffn, { needs: "QI" }),
  row(Reg.IEADDR, 4, "IEADDR", "11.4.9.7", 0xffff_fffcn, { needs: "QI" }),
  row(Reg.IEUADDR, 4, "IEUADDR", "11.4.9.8", all32, { needs: "QI" }),
  row(Reg.IQERCD, 8, "IQERCD", "11.4.9.9", 0n, { needs: "QI" }),
  row(Reg.IRTA, 8, "IRTA", "11.4.10", 0xffff_ffff_ffff_f80fn, { needs: "IR" }),
];

/** Bits of GCMD and GSTS (11.4.4), as signed 32-bit numbers. */
export const Gcmd = {
  TE: -0x8000_0000, SRTP: 0x4000_0000, WBF: 0x800_0000, QIE: 0x400_0000, IRE: 0x200_0000, SIRTP: 0x100_0000, CFI: 0x80_0000,
} as const;
/** Bits of FSTS (11.4.7.1). */
export const Fsts = { PFO: 1, PPF: 2, IQE: 0x10, ICE: 0x20, ITE: 0x40 } as const;
/** Bit 31 (IM) and bit 30 (IP) of FECTL, IECTL. */
export const EventControl = { IM: -0x8000_0000, IP: 0x4000_0000 } as const;
