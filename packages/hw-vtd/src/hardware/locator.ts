/** From a request to who translates it (VT-d 3.4, 7.1): mode, root, context and PASID entry, by way of their caches. */
import { Access, NO_PASID, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { TranslationTableMode } from "../spec/entries.js";
import { FAULTS, faultIndex } from "../spec/faults.js";
import type { Caches } from "./caches.js";
import { Configuration, ConfigurationReader, Context, NONE } from "./configuration.js";
import type { FaultRecorder } from "./fault-recorder.js";
import type { VtdPolicies } from "./policies.js";
import { RequestKind } from "./request.js";

const F = {
  RTA11: faultIndex("RTA.1.1"), RTA12: faultIndex("RTA.1.2"), RTA13: faultIndex("RTA.1.3"), RTA14: faultIndex("RTA.1.4"), RTA2: faultIndex("RTA.2"),
  RTA3: faultIndex("RTA.3"), RTA4: faultIndex("RTA.4"), RTA5: faultIndex("RTA.5"), SPT5: faultIndex("SPT.5"),
} as const;

export class Locator {
  /** GSTS.TES */
  enabled = false;
  /** Latched RTADDR.TTM. */
  mode: number = TranslationTableMode.LEGACY;
  /** RTADDR.SSIRWE, latched. */
  secondStageIo = false;
  /** What was found, and while a request is judged: whether an FPD on the way keeps qualified faults from the record. */
  context: Context = new Context();
  configuration: Configuration = new Configuration();
  faultDisable = false;

  #rootTable = 0;
  readonly #caps: Capabilities;
  readonly #policies: VtdPolicies;
  readonly #caches: Caches;
  readonly #faults: FaultRecorder;
  readonly #reader: ConfigurationReader;
  /** Read into when a cache misses; the cache then keeps it, and gives one back. */
  #spareContext: Context = new Context();
  #spareConfiguration: Configuration = new Configuration();

  constructor(memory: PhysicalMemory, caps: Capabilities, policies: VtdPolicies, caches: Caches, faults: FaultRecorder) {
    this.#caps = caps;
    this.#policies = policies;
    this.#caches = caches;
    this.#faults = faults;
    this.#reader = new ConfigurationReader(memory, caps, policies);
  }

  /** SRTP: RTADDR takes effect now (6.6). */
  latchRootTable(value: bigint): void {
    this.#rootTable = Number(value >> 12n) * 4096;
    this.mode = Number((value >> 10n) & 3n);
    this.secondStageIo = this.#caps.secondStageIoRights && (value & 0x80n) !== 0n;
  }

  /** Requests of the found context without a PASID are privileged. */
  get ridPrivileged(): boolean {
    return !this.context.legacy && this.context.ridPrivileged;
  }

  /** The configuration checks of a page request (7.4.1): NONE, or a fault condition, to be reported by the caller. */
  locate(rid: number, pasid: number): number {
    const context = this.findContext(RequestKind.PAGE, rid, pasid, 0);
    return context === NONE ? this.findConfiguration(pasid) : context;
  }

  /** Mode, root and context checks: leaves `context` and `faultDisable`, and in legacy mode `configuration`. */
  findContext(kind: number, rid: number, pasid: number, access: number): number {
    this.faultDisable = false;
    const mode = this.#modeCondition(kind, pasid, access);
    if (mode !== NONE) return mode;
    const cached = this.#caches.contexts.lookup(rid, NO_PASID);
    let condition: number = NONE;
    if (cached === undefined) {
      const spare = this.#spareContext;
      const legacy = this.mode === TranslationTableMode.LEGACY;
      // What the entry says is kept with CM=1 even when it is bad (6.1); what kept it from being read is not.
      spare.condition = NONE;
      condition = legacy ? this.#reader.readLegacy(this.#rootTable, rid, spare) : this.#reader.readScalable(this.#rootTable, rid, spare);
      this.context = spare;
      if (condition === NONE || (this.#caps.cachingMode && spare.condition !== NONE)) this.#keepContext(spare);
    } else {
      this.context = cached;
      condition = cached.condition;
    }
    const { context } = this;
    this.faultDisable = context.faultDisable;
    if (condition !== NONE) return condition;
    if (context.legacy) this.configuration = context.translation;
    return this.#reader.refuses(context, kind, pasid);
  }

  /** From a good context to who translates. */
  findTranslation(pasid: number, access: number): number {
    if (this.context.legacy) return NONE;
    const found = this.findConfiguration(pasid);
    if (found !== NONE) return found;
    // Execute requests were removed in 4.1: ERS reads 0 (SPT.5).
    return pasid !== NO_PASID && (access & Access.EXECUTE) !== 0 ? F.SPT5 : NONE;
  }

  /** The PASID entry of the context that was found: leaves `configuration`. */
  findConfiguration(requested: number): number {
    const { context } = this;
    const pasid = requested === NO_PASID ? context.ridPasid : requested;
    const { pasids } = this.#caches;
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
      this.#caches.epoch++;
    }
    return condition;
  }

  /** Records a condition, unless an FPD keeps it from the record. */
  report(condition: number, kind: number, rid: number, pasid: number, page: number, access: number): void {
    const fault = FAULTS[condition];
    if (!(fault.qualified && this.faultDisable)) this.#faults.record(fault, rid, pasid, page, access, kind);
  }

  #keepContext(context: Context): void {
    const { contexts } = this.#caches;
    if (contexts.capacity === 0) return;
    this.#spareContext = contexts.insert(context) ?? new Context();
    this.#caches.epoch++;
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
        if (this.secondStageIo) return F.RTA14;
    }
    return pasid !== NO_PASID && (access & Access.EXECUTE) !== 0 && this.#caps.majorVersion >= 8 ? F.RTA5 : NONE;
  }
}
