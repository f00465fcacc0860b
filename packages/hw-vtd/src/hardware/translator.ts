/** Requests to addresses (VT-d 3, 4.2, 7.1): the order of checks is that of data, then of the manual's wording. */
import { Access, type Iotlb, NO_PASID, type Tracer } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pgtt } from "../spec/entries.js";
import { faultIndex } from "../spec/faults.js";
import { PRIVILEGED_SHIFT, SNOOP } from "./cached-rights.js";
import type { Caches } from "./caches.js";
import { NONE } from "./configuration.js";
import { isInterruptPage } from "./interrupt-range.js";
import type { Locator } from "./locator.js";
import type { QuickWalk } from "./quick-walk.js";
import { RequestKind } from "./request.js";
import { isFirst, type Resolver } from "./resolver.js";
import type { TranslationTrace } from "./translation-trace.js";

const INTERRUPT_RANGE = faultIndex("IRR.29");
const NOBODY = -1;
/** `Access.EXECUTE`, where a request is answered at once: an import is looked up each time. */
const EXECUTE: typeof Access.EXECUTE = 4;

export interface TranslatorParts {
  readonly caps: Capabilities;
  readonly caches: Caches;
  readonly locator: Locator;
  readonly resolver: Resolver;
  readonly trace: TranslationTrace;
  readonly tracer: Tracer | undefined;
}

export class Translator {
  /** Whose configuration `recentWalk` is for, and since when. */
  private recentRid: number = NOBODY;
  private recentPasid = 0;
  private recentEpoch = 0;
  private recentWalk: QuickWalk | undefined;
  /** Times that RTADDR was latched. */
  #latches = 0;
  /** 1 when `enabled`. */
  private on = 0;
  readonly #caps: Capabilities;
  // `private`, not `#`, where every request passes: see `Iotlb`.
  private readonly caches: Caches;
  private readonly iotlb: Iotlb;
  private readonly tracer: Tracer | undefined;
  readonly #locator: Locator;
  readonly #resolver: Resolver;
  readonly #trace: TranslationTrace;

  constructor({ caps, caches, locator, resolver, trace, tracer }: TranslatorParts) {
    this.#caps = caps;
    this.caches = caches;
    this.iotlb = caches.iotlb;
    this.tracer = tracer;
    this.#locator = locator;
    this.#resolver = resolver;
    this.#trace = trace;
  }

  /** GSTS.TES */
  get enabled(): boolean {
    return this.on === 1;
  }

  set enabled(on: boolean) {
    this.on = Number(on);
    this.#locator.enabled = on;
  }

  /** SRTP: RTADDR takes effect now (6.6). */
  latchRootTable(value: bigint): void {
    this.recentRid = NOBODY;
    this.#latches++;
    this.#locator.latchRootTable(value);
    this.#resolver.stages.secondStageIo = this.#locator.secondStageIo;
  }

  /** An untranslated request: the output page, or -1 when it is blocked. */
  translate(rid: number, pasid: number, page: number, access: number): number {
    // Plain reads and writes; nothing in the IOTLB covers what is not translated.
    if (access < EXECUTE && this.on === 1) {
      const { iotlb, recentWalk: quick } = this;
      const slot = iotlb.lookup(rid, pasid, page);
      if (slot !== -1) {
        const data = iotlb.data(slot);
        // A write that would dirty a clean entry, and a denied request, go to the tables.
        if ((data & access) === access) {
          const out = iotlb.output(slot, page);
          if (this.tracer?.listener) this.#traceHit(slot, page, access);
          return out;
        }
      } else if (quick !== undefined && rid === this.recentRid && pasid === this.recentPasid && this.caches.epoch === this.recentEpoch) {
        const out = quick.translate(page, access);
        if (out !== -1) {
          if (this.tracer?.listener) this.#traceWalk(quick, page, access, out);
          return out;
        }
      }
    }
    return this.#miss(rid, pasid, page, access);
  }

