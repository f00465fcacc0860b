/** Requests to addresses (VT-d 3, 4.2, 7.1): the order of checks is that of data, then of the manual's wording. */
import { Access, CompletionStatus, type Iotlb, NO_PASID, type PhysicalMemory, type Tracer, type TranslationCompletion } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pgtt, TranslationTableMode } from "../spec/entries.js";
import { FAULTS, faultIndex, outcomeOf } from "../spec/faults.js";
import { CLEAN, CONDITION_SHIFT, packRights, PIECE, PRIVILEGED_SHIFT, SNOOP } from "./cached-rights.js";
import type { Caches } from "./caches.js";
import { Configuration, ConfigurationReader, Context, NONE } from "./configuration.js";
import type { FaultRecorder } from "./fault-recorder.js";
import { HostPermissions } from "./host-permission.js";
import { isInterruptPage, outputCondition, reachesInterrupts } from "./interrupt-range.js";
import type { VtdPolicies } from "./policies.js";
import { QuickWalk } from "./quick-walk.js";
import { RequestKind } from "./request.js";
import { Stages } from "./stages.js";

const F = {
  LGN12: faultIndex("LGN.1.2"), LGN13: faultIndex("LGN.1.3"), LGN2: faultIndex("LGN.2"), LGN3: faultIndex("LGN.3"), LGN4: faultIndex("LGN.4"),
  RTA11: faultIndex("RTA.1.1"), RTA12: faultIndex("RTA.1.2"), RTA13: faultIndex("RTA.1.3"), RTA14: faultIndex("RTA.1.4"), RTA2: faultIndex("RTA.2"),
  RTA3: faultIndex("RTA.3"), RTA4: faultIndex("RTA.4"), RTA5: faultIndex("RTA.5"), SPT5: faultIndex("SPT.5"), SPT6: faultIndex("SPT.6"),
  SGN41: faultIndex("SGN.4.1"), SGN42: faultIndex("SGN.4.2"), SGN6: faultIndex("SGN.6"), SGN7: faultIndex("SGN.7"), SGN83: faultIndex("SGN.8.3"),
  SSS2: faultIndex("SSS.2"), SSS3: faultIndex("SSS.3"), LSS2: faultIndex("LSS.2"), IRR29: faultIndex("IRR.29"),
} as const;

const NOBODY = -1;
/** `Access.EXECUTE`, where a request is answered at once: an import is looked up each time. */
const EXECUTE: typeof Access.EXECUTE = 4;

export class Translator {
  /** Latched RTADDR.TTM. */
  mode: number = TranslationTableMode.LEGACY;
  /** After `locate`, and while a request is judged: who translates, and whether an FPD on the way keeps qualified faults from the record. */
  configuration: Configuration = new Configuration();
  faultDisable = false;

  /** Whose `configuration` it is, and since when. */
  private recentRid: number = NOBODY;
  private recentPasid = 0;
  private recentEpoch = 0;
  private recentWalk: QuickWalk | undefined;
  /** Times that RTADDR was latched. */
  #latches = 0;
  /** 1 when `enabled`. */
  private on = 0;
  #rootTable = 0;
  /** SSIRWE is latched in legacy mode, where it is not allowed. */
  #ioInLegacy = false;
  #context: Context = new Context();
  readonly #name: string;
  readonly #caps: Capabilities;
  readonly #policies: VtdPolicies;
  // `private`, not `#`, where every request passes: see `Iotlb`.
  private readonly caches: Caches;
  private readonly iotlb: Iotlb;
  readonly #faults: FaultRecorder;
  private readonly tracer: Tracer | undefined;
  readonly #reader: ConfigurationReader;
  readonly #stages: Stages;
  readonly #hostPermissions: HostPermissions;
  readonly #hostPages: number;
  /** Read into when a cache misses; the cache then keeps it, and gives one back. */
  #spareContext: Context = new Context();
  #spareConfiguration: Configuration = new Configuration();

  constructor(
    name: string,
    memory: PhysicalMemory,
    caps: Capabilities,
    policies: VtdPolicies,
    caches: Caches,
    faults: FaultRecorder,
    tracer: Tracer | undefined,
  ) {
    this.#name = name;
    this.#caps = caps;
    this.#policies = policies;
    this.caches = caches;
    this.iotlb = caches.iotlb;
    this.#faults = faults;
    this.tracer = tracer;
    this.#reader = new ConfigurationReader(memory, caps, policies);
    this.#stages = new Stages(memory, caps, policies, caches);
    this.#hostPermissions = new HostPermissions(memory, caps);
    this.#hostPages = 2 ** (caps.haw - 12);
  }

