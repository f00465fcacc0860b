/**
 * What each fault condition does (VT-d 7.1, tables 25 to 30), written down a second time, apart from `spec/faults.ts`: the two
 * tables are compared by a test, and everything here that decides an answer comes from this one.
 */

/**
 * Response to a request. `none`: success, and no right granted; `rest`: success with the rights that are left;
 * `-`: the condition does not exist for this kind.
 */
export type Response = "UR" | "CA" | "IR" | "none" | "rest" | "-";

export interface Condition {
  readonly code: number;
  /** FPD suppresses the record (7.2.1, "qualified"). */
  readonly qualified: boolean;
  /** By kind: untranslated, translation request, translated, page request. */
  readonly untranslated: Response;
  readonly translation: Response;
  readonly translated: Response;
  readonly page: Response;
}

const LETTER: Readonly<Record<string, Response>> = { U: "UR", C: "CA", I: "IR", "0": "none", E: "rest", "-": "-" };

/** name, code, qualified?, then the responses of U T X P. */
const rows = `
  LRT.1   08 n UCU-   LRT.2   01 n UUU-   LRT.3   0A n UCU-   LCT.1   09 n UCU-   LCT.2   02 y UUU-   LCT.3   0B y UCU-
  LCT.4.1 03 y UCU-   LCT.4.2 03 y UCU-   LCT.4.3 03 y UC--   LCT.5   0D y -UU-   LSS.1   07 y UC--   LSS.2   0C y UC--
  LGN.1.1 04 y U0--   LGN.1.2 04 y --U-   LGN.1.3 04 y U---   LGN.2   05 y UE--   LGN.3   06 y UE--   LGN.4   0E y UCU-
  RTA.1.1 30 n UCUI   RTA.1.2 30 n UCUI   RTA.1.3 30 n UCUI   RTA.1.4 30 n UCU-   RTA.2   31 n UUU-   RTA.3   32 n ---I
  RTA.4   33 n UUUI   RTA.5   34 n UUU-   SRT.1   38 n UCUI   SRT.2   39 n UUUI   SRT.3   3A n UCUI
  SCT.1   40 n UCUI   SCT.2   41 y UUUI   SCT.3   42 y UCUI   SCT.4.1 43 y UCUI   SCT.4.2 43 y UCUI   SCT.4.3 43 y UCUI
  SCT.5   44 y -UU-   SCT.6   45 y UU-I   SCT.7   46 y UUUI   SCT.8   47 y ---I   SCT.9   48 y UUUI   SCT.10  49 y --U-
  SPD.1   50 n UCCI   SPD.2   51 y U0UI   SPD.3   52 y UCCI
  SPT.1   58 n UCCI   SPT.2   59 y U0UI   SPT.3   5A y UCCI   SPT.4.1 5B y UCCI   SPT.4.2 5B y UCCI   SPT.4.3 5B y UCCI
  SPT.4.4 5B y UCCI   SPT.5   5C y U0--   SPT.6   5D y U0--
  SFS.1   70 y U0--   SFS.2   71 y U0--   SFS.3   72 y U0--   SFS.4   73 y U0--   SFS.5   74 y U0--   SFS.6   75 y U0--
  SFS.7   76 y U0--   SFS.8   77 y U0--   SFS.9   90 y U0--   SFS.10  91 y U0--
  SSS.1   78 y UC--   SSS.2   79 y U0--   SSS.3   7A y UC--   SSS.4   7B y UC--   SSS.5   7C y UC--   SSS.6   7D y UC--
  SGN.1   80 y U0--   SGN.2   81 y U0--   SGN.4.1 83 y --U-   SGN.4.2 83 y U0--   SGN.5   84 y U0--   SGN.6   85 y UE--
  SGN.7   86 y UE--   SGN.8.1 87 y U---   SGN.8.2 87 y -C--   SGN.8.3 87 y --U-   SGN.10  89 y UUU-
  SPT.9   60 y --U-   HPT.1   A0 y --C-   HPT.2   A1 y --C-   HPT.3   A2 y --C-   HPT.4   A3 y --U-   HPT.5   A4 y --U-   HPT.6   A5 y --U-
  IRR.29  29 n U---`;

export const CONDITIONS: ReadonlyMap<string, Condition> = new Map(
  [...rows.matchAll(/(\S+)\s+([\dA-F]{2}) ([ny]) (\S{4})/g)].map(([, name, code, qualified, responses]) => [
    name,
    {
      code: Number.parseInt(code, 16),
      qualified: qualified === "y",
      untranslated: LETTER[responses[0]],
      translation: LETTER[responses[1]],
      translated: LETTER[responses[2]],
      page: LETTER[responses[3]],
    },
  ]),
);

/** The one recoverable condition that is recorded all the same (7.1.3). */
export const RECORDED_THOUGH_RECOVERABLE = "SFS.10";

/** A walk that ended. Steps throw it; `answer` turns it into a response. */
export class Stop extends Error {
  readonly condition: string;

  constructor(condition: string) {
    super(condition);
    this.condition = condition;
  }
}
