/** From who translates to an output page (VT-d 3.6 to 3.11), which the IOTLB then keeps; with caching mode, also what was refused (6.1). */
import { Access, NO_PASID, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pgtt } from "../spec/entries.js";
import { faultIndex } from "../spec/faults.js";
import { CLEAN, CONDITION_SHIFT, packRights, PIECE } from "./cached-rights.js";
import type { Caches } from "./caches.js";
import { type Configuration, NONE } from "./configuration.js";
import { isInterruptPage, outputCondition, reachesInterrupts } from "./interrupt-range.js";
import type { Locator } from "./locator.js";
import type { VtdPolicies } from "./policies.js";
import { RequestKind } from "./request.js";
import { Stages } from "./stages.js";

const F = {
  LGN13: faultIndex("LGN.1.3"), LGN2: faultIndex("LGN.2"), LGN3: faultIndex("LGN.3"), LSS2: faultIndex("LSS.2"), SGN42: faultIndex("SGN.4.2"),
  SGN6: faultIndex("SGN.6"), SGN7: faultIndex("SGN.7"), SPT6: faultIndex("SPT.6"), SSS2: faultIndex("SSS.2"), SSS3: faultIndex("SSS.3"),
} as const;

export class Resolver {
  /** What the last good translation gave. */
  readonly stages: Stages;
  readonly #caps: Capabilities;
  readonly #policies: VtdPolicies;
  readonly #caches: Caches;
  readonly #locator: Locator;
  readonly #hostPages: number;

  constructor(memory: PhysicalMemory, caps: Capabilities, policies: VtdPolicies, caches: Caches, locator: Locator) {
    this.stages = new Stages(memory, caps, policies, caches);
    this.#caps = caps;
    this.#policies = policies;
    this.#caches = caches;
    this.#locator = locator;
    this.#hostPages = 2 ** (caps.haw - 12);
  }

  /** From the locator's configuration to an output: leaves it in `stages`, and in the IOTLB. */
  resolve(kind: number, rid: number, pasid: number, page: number, access: number): number {
    const c = this.#locator.configuration;
    const privileged = pasid === NO_PASID ? this.#locator.ridPrivileged : (access & Access.PRIVILEGED) !== 0;
    if (privileged && !c.supervisorEnable) return F.SPT6;
    if (this.#caps.cachingMode && !isFirst(c)) {
      const absent = this.#cachedRefusal(c, kind, rid, pasid, page, access);
      if (absent !== NONE) return absent;
    }
    const condition = c.pgtt === Pgtt.PASS_THROUGH ? this.#passThrough(c, kind, page) : this.stages.resolve(c, page, access, privileged, kind);
    if (condition === NONE) this.#fill(c, rid, pasid, page);
    else if (this.#caps.cachingMode && !isFirst(c) && this.stages.absent && isCachedRefusal(condition)) this.#insert(c, rid, pasid, page, page, 12, (condition + 1) << CONDITION_SHIFT);
    return condition;
  }

  /** With CM=1 what a second stage refused may be cached (6.1), and is: an entry there that does not allow the request answers it. */
  #cachedRefusal(c: Configuration, kind: number, rid: number, pasid: number, page: number, access: number): number {
    const { iotlb } = this.#caches;
    const slot = iotlb.lookup(rid, pasid, page);
    if (slot === -1) return NONE;
    const data = iotlb.data(slot);
    if (data >>> CONDITION_SHIFT !== 0) {
      const condition = (data >>> CONDITION_SHIFT) - 1;
      // In legacy mode an absent page is told by what the request wants of it.
      if (condition !== F.LGN2 && condition !== F.LGN3) return condition;
      return (access & Access.WRITE) !== 0 ? F.LGN2 : F.LGN3;
    }
    if (kind !== RequestKind.UNTRANSLATED || (access & Access.ZERO_LENGTH) !== 0) return NONE;
    if ((access & Access.WRITE) !== 0 && (data & (Access.WRITE | CLEAN)) === 0) return c.legacy ? F.LGN2 : F.SGN6;
    return (access & Access.READ) !== 0 && (data & Access.READ) === 0 ? (c.legacy ? F.LGN3 : F.SGN7) : NONE;
  }

  /** Pass-through (3.9). A device gets as much at once as the largest page of the unit. */
  #passThrough(c: Configuration, kind: number, page: number): number {
    if (page >= this.#hostPages) return c.legacy ? F.LGN13 : F.SGN42;
    const s = this.stages;
    s.outPage = page;
    s.shift = kind === RequestKind.TRANSLATION ? this.#largestShift() : 12;
    s.userRights = 3;
    s.privilegedRights = 3;
    s.dirty = true;
    s.snoop = false;
    return kind === RequestKind.TRANSLATION ? NONE : outputCondition(c, kind, page, 12);
  }

  #largestShift(): number {
    const { firstStage, firstStage1G, secondStageLargePages } = this.#caps;
    if ((firstStage && firstStage1G) || (secondStageLargePages & 2) !== 0) return 30;
    return firstStage || (secondStageLargePages & 1) !== 0 ? 21 : 12;
  }

  #fill(c: Configuration, rid: number, pasid: number, page: number): void {
    const s = this.stages;
    const user = pasid === NO_PASID && this.#locator.ridPrivileged ? s.privilegedRights : s.userRights;
    const privileged = c.supervisorEnable ? s.privilegedRights : 0;
    // A pass-through translation request may have asked for an interrupt address; an untranslated one must not find it (3.14).
    if (isInterruptPage(s.outPage)) return;
    let data = packRights(user, privileged, s.dirty, s.snoop || c.pageSnoop);
    let shift = Math.min(s.shift, this.#policies.largestCached);
    // A large page that holds interrupt addresses, before or after, is cached in 4 KiB pieces, so that each is looked at.
    if (s.shift > 12 && (reachesInterrupts(s.outPage, s.shift) || (pasid === NO_PASID && reachesInterrupts(page, s.shift)))) {
      shift = 12;
      data |= PIECE;
    }
    this.#insert(c, rid, pasid, page, s.outPage, shift, data);
  }

  #insert(c: Configuration, rid: number, pasid: number, page: number, outPage: number, shift: number, data: number): void {
    const { iotlb } = this.#caches;
    iotlb.insert(rid, pasid, page, shift, outPage, data, c.group, c.pasid);
  }
}

/** The guest's, or the only, stage is a first one. */
export function isFirst(c: Configuration): boolean {
  return c.pgtt === Pgtt.FIRST_STAGE || c.pgtt === Pgtt.NESTED;
}

/** What CM=1 lets the IOTLB keep: entries that are absent or damaged. */
function isCachedRefusal(condition: number): boolean {
  return condition === F.SSS2 || condition === F.SSS3 || condition === F.LSS2 || condition === F.LGN2 || condition === F.LGN3;
}