  /** GSTS.TES */
  get enabled(): boolean {
    return this.on === 1;
  }

  set enabled(on: boolean) {
    this.on = Number(on);
  }

  /** SRTP: RTADDR takes effect now (6.6). */
  latchRootTable(value: bigint): void {
    this.recentRid = NOBODY;
    this.#latches++;
    this.#rootTable = Number(value >> 12n) * 4096;
    this.mode = Number((value >> 10n) & 3n);
    const io = this.#caps.secondStageIoRights && (value & 0x80n) !== 0n;
    this.#ioInLegacy = io && this.mode === TranslationTableMode.LEGACY;
    this.#stages.secondStageIo = io;
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

  /** A translation request (4.2.3); `access` lacks WRITE when its No Write flag is set. */
  requestTranslation(rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): void {
    clear(out);
    if (!this.enabled || !this.#caps.deviceTlb) {
      out.status = CompletionStatus.UNSUPPORTED_REQUEST;
      return;
    }
    out.privileged = pasid !== NO_PASID && (access & Access.PRIVILEGED) !== 0;
    const noWrite = this.#caps.noWriteFlag && (access & Access.WRITE) === 0;
    const asked = access | Access.READ | (noWrite ? 0 : Access.WRITE);
    if (this.#answerFromCache(rid, pasid, page, asked, out)) return;
    const condition = this.#translation(rid, pasid, page, asked, out);
    if (condition !== NONE) this.#refuseTranslation(condition, rid, pasid, page, asked, out);
    if (this.tracer?.listener) {
      // What was granted, which may be less than what was asked for: that is what the device may do from now on.
      const granted = condition === NONE ? (out.read ? Access.READ : 0) | (out.write ? Access.WRITE : 0) : 0;
      this.#trace(rid, pasid, page, granted || asked, "walk", granted === 0 ? -1 : this.#stages.outPage, out.noSnoop);
    }
  }

  /** A request with a translated address (4.2.4): the output page, or -1 when it is blocked. */
  translated(rid: number, pasid: number, page: number, access: number): number {
    if (!this.enabled || !this.#caps.deviceTlb || (pasid !== NO_PASID && !this.#caps.translatedPasid)) return -1;
    const condition = this.#translated(rid, pasid, page, access);
    if (condition === NONE) return page;
    this.report(condition, RequestKind.TRANSLATED, rid, pasid, page, access);
    return -1;
  }

  /** The configuration checks of a page request (7.4.1): NONE, with `configuration` set, or a fault condition, to be reported by the caller. */
  locate(rid: number, pasid: number): number {
    const context = this.#findContext(RequestKind.PAGE, rid, pasid, 0);
    if (context !== NONE) return context;
    return this.#findConfiguration(pasid === NO_PASID ? this.#context.ridPasid : pasid);
  }

  /** Records a condition, unless an FPD keeps it from the record. */
  report(condition: number, kind: number, rid: number, pasid: number, page: number, access: number): void {
    const fault = FAULTS[condition];
    if (!(fault.qualified && this.faultDisable)) this.#faults.record(fault, rid, pasid, page, access, kind);
  }

  #miss(rid: number, pasid: number, page: number, access: number): number {
    if (this.enabled && (access & Access.PRIVILEGED) !== 0 && (access & Access.EXECUTE) === 0 && pasid !== NO_PASID) {
      const hit = this.#privilegedHit(rid, pasid, page, access);
      if (hit !== -1) return hit;
    }
    if (pasid === NO_PASID && isInterruptPage(page)) {
      // Writes here are interrupts and are never DMA-translated (3.14), zero-length reads end here; other requests are not allowed.
      if ((access & Access.READ) === 0 || (access & Access.ZERO_LENGTH) !== 0) return page;
      if (this.enabled) return this.#block(F.IRR29, rid, pasid, page, access);
    }
    if (!this.enabled) {
      if (this.tracer?.listener) this.#trace(rid, pasid, page, access, "bypass", page, false);
      return page;
    }
    const found = this.#configure(rid, pasid, access);
    if (found !== NONE) return this.#block(found, rid, pasid, page, access);
    const condition = this.#resolve(RequestKind.UNTRANSLATED, rid, pasid, page, access);
    if (condition !== NONE) return this.#block(condition, rid, pasid, page, access);
    const s = this.#stages;
    if (this.tracer?.listener) this.#trace(rid, pasid, page, access, "walk", s.outPage, s.snoop || this.configuration.pageSnoop);
    return s.outPage;
  }

  #privilegedHit(rid: number, pasid: number, page: number, access: number): number {
    const { iotlb } = this.caches;
    const slot = iotlb.lookup(rid, pasid, page);
    const needed = (access & 3) << PRIVILEGED_SHIFT;
    if (slot === -1 || (iotlb.data(slot) & needed) !== needed) return -1;
    const out = iotlb.output(slot, page);
    if (this.tracer?.listener) this.#trace(rid, pasid, page, access, "iotlb", out, (iotlb.data(slot) & SNOOP) !== 0);
    return out;
  }

  /** Everything before the page of an untranslated request: leaves `configuration`. */
  #configure(rid: number, pasid: number, access: number): number {
    const found = this.#findContext(RequestKind.UNTRANSLATED, rid, pasid, access);
    if (found !== NONE) return found;
    const condition = this.#findTranslation(pasid, access);
    if (condition === NONE) this.#remember(rid, pasid);
    return condition;
  }

