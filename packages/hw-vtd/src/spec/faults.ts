/**
 * Fault conditions (VT-d 7.1, tables 25 to 30, and 5.1.4 for interrupts): one row a condition, with the code that is recorded,
 * whether FPD suppresses it, and how a request of each kind ends.
 */

/**
 * How a request ends. UR: Unsupported Request. CA: Completer Abort. S0: Success without any permission. SE: Success
 * with the permissions that there are. IR: a page request is answered Invalid Request when it ends its group, else dropped.
 * "-": cannot come to that.
 */
export type Outcome = "-" | "UR" | "CA" | "S0" | "SE" | "IR";

export interface Outcomes {
  readonly withoutPasid: Outcome;
  readonly withPasid: Outcome;
}

export interface FaultCondition {
  /** The manual's name: "SFS.2". */
  readonly name: string;
  /** Fault reason (FRCD.FR). */
  readonly code: number;
  /** Qualified: not recorded when an FPD on the way is 1. */
  readonly qualified: boolean;
  readonly text: string;
  /** By kind of request, in the order of FRCD.AT: untranslated, translation, translated, page request. */
  readonly outcomes: readonly [untranslated: Outcomes, translation: Outcomes, translated: Outcomes, page: Outcomes];
  /** Recorded even when a translation request ends in S0 (SFS.10 alone). */
  readonly alwaysRecorded: boolean;
}

const Q = true;
const U = false;

type Row = readonly [name: string, code: number, qualified: boolean, untranslated: string, translation: string, translated: string, page: string, text: string];

