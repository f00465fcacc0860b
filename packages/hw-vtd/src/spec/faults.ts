/**
 * Fault conditions (VT-d 7.1, tables 25 to 30): one row a condition, with the
 * code that is recorded, whether FPD suppresses it, and what it means.
 */

export interface FaultCondition {
  /** The manual's name: "SFS.2". */
  readonly name: string;
  /** Fault reason (FRCD.FR). */
  readonly code: number;
  /** Qualified: not recorded when an FPD on the way is 1. */
  readonly qualified: boolean;
  readonly text: string;
}

const Q = true;
const U = false;

const rows: readonly (readonly [name: string, code: number, qualified: boolean, text: string])[] = [
  ["LRT.1", 0x08, U, "the root entry could not be read"],
  ["LRT.2", 0x01, U, "the root entry is not present (P=0)"],
  ["LRT.3", 0x0a, U, "a reserved bit is set in the root entry"],
  ["LCT.1", 0x09, U, "the context entry could not be read"],
  ["LCT.2", 0x02, Q, "the context entry is not present (P=0)"],
  ["LCT.3", 0x0b, Q, "a reserved bit is set in the context entry"],
  ["LCT.4.1", 0x03, Q, "AW of the context entry is not in CAP.SAGAW"],
  ["LCT.4.2", 0x03, Q, "TT of the context entry is reserved or not supported"],
  ["LCT.4.3", 0x03, Q, "the top second-stage table could not be read"],
  ["LSS.1", 0x07, Q, "a second-stage entry could not be read"],
  ["LSS.2", 0x0c, Q, "a reserved bit is set in a second-stage entry"],
  ["LGN.1.1", 0x04, Q, "the address is above the width of the second stage, min(MGAW, AW)"],
  ["LGN.1.3", 0x04, Q, "the pass-through address is above the host address width"],
  ["LGN.2", 0x05, Q, "no write permission in the second stage"],
  ["LGN.3", 0x06, Q, "no read permission in the second stage"],
  ["LGN.4", 0x0e, Q, "the translated address lies in the interrupt range 0xFEExxxxx"],
  ["RTA.1.1", 0x30, U, "RTADDR.TTM is abort-DMA, which this unit lacks (ECAP.ADMS=0)"],
  ["RTA.1.2", 0x30, U, "RTADDR.TTM is reserved (10b)"],
  ["RTA.1.3", 0x30, U, "RTADDR.TTM is scalable mode, which this unit lacks (ECAP.SMTS=0)"],
  ["RTA.2", 0x31, U, "a request with PASID in legacy mode"],
  ["RTA.4", 0x33, U, "abort-DMA mode blocks every request"],
  ["RTA.5", 0x34, U, "an execute request (ER=1) on a unit of major version 8 or later"],
  ["SRT.1", 0x38, U, "the scalable-mode root entry could not be read"],
  ["SRT.2", 0x39, U, "the half of the root entry for this device is not present (LP or UP is 0)"],
  ["SRT.3", 0x3a, U, "a reserved bit is set in the scalable-mode root entry"],
  ["SCT.1", 0x40, U, "the scalable-mode context entry could not be read"],
  ["SCT.2", 0x41, Q, "the scalable-mode context entry is not present (P=0)"],
  ["SCT.3", 0x42, Q, "a reserved bit is set in the scalable-mode context entry"],
  ["SCT.4.1", 0x43, Q, "PRE=1 with DTE=0 in the context entry"],
  ["SCT.4.2", 0x43, Q, "RID_PASID is beyond the PASID directory (PDTS)"],
  ["SCT.4.3", 0x43, Q, "EPTR=1 with PASIDE=0 in the context entry"],
  ["SCT.6", 0x45, Q, "a request with PASID, but PASIDE=0 in the context entry"],
  ["SCT.7", 0x46, Q, "the PASID is beyond the PASID directory (PDTS)"],
  ["SCT.9", 0x48, Q, "the PASID equals RID_PASID"],
  ["SPD.1", 0x50, U, "the PASID directory entry could not be read"],
  ["SPD.2", 0x51, Q, "the PASID directory entry is not present (P=0)"],
  ["SPD.3", 0x52, Q, "a reserved bit is set in the PASID directory entry"],
  ["SPT.1", 0x58, U, "the PASID table entry could not be read"],
  ["SPT.2", 0x59, Q, "the PASID table entry is not present (P=0)"],
  ["SPT.3", 0x5a, Q, "a reserved bit is set in the PASID table entry"],
  ["SPT.4.1", 0x5b, Q, "AW of the PASID table entry is not in CAP.SAGAW"],
  ["SPT.4.2", 0x5b, Q, "PGTT of the PASID table entry is reserved or not supported"],
  ["SPT.4.3", 0x5b, Q, "FSPM of the PASID table entry is reserved or not supported"],
  ["SPT.5", 0x5c, Q, "an execute request (ER=1), which this unit does not support"],
  ["SPT.6", 0x5d, Q, "a privileged request with SRE=0 in the PASID table entry"],
  ["SFS.1", 0x70, Q, "a first-stage entry could not be read"],
  ["SFS.2", 0x71, Q, "a first-stage entry is not present (P=0)"],
  ["SFS.3", 0x72, Q, "a reserved bit is set in a first-stage entry"],
  ["SFS.4", 0x73, Q, "the top first-stage table could not be read"],
  ["SFS.9", 0x90, Q, "an accessed or dirty flag must be set, but the walk is not snooped (SMPWC, PWSNP)"],
  ["SFS.10", 0x91, Q, "the update of an accessed or dirty flag failed"],
  ["SSS.1", 0x78, Q, "a second-stage entry could not be read"],
  ["SSS.2", 0x79, Q, "a second-stage entry grants neither read nor write"],
  ["SSS.3", 0x7a, Q, "a reserved bit is set in a second-stage entry"],
  ["SSS.4", 0x7b, Q, "the top second-stage table could not be read"],
  ["SSS.5", 0x7c, Q, "an accessed or dirty flag of the second stage must be set, but the walk is not snooped"],
  ["SSS.6", 0x7d, Q, "the update of an accessed or dirty flag of the second stage failed"],
  ["SGN.1", 0x80, Q, "the address is not canonical"],
  ["SGN.2", 0x81, Q, "a user request met a first-stage entry with U/S=0"],
  ["SGN.4.2", 0x83, Q, "the pass-through address is above the host address width"],
  ["SGN.5", 0x84, Q, "the address is above the width of the second stage, min(MGAW, AW)"],
  ["SGN.6", 0x85, Q, "no write permission"],
  ["SGN.7", 0x86, Q, "no read permission"],
  ["SGN.8", 0x87, Q, "the translated address lies in the interrupt range 0xFEExxxxx"],
  ["SGN.10", 0x89, Q, "the PASID is wider than ECAP.PSS allows"],
  ["IRR.20", 0x20, U, "a reserved field is set in the interrupt request"],
  ["IRR.21", 0x21, U, "the interrupt index is beyond the interrupt remapping table (IRTA.S)"],
  ["IRR.22", 0x22, Q, "the interrupt remapping table entry is not present (P=0)"],
  ["IRR.23", 0x23, U, "the interrupt remapping table entry could not be read"],
  ["IRR.24", 0x24, Q, "a reserved field is set in the interrupt remapping table entry"],
  ["IRR.25", 0x25, U, "a compatibility-format interrupt is blocked (GSTS.CFIS=0, or x2APIC mode)"],
  ["IRR.26", 0x26, Q, "the requester is not the one that the entry's SID, SQ and SVT allow"],
  ["IRR.27", 0x27, Q, "the posted interrupt descriptor could not be reached"],
  ["IRR.28", 0x28, Q, "a reserved field is set in the posted interrupt descriptor"],
  ["IRR.29", 0x29, U, "a request into the interrupt range that is not an interrupt (VT-d 3.14)"],
  ["IRR.2A", 0x2a, U, "x2APIC mode is required (ECAP.EIMER) and off (IRTA.EIME=0)"],
  ["IRR.2B", 0x2b, U, "interrupt remapping is required (ECAP.IRREQ) and off"],
];

/** In table order; the hardware names a condition by its index here. */
export const FAULTS: readonly FaultCondition[] = rows.map(([name, code, qualified, text]) => ({ name, code, qualified, text }));

/** Index of a condition in `FAULTS`. Throws RangeError for an unknown name. */
export function faultIndex(name: string): number {
  const index = FAULTS.findIndex((row) => row.name === name);
  if (index === -1) throw new RangeError(`no fault condition ${name}`);
  return index;
}

/** What a recorded reason may mean; several conditions can share a code. */
export function explainReason(code: number): string {
  const texts = FAULTS.filter((row) => row.code === code).map((row) => `${row.name}: ${row.text}`);
  return texts.length === 0 ? `reason 0x${code.toString(16)} is not known` : texts.join("; or ");
}