  /** `configuration` is right for later requests of the same kind while both caches keep what they have. */
  #remember(rid: number, pasid: number): void {
    const { contexts, pasids } = this.caches;
    if (contexts.capacity === 0 || (pasids.capacity === 0 && !this.#context.legacy)) return;
    const c = this.configuration;
    const privileged = pasid === NO_PASID && this.#ridPrivileged;
    if ((privileged && !c.supervisorEnable) || (this.#caps.cachingMode && !isFirst(c)) || (pasid === NO_PASID && c.pgtt === Pgtt.PASS_THROUGH)) return;
    const key = this.#latches * 2 + Number(privileged);
    if (c.quickKey !== key) {
      c.quick = this.#stages.quickWalk(c, rid, pasid, privileged);
      c.quickKey = key;
    }
    if (c.quick === undefined) return;
    this.recentWalk = c.quick;
    this.recentRid = rid;
    this.recentPasid = pasid;
    this.recentEpoch = this.caches.epoch;
  }

  /** From a good context to who translates. */
  #findTranslation(pasid: number, access: number): number {
    if (this.#context.legacy) return NONE;
    const found = this.#findConfiguration(pasid === NO_PASID ? this.#context.ridPasid : pasid);
    if (found !== NONE) return found;
    // Execute requests were removed in 4.1: ERS reads 0 (SPT.5).
    return pasid !== NO_PASID && (access & Access.EXECUTE) !== 0 ? F.SPT5 : NONE;
  }

  /** Mode, root and context checks: leaves `#context` and `faultDisable`, and in legacy mode `configuration`. */
  #findContext(kind: number, rid: number, pasid: number, access: number): number {
    this.faultDisable = false;
    this.recentRid = NOBODY;
    const mode = this.#modeCondition(kind, pasid, access);
    if (mode !== NONE) return mode;
    const cached = this.caches.contexts.lookup(rid, NO_PASID);
    let condition: number = NONE;
    if (cached === undefined) {
      const spare = this.#spareContext;
      const legacy = this.mode === TranslationTableMode.LEGACY;
      // What the entry says is kept with CM=1 even when it is bad (6.1); what kept it from being read is not.
      spare.condition = NONE;
      condition = legacy ? this.#reader.readLegacy(this.#rootTable, rid, spare) : this.#reader.readScalable(this.#rootTable, rid, spare);
      this.#context = spare;
      if (condition === NONE || (this.#caps.cachingMode && spare.condition !== NONE)) this.#keepContext(spare);
    } else {
      this.#context = cached;
      condition = cached.condition;
    }
    const context = this.#context;
    this.faultDisable = context.faultDisable;
    if (condition !== NONE) return condition;
    if (context.legacy) this.configuration = context.translation;
    return this.#reader.refuses(context, kind, pasid);
  }

  #keepContext(context: Context): void {
    const { contexts } = this.caches;
    if (contexts.capacity === 0) return;
    this.#spareContext = contexts.insert(context) ?? new Context();
    this.caches.epoch++;
  }

  /** The PASID entry for an effective PASID: leaves `configuration`. */
  #findConfiguration(pasid: number): number {
    const context = this.#context;
    const { pasids } = this.caches;
    const cached = pasids.lookup(context.rid, pasid);
    if (cached !== undefined) {
      this.configuration = cached;
      this.faultDisable ||= cached.faultDisable;
      return cached.condition;
    }
    const spare = this.#spareConfiguration;
    spare.condition = NONE;
    const condition = this.#reader.readPasid(context, pasid, spare);
    this.configuration = spare;
    this.faultDisable ||= spare.faultDisable;
    const absent = this.#caps.cachingMode && this.#policies.absentPasids !== "uncached" && spare.condition !== NONE;
    if (pasids.capacity !== 0 && (condition === NONE || absent)) {
      this.#spareConfiguration = pasids.insert(spare) ?? new Configuration();
      this.caches.epoch++;
    }
    return condition;
  }

  #modeCondition(kind: number, pasid: number, access: number): number {
    switch (this.mode) {
      case TranslationTableMode.ABORT:
        return this.#caps.abortMode ? F.RTA4 : F.RTA11;
      case TranslationTableMode.RESERVED:
        return F.RTA12;
      case TranslationTableMode.SCALABLE:
        if (!this.#caps.scalableMode) return F.RTA13;
        break;
      default:
        if (kind === RequestKind.PAGE) return F.RTA3;
        if (pasid !== NO_PASID) return F.RTA2;
        if (this.#ioInLegacy) return F.RTA14;
    }
    return pasid !== NO_PASID && (access & Access.EXECUTE) !== 0 && this.#caps.majorVersion >= 8 ? F.RTA5 : NONE;
  }

  /** From `configuration` to an output: leaves it in `#stages`, and in the IOTLB. */
  #resolve(kind: number, rid: number, pasid: number, page: number, access: number): number {
    const c = this.configuration;
    const privileged = pasid === NO_PASID ? this.#ridPrivileged : (access & Access.PRIVILEGED) !== 0;
    if (privileged && !c.supervisorEnable) return F.SPT6;
    if (this.#caps.cachingMode && !isFirst(c)) {
      const absent = this.#cachedRefusal(c, kind, rid, pasid, page, access);
      if (absent !== NONE) return absent;
    }
    const condition = c.pgtt === Pgtt.PASS_THROUGH ? this.#passThrough(c, kind, page) : this.#stages.resolve(c, page, access, privileged, kind);
    if (condition === NONE) this.#fill(c, rid, pasid, page);
    else if (this.#caps.cachingMode && !isFirst(c) && this.#stages.absent && isCachedRefusal(condition)) this.#insert(c, rid, pasid, page, page, 12, (condition + 1) << CONDITION_SHIFT);
    return condition;
  }

  get #ridPrivileged(): boolean {
    return !this.#context.legacy && this.#context.ridPrivileged;
  }

  /** With CM=1 what a second stage refused may be cached (6.1), and is: an entry there that does not allow the request answers it. */
  #cachedRefusal(c: Configuration, kind: number, rid: number, pasid: number, page: number, access: number): number {
    const { iotlb } = this.caches;
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
    const s = this.#stages;
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
    const s = this.#stages;
    const user = pasid === NO_PASID && this.#ridPrivileged ? s.privilegedRights : s.userRights;
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
    const { iotlb } = this.caches;
    iotlb.insert(rid, pasid, page, shift, outPage, data, c.group, c.pasid);
  }

  /** A translation request that the IOTLB can answer in full. */
  #answerFromCache(rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): boolean {
    if ((access & Access.EXECUTE) !== 0 || (pasid === NO_PASID && isInterruptPage(page))) return false;
    const { iotlb } = this.caches;
    const slot = iotlb.lookup(rid, pasid, page);
    if (slot === -1) return false;
    const data = iotlb.data(slot);
    const needed = (access & 3) << (out.privileged ? PRIVILEGED_SHIFT : 0);
    if ((data & needed) !== needed || (data & PIECE) !== 0) return false;
    const found = this.#findContext(RequestKind.TRANSLATION, rid, pasid, access);
    if (found !== NONE) return false;
    complete(out, iotlb.output(slot, page), iotlb.shift(slot), access & 3, (data & SNOOP) !== 0);
    if (this.tracer?.listener) this.#trace(rid, pasid, page, access, "iotlb", iotlb.output(slot, page), out.noSnoop);
    return true;
  }

