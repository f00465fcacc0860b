/** The interrupt address range 0xFEE00000 to 0xFEEFFFFF (VT-d 3.14): no translation may lead there. */
import { faultIndex } from "../spec/faults.js";
import { type Configuration, NONE } from "./configuration.js";
import { RequestKind } from "./request.js";

const F = { LGN4: faultIndex("LGN.4"), SGN81: faultIndex("SGN.8.1"), SGN82: faultIndex("SGN.8.2") } as const;

const FIRST = 0xfee00;
const LAST = 0xfeeff;

export function isInterruptPage(page: number): boolean {
  return page >= FIRST && page <= LAST;
}

/** True when the page of 2^shift bytes around `page` reaches into the range. */
export function reachesInterrupts(page: number, shift: number): boolean {
  const pages = 2 ** (shift - 12);
  const first = page - (page % pages);
  return first <= LAST && first + pages > FIRST;
}

/** Translation requests get a whole page, so that all of it counts; others the address alone. */
export function outputCondition(c: Configuration, kind: number, page: number, shift: number): number {
  if (kind === RequestKind.TRANSLATION) return reachesInterrupts(page, shift) ? (c.legacy ? F.LGN4 : F.SGN82) : NONE;
  return isInterruptPage(page) ? (c.legacy ? F.LGN4 : F.SGN81) : NONE;
}