/** Columns as the manual prints them: "without PASID/with PASID". */
const rows: readonly Row[] = [
  ["LRT.1", 0x08, U, "UR/-", "CA/-", "UR/-", "-", "the root entry could not be read"],
  ["LRT.2", 0x01, U, "UR/-", "UR/-", "UR/-", "-", "the root entry is not present (P=0)"],
  ["LRT.3", 0x0a, U, "UR/-", "CA/-", "UR/-", "-", "a reserved bit is set in the root entry"],
  ["LCT.1", 0x09, U, "UR/-", "CA/-", "UR/-", "-", "the context entry could not be read"],
  ["LCT.2", 0x02, Q, "UR/-", "UR/-", "UR/-", "-", "the context entry is not present (P=0)"],
  ["LCT.3", 0x0b, Q, "UR/-", "CA/-", "UR/-", "-", "a reserved bit is set in the context entry"],
  ["LCT.4.1", 0x03, Q, "UR/-", "CA/-", "UR/-", "-", "AW of the context entry is not in CAP.SAGAW"],
  ["LCT.4.2", 0x03, Q, "UR/-", "CA/-", "UR/-", "-", "TT of the context entry is reserved or not supported"],
  ["LCT.4.3", 0x03, Q, "UR/-", "CA/-", "-/-", "-", "the top second-stage table could not be read"],
  ["LCT.5", 0x0d, Q, "-/-", "UR/-", "UR/-", "-", "TT of the context entry blocks translation requests and translated requests"],
  ["LSS.1", 0x07, Q, "UR/-", "CA/-", "-/-", "-", "a second-stage entry could not be read"],
  ["LSS.2", 0x0c, Q, "UR/-", "CA/-", "-/-", "-", "a reserved bit is set in a second-stage entry"],
  ["LGN.1.1", 0x04, Q, "UR/-", "S0/-", "-/-", "-", "the address is above the width of the second stage, min(MGAW, AW)"],
  ["LGN.1.2", 0x04, Q, "-/-", "-/-", "UR/-", "-", "the translated address is above the host address width"],
  ["LGN.1.3", 0x04, Q, "UR/-", "-/-", "-/-", "-", "the pass-through address is above the host address width"],
  ["LGN.2", 0x05, Q, "UR/-", "SE/-", "-/-", "-", "no write permission in the second stage"],
  ["LGN.3", 0x06, Q, "UR/-", "SE/-", "-/-", "-", "no read permission in the second stage"],
  ["LGN.4", 0x0e, Q, "UR/-", "CA/-", "UR/-", "-", "the translated address lies in the interrupt range 0xFEExxxxx"],
  ["RTA.1.1", 0x30, U, "UR/UR", "CA/CA", "UR/UR", "IR", "RTADDR.TTM is abort-DMA, which this unit lacks (ECAP.ADMS=0)"],
  ["RTA.1.2", 0x30, U, "UR/UR", "CA/CA", "UR/UR", "IR", "RTADDR.TTM is reserved (10b)"],
  ["RTA.1.3", 0x30, U, "UR/UR", "CA/CA", "UR/UR", "IR", "RTADDR.TTM is scalable mode, which this unit lacks (ECAP.SMTS=0)"],
  ["RTA.1.4", 0x30, U, "UR/-", "CA/-", "UR/-", "-", "RTADDR.SSIRWE is set in legacy mode"],
  ["RTA.2", 0x31, U, "-/UR", "-/UR", "-/UR", "-", "a request with PASID in legacy mode"],
  ["RTA.3", 0x32, U, "-/-", "-/-", "-/-", "IR", "a page request in legacy mode"],
  ["RTA.4", 0x33, U, "UR/UR", "UR/UR", "UR/UR", "IR", "abort-DMA mode blocks every request"],
  ["RTA.5", 0x34, U, "-/UR", "-/UR", "-/UR", "-", "an execute request (ER=1) on a unit of major version 8 or later"],
  ["SRT.1", 0x38, U, "UR/UR", "CA/CA", "UR/UR", "IR", "the scalable-mode root entry could not be read"],
  ["SRT.2", 0x39, U, "UR/UR", "UR/UR", "UR/UR", "IR", "the half of the root entry for this device is not present (LP or UP is 0)"],
  ["SRT.3", 0x3a, U, "UR/UR", "CA/CA", "UR/UR", "IR", "a reserved bit is set in the scalable-mode root entry"],
  ["SCT.1", 0x40, U, "UR/UR", "CA/CA", "UR/UR", "IR", "the scalable-mode context entry could not be read"],
  ["SCT.2", 0x41, Q, "UR/UR", "UR/UR", "UR/UR", "IR", "the scalable-mode context entry is not present (P=0)"],
  ["SCT.3", 0x42, Q, "UR/UR", "CA/CA", "UR/UR", "IR", "a reserved bit is set in the scalable-mode context entry"],
  ["SCT.4.1", 0x43, Q, "UR/UR", "CA/CA", "UR/UR", "IR", "PRE=1 with DTE=0 in the context entry"],
  ["SCT.4.2", 0x43, Q, "UR/UR", "CA/CA", "UR/UR", "IR", "RID_PASID is beyond the PASID directory (PDTS)"],
  ["SCT.4.3", 0x43, Q, "UR/-", "CA/-", "UR/UR", "IR", "EPTR=1 with PASIDE=0 in the context entry"],
  ["SCT.5", 0x44, Q, "-/-", "UR/UR", "UR/UR", "-", "a translation request or translated request, but DTE=0 in the context entry"],
  ["SCT.6", 0x45, Q, "-/UR", "-/UR", "-/-", "IR", "a request with PASID, but PASIDE=0 in the context entry"],
  ["SCT.7", 0x46, Q, "-/UR", "-/UR", "-/UR", "IR", "the PASID is beyond the PASID directory (PDTS)"],
  ["SCT.8", 0x47, Q, "-/-", "-/-", "-/-", "IR", "a page request, but PRE=0 in the context entry"],
  ["SCT.9", 0x48, Q, "-/UR", "-/UR", "-/UR", "IR", "the PASID equals RID_PASID"],
  ["SCT.10", 0x49, Q, "-/-", "-/-", "-/UR", "-", "a translated request with PASID, but EPTR=0 in the context entry"],
  ["SPD.1", 0x50, U, "UR/UR", "CA/CA", "CA/CA", "IR", "the PASID directory entry could not be read"],
  ["SPD.2", 0x51, Q, "UR/UR", "S0/S0", "UR/UR", "IR", "the PASID directory entry is not present (P=0)"],
  ["SPD.3", 0x52, Q, "UR/UR", "CA/CA", "CA/CA", "IR", "a reserved bit is set in the PASID directory entry"],
  ["SPT.1", 0x58, U, "UR/UR", "CA/CA", "CA/CA", "IR", "the PASID table entry could not be read"],
  ["SPT.2", 0x59, Q, "UR/UR", "S0/S0", "UR/UR", "IR", "the PASID table entry is not present (P=0)"],
  ["SPT.3", 0x5a, Q, "UR/UR", "CA/CA", "CA/CA", "IR", "a reserved bit is set in the PASID table entry"],
  ["SPT.4.1", 0x5b, Q, "UR/UR", "CA/CA", "CA/CA", "IR", "AW of the PASID table entry is not in CAP.SAGAW"],
  ["SPT.4.2", 0x5b, Q, "UR/UR", "CA/CA", "CA/CA", "IR", "PGTT of the PASID table entry is reserved or not supported"],
  ["SPT.4.3", 0x5b, Q, "UR/UR", "CA/CA", "CA/CA", "IR", "FSPM of the PASID table entry is reserved or not supported"],
  ["SPT.4.4", 0x5b, Q, "UR/UR", "CA/CA", "CA/CA", "IR", "FSPTPTR of a nested PASID table entry is above the width of the second stage, min(MGAW, AW)"],
  ["SPT.5", 0x5c, Q, "-/UR", "-/S0", "-/-", "-", "an execute request (ER=1), which this unit does not support"],
  ["SPT.6", 0x5d, Q, "UR/UR", "S0/S0", "-/-", "-", "a privileged request with SRE=0 in the PASID table entry"],
  ["SPT.9", 0x60, Q, "-/-", "-/-", "UR/UR", "-", "the translated address is beyond the host permission table (HPTSZ)"],
  ["SFS.1", 0x70, Q, "UR/UR", "S0/S0", "-/-", "-", "a first-stage entry could not be read"],
  ["SFS.2", 0x71, Q, "UR/UR", "S0/S0", "-/-", "-", "a first-stage entry is not present (P=0)"],
  ["SFS.3", 0x72, Q, "UR/UR", "S0/S0", "-/-", "-", "a reserved bit is set in a first-stage entry"],
  ["SFS.4", 0x73, Q, "UR/UR", "S0/S0", "-/-", "-", "the top first-stage table could not be read"],
  ["SFS.5", 0x74, Q, "UR/UR", "S0/S0", "-/-", "-", "the address in a nested first-stage entry is above the width of the second stage, min(MGAW, AW)"],
  ["SFS.6", 0x75, Q, "UR/UR", "S0/S0", "-/-", "-", "the second stage does not let the top first-stage table be read"],
  ["SFS.7", 0x76, Q, "UR/UR", "S0/S0", "-/-", "-", "the second stage does not let a lower first-stage table be read"],
  ["SFS.8", 0x77, Q, "UR/UR", "S0/S0", "-/-", "-", "the second stage does not let an accessed or dirty flag of a first-stage entry be set"],
  ["SFS.9", 0x90, Q, "UR/UR", "S0/S0", "-/-", "-", "an accessed or dirty flag must be set, but the walk is not snooped (SMPWC, PWSNP)"],
  ["SFS.10", 0x91, Q, "UR/UR", "S0/S0", "-/-", "-", "the update of an accessed or dirty flag failed"],
  ["SSS.1", 0x78, Q, "UR/UR", "CA/CA", "-/-", "-", "a second-stage entry could not be read"],
  ["SSS.2", 0x79, Q, "UR/UR", "S0/S0", "-/-", "-", "a second-stage entry grants neither read nor write, or all of them together do not"],
  ["SSS.3", 0x7a, Q, "UR/UR", "CA/CA", "-/-", "-", "a reserved bit is set in a second-stage entry"],
  ["SSS.4", 0x7b, Q, "UR/UR", "CA/CA", "-/-", "-", "the top second-stage table could not be read"],
  ["SSS.5", 0x7c, Q, "UR/UR", "CA/CA", "-/-", "-", "an accessed or dirty flag of the second stage must be set, but the walk is not snooped"],
  ["SSS.6", 0x7d, Q, "UR/UR", "CA/CA", "-/-", "-", "the update of an accessed or dirty flag of the second stage failed"],
  ["SGN.1", 0x80, Q, "UR/UR", "S0/S0", "-/-", "-", "the address is not canonical"],
  ["SGN.2", 0x81, Q, "UR/UR", "S0/S0", "-/-", "-", "a user request met a first-stage entry with U/S=0"],
  ["SGN.4.1", 0x83, Q, "-/-", "-/-", "UR/UR", "-", "the translated address is above the host address width"],
  ["SGN.4.2", 0x83, Q, "UR/UR", "S0/S0", "-/-", "-", "the pass-through address is above the host address width"],
  ["SGN.5", 0x84, Q, "UR/UR", "S0/S0", "-/-", "-", "the address is above the width of the second stage, min(MGAW, AW)"],
  ["SGN.6", 0x85, Q, "UR/UR", "SE/SE", "-/-", "-", "no write permission"],
  ["SGN.7", 0x86, Q, "UR/UR", "SE/SE", "-/-", "-", "no read permission"],
  ["SGN.8.1", 0x87, Q, "UR/UR", "-/-", "-/-", "-", "the output address lies in the interrupt range 0xFEExxxxx"],
  ["SGN.8.2", 0x87, Q, "-/-", "CA/CA", "-/-", "-", "the output page of a translation request reaches into the interrupt range 0xFEExxxxx"],
  ["SGN.8.3", 0x87, Q, "-/-", "-/-", "UR/UR", "-", "the translated address lies in the interrupt range 0xFEExxxxx"],
  ["SGN.10", 0x89, Q, "-/UR", "-/UR", "-/UR", "-", "the PASID is wider than ECAP.PSS allows"],
  ["HPT.1", 0xa0, Q, "-/-", "-/-", "CA/CA", "-", "a host permission table entry could not be read"],
  ["HPT.2", 0xa1, Q, "-/-", "-/-", "CA/CA", "-", "a reserved bit is set in a host permission table entry"],
  ["HPT.3", 0xa2, Q, "-/-", "-/-", "CA/CA", "-", "the top host permission table could not be read"],
  ["HPT.4", 0xa3, Q, "-/-", "-/-", "UR/UR", "-", "a zero-length read of a page without any host permission"],
  ["HPT.5", 0xa4, Q, "-/-", "-/-", "UR/UR", "-", "no write permission in the host permission table"],
  ["HPT.6", 0xa5, Q, "-/-", "-/-", "UR/UR", "-", "no read permission in the host permission table"],
  ["IRR.20", 0x20, U, "UR/-", "-/-", "-/-", "-", "a reserved bit is set in the interrupt request"],
  ["IRR.21", 0x21, U, "UR/-", "-/-", "-/-", "-", "the interrupt index is beyond the interrupt remapping table"],
  ["IRR.22", 0x22, Q, "UR/-", "-/-", "-/-", "-", "the interrupt remapping table entry is not present (P=0)"],
  ["IRR.23", 0x23, U, "UR/-", "-/-", "-/-", "-", "the interrupt remapping table entry could not be read"],
  ["IRR.24", 0x24, Q, "UR/-", "-/-", "-/-", "-", "a reserved bit or value is set in the interrupt remapping table entry"],
  ["IRR.25", 0x25, U, "UR/-", "-/-", "-/-", "-", "an interrupt request in compatibility format, which is blocked (CFIS, EIME)"],
  ["IRR.26", 0x26, Q, "UR/-", "-/-", "-/-", "-", "the requester is not the one that the interrupt remapping table entry names (SVT, SQ, SID)"],
  ["IRR.27", 0x27, Q, "UR/-", "-/-", "-/-", "-", "the posted interrupt descriptor could not be accessed"],
  ["IRR.28", 0x28, Q, "UR/-", "-/-", "-/-", "-", "a reserved bit is set in the posted interrupt descriptor"],
  ["IRR.29", 0x29, U, "UR/-", "-/-", "-/-", "-", "a request into the interrupt range that is not an interrupt (VT-d 3.14)"],
  ["IRR.2A", 0x2a, U, "UR/-", "-/-", "-/-", "-", "extended interrupt mode is required and not on (EIMER, EIME)"],
  ["IRR.2B", 0x2b, U, "UR/-", "-/-", "-/-", "-", "interrupt remapping is required and not on (IRREQ, IRES)"],
];

function outcomes(cell: string): Outcomes {
  const [withoutPasid, withPasid = withoutPasid] = cell.split("/") as Outcome[];
  return { withoutPasid, withPasid };
}

/** In table order; the hardware names a condition by its index here. */
export const FAULTS: readonly FaultCondition[] = rows.map(([name, code, qualified, untranslated, translation, translated, page, text]) => ({
  name,
  code,
  qualified,
  text,
  outcomes: [outcomes(untranslated), outcomes(translation), outcomes(translated), outcomes(page)],
  alwaysRecorded: name === "SFS.10",
}));

/** How a request of `kind` (0 to 3, as in FRCD.AT and then page requests) ends under a condition. */
export function outcomeOf(condition: FaultCondition, kind: number, hasPasid: boolean): Outcome {
  const row = condition.outcomes[kind];
  return hasPasid ? row.withPasid : row.withoutPasid;
}

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