  #miss(rid: number, pasid: number, page: number, access: number): number {
    if (this.enabled && (access & Access.PRIVILEGED) !== 0 && (access & Access.EXECUTE) === 0 && pasid !== NO_PASID) {
      const hit = this.#privilegedHit(rid, pasid, page, access);
      if (hit !== -1) return hit;
    }
    if (pasid === NO_PASID && isInterruptPage(page)) {
      // Writes here are interrupts and are never DMA-translated (3.14), zero-length reads end here; other requests are not allowed.
      if ((access & Access.READ) === 0 || (access & Access.ZERO_LENGTH) !== 0) return page;
      if (this.enabled) return this.#block(INTERRUPT_RANGE, rid, pasid, page, access);
    }
    if (!this.enabled) {
      if (this.tracer?.listener) this.#trace.tell(rid, pasid, page, access, "bypass", page, false);
      return page;
    }
    const found = this.#configure(rid, pasid, access);
    if (found !== NONE) return this.#block(found, rid, pasid, page, access);
    const condition = this.#resolver.resolve(RequestKind.UNTRANSLATED, rid, pasid, page, access);
    if (condition !== NONE) return this.#block(condition, rid, pasid, page, access);
    const s = this.#resolver.stages;
    if (this.tracer?.listener) this.#trace.tell(rid, pasid, page, access, "walk", s.outPage, s.snoop || this.#locator.configuration.pageSnoop);
    return s.outPage;
  }

  #privilegedHit(rid: number, pasid: number, page: number, access: number): number {
    const { iotlb } = this.caches;
    const slot = iotlb.lookup(rid, pasid, page);
    const needed = (access & 3) << PRIVILEGED_SHIFT;
    if (slot === -1 || (iotlb.data(slot) & needed) !== needed) return -1;
    const out = iotlb.output(slot, page);
    if (this.tracer?.listener) this.#trace.tell(rid, pasid, page, access, "iotlb", out, (iotlb.data(slot) & SNOOP) !== 0);
    return out;
  }

  /** Everything before the page of an untranslated request: leaves the locator's configuration. */
  #configure(rid: number, pasid: number, access: number): number {
    this.recentRid = NOBODY;
    const found = this.#locator.findContext(RequestKind.UNTRANSLATED, rid, pasid, access);
    if (found !== NONE) return found;
    const condition = this.#locator.findTranslation(pasid, access);
    if (condition === NONE) this.#remember(rid, pasid);
    return condition;
  }

  /** The configuration is right for later requests of the same kind while both caches keep what they have. */
  #remember(rid: number, pasid: number): void {
    const { contexts, pasids } = this.caches;
    const { configuration: c, context, ridPrivileged } = this.#locator;
    if (contexts.capacity === 0 || (pasids.capacity === 0 && !context.legacy)) return;
    const privileged = pasid === NO_PASID && ridPrivileged;
    if ((privileged && !c.supervisorEnable) || (this.#caps.cachingMode && !isFirst(c)) || (pasid === NO_PASID && c.pgtt === Pgtt.PASS_THROUGH)) return;
    const key = this.#latches * 2 + Number(privileged);
    if (c.quickKey !== key) {
      c.quick = this.#resolver.stages.quickWalk(c, rid, pasid, privileged);
      c.quickKey = key;
    }
    if (c.quick === undefined) return;
    this.recentWalk = c.quick;
    this.recentRid = rid;
    this.recentPasid = pasid;
    this.recentEpoch = this.caches.epoch;
  }

  #block(condition: number, rid: number, pasid: number, page: number, access: number): number {
    if (this.tracer?.listener) this.#trace.tell(rid, pasid, page, access, "walk", -1, false);
    this.#locator.report(condition, RequestKind.UNTRANSLATED, rid, pasid, page, access);
    return -1;
  }

  #traceHit(slot: number, page: number, access: number): void {
    const { iotlb } = this;
    this.#trace.tell(iotlb.tagA(slot), iotlb.tagB(slot), page, access, "iotlb", iotlb.output(slot, page), (iotlb.data(slot) & SNOOP) !== 0);
  }

  #traceWalk({ key, rights }: QuickWalk, page: number, access: number, out: number): void {
    this.#trace.tell(key.tagA, key.tagB, page, access, "walk", out, (rights & SNOOP) !== 0);
  }
}
