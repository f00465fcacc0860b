/** What devices with a translation cache ask (VT-d 4.2): translations, and accesses by translated addresses. */
import { Access, CompletionStatus, NO_PASID, type PhysicalMemory, type TranslationCompletion } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { FAULTS, faultIndex, outcomeOf } from "../spec/faults.js";
import { PIECE, PRIVILEGED_SHIFT, SNOOP } from "./cached-rights.js";
import type { Caches } from "./caches.js";
import { NONE } from "./configuration.js";
import { HostPermissions } from "./host-permission.js";
import { isInterruptPage } from "./interrupt-range.js";
import type { Locator } from "./locator.js";
import { RequestKind } from "./request.js";
import type { Resolver } from "./resolver.js";
import type { TranslationTrace } from "./translation-trace.js";

const F = {
  LGN12: faultIndex("LGN.1.2"), LGN4: faultIndex("LGN.4"), SGN41: faultIndex("SGN.4.1"), SGN83: faultIndex("SGN.8.3"),
} as const;

export interface TranslationRequestParts {
  readonly memory: PhysicalMemory;
  readonly caps: Capabilities;
  readonly caches: Caches;
  readonly locator: Locator;
  readonly resolver: Resolver;
  readonly trace: TranslationTrace;
}

/** For units with device-TLBs, while translation is on. */
export class TranslationRequests {
  readonly #parts: TranslationRequestParts;
  readonly #hostPermissions: HostPermissions;
  readonly #hostPages: number;

  constructor(parts: TranslationRequestParts) {
    this.#parts = parts;
    this.#hostPermissions = new HostPermissions(parts.memory, parts.caps);
    this.#hostPages = 2 ** (parts.caps.haw - 12);
  }

  /** A translation request (4.2.3); `access` lacks WRITE when its No Write flag is set. */
  request(rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): void {
    const { caps, locator, resolver, trace } = this.#parts;
    clear(out);
    if (!locator.enabled) {
      out.status = CompletionStatus.UNSUPPORTED_REQUEST;
      return;
    }
    out.privileged = pasid !== NO_PASID && (access & Access.PRIVILEGED) !== 0;
    const noWrite = caps.noWriteFlag && (access & Access.WRITE) === 0;
    const asked = access | Access.READ | (noWrite ? 0 : Access.WRITE);
    if (this.#answerFromCache(rid, pasid, page, asked, out)) return;
    const condition = this.#translation(rid, pasid, page, asked, out);
    if (condition !== NONE) this.#refuse(condition, rid, pasid, page, asked, out);
    if (trace.on) {
      // What was granted, which may be less than what was asked for: that is what the device may do from now on.
      const granted = condition === NONE ? (out.read ? Access.READ : 0) | (out.write ? Access.WRITE : 0) : 0;
      trace.tell(rid, pasid, page, granted || asked, "walk", granted === 0 ? -1 : resolver.stages.outPage, out.noSnoop);
    }
  }

  /** A request with a translated address (4.2.4): the output page, or -1 when it is blocked. */
  translated(rid: number, pasid: number, page: number, access: number): number {
    const { caps, locator } = this.#parts;
    if (!locator.enabled || (pasid !== NO_PASID && !caps.translatedPasid)) return -1;
    const condition = this.#check(rid, pasid, page, access);
    if (condition === NONE) return page;
    locator.report(condition, RequestKind.TRANSLATED, rid, pasid, page, access);
    return -1;
  }

  /** A translation request that the IOTLB can answer in full. */
  #answerFromCache(rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): boolean {
    if ((access & Access.EXECUTE) !== 0 || (pasid === NO_PASID && isInterruptPage(page))) return false;
    const { caches: { iotlb }, locator, trace } = this.#parts;
    const slot = iotlb.lookup(rid, pasid, page);
    if (slot === -1) return false;
    const data = iotlb.data(slot);
    const needed = (access & 3) << (out.privileged ? PRIVILEGED_SHIFT : 0);
    if ((data & needed) !== needed || (data & PIECE) !== 0) return false;
    if (locator.findContext(RequestKind.TRANSLATION, rid, pasid, access) !== NONE) return false;
    complete(out, iotlb.output(slot, page), iotlb.shift(slot), access & 3, (data & SNOOP) !== 0);
    if (trace.on) trace.tell(rid, pasid, page, access, "iotlb", iotlb.output(slot, page), out.noSnoop);
    return true;
  }

  #translation(rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): number {
    const { locator, resolver } = this.#parts;
    const found = locator.findContext(RequestKind.TRANSLATION, rid, pasid, access);
    if (found !== NONE) return found;
    if (pasid === NO_PASID && isInterruptPage(page)) {
      // Special conditions S.1 and S.2 (4.2.3): messages go untranslated.
      const write = (access & Access.WRITE) !== 0;
      complete(out, page, 12, write ? Access.WRITE : 0, false);
      out.untranslatedOnly = write;
      return NONE;
    }
    const entry = locator.findTranslation(pasid, access);
    if (entry !== NONE) return entry;
    const condition = resolver.resolve(RequestKind.TRANSLATION, rid, pasid, page, access);
    if (condition !== NONE) return condition;
    const s = resolver.stages;
    const rights = out.privileged || (pasid === NO_PASID && locator.ridPrivileged) ? s.privilegedRights : s.userRights;
    complete(out, s.outPage, s.shift, rights & access, s.snoop || locator.configuration.pageSnoop);
    return NONE;
  }

  #refuse(condition: number, rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): void {
    const fault = FAULTS[condition];
    const outcome = outcomeOf(fault, RequestKind.TRANSLATION, pasid !== NO_PASID);
    if (outcome === "UR") out.status = CompletionStatus.UNSUPPORTED_REQUEST;
    if (outcome === "CA") out.status = CompletionStatus.COMPLETER_ABORT;
    if (out.status !== CompletionStatus.SUCCESS || fault.alwaysRecorded) this.#parts.locator.report(condition, RequestKind.TRANSLATION, rid, pasid, page, access);
  }

  #check(rid: number, pasid: number, page: number, access: number): number {
    const { locator } = this.#parts;
    const found = locator.findContext(RequestKind.TRANSLATED, rid, pasid, access);
    if (found !== NONE) return found;
    const { context } = locator;
    if (page >= this.#hostPages) return context.legacy ? F.LGN12 : F.SGN41;
    if (isInterruptPage(page)) return context.legacy ? F.LGN4 : F.SGN83;
    if (context.legacy || !context.hostPermission) return NONE;
    const condition = locator.findConfiguration(pasid);
    return condition === NONE ? this.#hostPermissions.check(locator.configuration, page, access) : condition;
  }
}

function clear(out: TranslationCompletion): void {
  out.status = CompletionStatus.SUCCESS;
  out.read = false;
  out.write = false;
  out.execute = false;
  out.privileged = false;
  out.untranslatedOnly = false;
  out.noSnoop = false;
  out.global = false;
}

function complete(out: TranslationCompletion, page: number, shift: number, rights: number, noSnoop: boolean): void {
  const pages = 2 ** (shift - 12);
  out.page = page - (page % pages);
  out.shift = shift;
  out.read = (rights & Access.READ) !== 0;
  out.write = (rights & Access.WRITE) !== 0;
  out.noSnoop = noSnoop;
}
