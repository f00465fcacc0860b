/** What a unit's caches may hold: for each translation that was walked, the structures as they were then. */
import type { WalkReport, WalkStep } from "../decode/types.js";
import { trim } from "./writers.js";

const LIMIT = 65_536;
/** log2 of page sizes that leaves have in any format, smallest first. */
const SHIFTS = [12, 13, 14, 15, 16, 21, 25, 29, 30, 34, 36, 39, 42, 47, 48];

export interface Fill {
  readonly steps: readonly WalkStep[];
  readonly moment: number;
}

export class FillLog {
  readonly #fills = new Map<string, Fill>();

  record(unit: string, rid: number, pasid: number | undefined, iova: bigint, report: WalkReport, moment: number): void {
    const shift = report.verdict.ok ? Math.log2(report.verdict.pageSize) : 12;
    const key = keyOf(unit, rid, pasid, iova, shift);
    this.#fills.delete(key);
    this.#fills.set(key, { steps: report.steps, moment });
    trim(this.#fills, LIMIT);
  }

  /** The newest walk whose page covers the address. */
  find(unit: string, rid: number, pasid: number | undefined, iova: bigint): Fill | undefined {
    let newest: Fill | undefined;
    for (const shift of SHIFTS) {
      const fill = this.#fills.get(keyOf(unit, rid, pasid, iova, shift));
      if (fill && (newest === undefined || fill.moment > newest.moment)) newest = fill;
    }
    return newest;
  }
}

function keyOf(unit: string, rid: number, pasid: number | undefined, iova: bigint, shift: number): string {
  return `${unit} ${rid} ${pasid ?? "-"} ${shift} ${(iova >> BigInt(shift)).toString(36)}`;
}