  #translation(rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): number {
    const found = this.#findContext(RequestKind.TRANSLATION, rid, pasid, access);
    if (found !== NONE) return found;
    if (pasid === NO_PASID && isInterruptPage(page)) {
      // Special conditions S.1 and S.2 (4.2.3): messages go untranslated.
      const write = (access & Access.WRITE) !== 0;
      complete(out, page, 12, write ? Access.WRITE : 0, false);
      out.untranslatedOnly = write;
      return NONE;
    }
    const entry = this.#findTranslation(pasid, access);
    if (entry !== NONE) return entry;
    const condition = this.#resolve(RequestKind.TRANSLATION, rid, pasid, page, access);
    if (condition !== NONE) return condition;
    const s = this.#stages;
    const rights = out.privileged || (pasid === NO_PASID && this.#ridPrivileged) ? s.privilegedRights : s.userRights;
    complete(out, s.outPage, s.shift, rights & access, s.snoop || this.configuration.pageSnoop);
    return NONE;
  }

  #refuseTranslation(condition: number, rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): void {
    const fault = FAULTS[condition];
    const outcome = outcomeOf(fault, RequestKind.TRANSLATION, pasid !== NO_PASID);
    if (outcome === "UR") out.status = CompletionStatus.UNSUPPORTED_REQUEST;
    if (outcome === "CA") out.status = CompletionStatus.COMPLETER_ABORT;
    if (out.status !== CompletionStatus.SUCCESS || fault.alwaysRecorded) this.report(condition, RequestKind.TRANSLATION, rid, pasid, page, access);
  }

  #translated(rid: number, pasid: number, page: number, access: number): number {
    const found = this.#findContext(RequestKind.TRANSLATED, rid, pasid, access);
    if (found !== NONE) return found;
    const context = this.#context;
    if (page >= this.#hostPages) return context.legacy ? F.LGN12 : F.SGN41;
    if (isInterruptPage(page)) return context.legacy ? F.LGN4 : F.SGN83;
    if (context.legacy || !context.hostPermission) return NONE;
    const condition = this.#findConfiguration(pasid === NO_PASID ? context.ridPasid : pasid);
    return condition === NONE ? this.#hostPermissions.check(this.configuration, page, access) : condition;
  }

  #block(condition: number, rid: number, pasid: number, page: number, access: number): number {
    if (this.tracer?.listener) this.#trace(rid, pasid, page, access, "walk", -1, false);
    this.report(condition, RequestKind.UNTRANSLATED, rid, pasid, page, access);
    return -1;
  }

  #traceHit(slot: number, page: number, access: number): void {
    const { iotlb } = this;
    this.#trace(iotlb.tagA(slot), iotlb.tagB(slot), page, access, "iotlb", iotlb.output(slot, page), (iotlb.data(slot) & SNOOP) !== 0);
  }

  #traceWalk({ key, rights }: QuickWalk, page: number, access: number, out: number): void {
    this.#trace(key.tagA, key.tagB, page, access, "walk", out, (rights & SNOOP) !== 0);
  }

  #trace(rid: number, pasid: number, page: number, access: number, source: "iotlb" | "walk" | "bypass", out: number, snooped: boolean): void {
    this.tracer?.listener?.({
      kind: "translation",
      unit: this.#name,
      rid,
      iova: BigInt(page) << 12n,
      access: (access & Access.WRITE) !== 0 ? ((access & Access.READ) !== 0 ? "atomic" : "write") : "read",
      source,
      ...(pasid === NO_PASID ? {} : { pasid }),
      ...(out === -1 ? {} : { pa: out * 4096 }),
      ...(snooped ? { snooped } : {}),
    });
  }
}

function isFirst(c: Configuration): boolean {
  return c.pgtt === Pgtt.FIRST_STAGE || c.pgtt === Pgtt.NESTED;
}

/** What CM=1 lets the IOTLB keep: entries that are absent or damaged. */
function isCachedRefusal(condition: number): boolean {
  return condition === F.SSS2 || condition === F.SSS3 || condition === F.LSS2 || condition === F.LGN2 || condition === F.LGN3;
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
