/** How a transaction failed. One object a unit, filled anew by each failure: nothing is allocated for one. */
import { FaultClass } from "../spec/events.js";
import type { Capabilities } from "../spec/identification.js";
import { ANY_WRITE } from "./rights.js";

export class Fault {
  /** Event number. */
  type = 0;
  stage2 = false;
  /** `FaultClass` */
  cause: number = FaultClass.IN;
  /** Page of the intermediate address, for faults of stage 2. */
  ipaPage = 0;
  /** Where a fetch found no memory. */
  fetch = 0;
  /** The access was an update of a stage-1 descriptor (TTRnW = 0). */
  tableWrite = false;
  /** An atomic access lacks the right to read, and nothing else. */
  readAlone = false;
  /** A, R and S have a say. */
  controlled = false;

  /** A configuration error or a failed fetch of a structure. */
  structure(type: number, fetch = 0): false {
    this.type = type;
    this.stage2 = false;
    this.cause = FaultClass.IN;
    this.fetch = fetch;
    this.tableWrite = false;
    this.readAlone = false;
    this.controlled = false;
    return false;
  }

  /** A fault of stage 1 on the access itself. */
  stage1(type: number, controlled = true): false {
    this.structure(type);
    this.controlled = controlled;
    return false;
  }

  /** Rights that were missing: write is looked at first, so that an atomic access may lack the right to read alone (7.3.16). */
  lacks(missing: number, needed: number, caps: Capabilities): false {
    this.readAlone = caps.minor >= 1 && (needed & ANY_WRITE) !== 0 && (missing & ANY_WRITE) === 0;
    return false;
  }

  /** A fault of stage 2 while it translated `ipaPage` for `cause`. */
  atStage2(type: number, cause: number, ipaPage: number): false {
    this.structure(type);
    this.stage2 = true;
    this.cause = cause;
    this.ipaPage = ipaPage;
    this.controlled = true;
    return false;
  }
}
