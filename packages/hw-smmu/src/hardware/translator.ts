/** Requests to addresses (SMMU 3.3 to 3.5): the order of checks is that of section 7.3.22. */
import { Access, type CachedTranslation, NO_PASID, type PhysicalMemory, type Tracer } from "@iommukit/core";
import { Event, FaultClass } from "../spec/events.js";
import type { Capabilities } from "../spec/identification.js";
import { Cr2 } from "../spec/registers.js";
import { Eats } from "../spec/stream-table.js";
import { cachedTranslations } from "./cached.js";
import { Action, Configuration } from "./configuration.js";
import { ConfigurationReader } from "./configuration-reader.js";
import type { EventQueue } from "./event-queue.js";
import { Fault } from "./fault.js";
import { QuickWalk } from "./quick-walk.js";
import { attributes, NEEDED } from "./rights.js";
import { Stage1 } from "./stage1.js";
import { Stage2 } from "./stage2.js";
import { GLOBAL_TAG } from "./tlb-groups.js";
import { canonicalPage, type Tlbs } from "./tlbs.js";

/** Before the tables: the input cache, its global entries only, or nothing, since it has no intermediate addresses. */
export const Look = { CACHE: 0, MISSED: 1, TABLES: 2 } as const;

export class Translator {
  /** CR0.SMMUEN, CR2, GBPA.ABORT as they are in effect. */
  enabled = false;
  cr2 = 0;
  bypassAborts = false;
  readonly fault: Fault = new Fault();
  readonly reader: ConfigurationReader;
  // `private`, not `#`: stored once, it is a constant to V8.
  private readonly configurations: readonly Configuration[];
  private readonly mask: number;
  private readonly needed: Uint8Array = NEEDED;
  readonly #name: string;
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  private readonly tlbs: Tlbs;
  readonly #events: EventQueue;
  private readonly tracer: Tracer | undefined;
  readonly #stage1: Stage1;
  readonly #stage2: Stage2;
  /** The last request that was blocked ends without an abort: CD.A is 0 (5.5). */
  answersZero = false;
  /** Of the last request that was blocked: the number of its stall, -1 when it was terminated. */
  stall = -1;
  /** What the last `resolve` found: rights that both stages give, six bits, and log2 of the bytes they hold for. */
  rights = 0;
  shift = 12;
  /** The last `resolve` was answered by the input cache. */
  fromCache = false;
  /** What stage 1 made of the page; right after a `resolve` that walked. */
  stage1Page = 0.5;

  /** @param entries of each configuration cache, a power of two or 0 */
  constructor(name: string, memory: PhysicalMemory, caps: Capabilities, tlbs: Tlbs, events: EventQueue, entries: number, tracer: Tracer | undefined) {
    this.#name = name;
    this.#memory = memory;
    this.#caps = caps;
    this.tlbs = tlbs;
    this.#events = events;
    this.tracer = tracer;
    const tables = new Stage2(memory, caps, tlbs, this.fault);
    this.#stage2 = new Stage2(memory, caps, tlbs, this.fault);
    this.#stage1 = new Stage1(memory, caps, tlbs, tables, this.fault);
    this.reader = new ConfigurationReader(memory, caps, tlbs, tables, this.fault, entries);
    this.configurations = Array.from({ length: Math.max(entries, 1) }, () => new Configuration());
    this.mask = Math.max(entries, 1) - 1;
  }

  translate(stream: number, substream: number, page: number, access: number, offset: number): number {
    const c = this.configurations[(stream ^ Math.imul(substream, 0x9e3779b1)) & this.mask];
    const tlb = c.plainTlb;
    if (tlb !== undefined && c.stream === stream && c.substream === substream) {
      const needed = this.needed[c.needed + (access & 15)];
      const slot = tlb.lookup(c.tagA, c.tagB, page);
      if (slot !== -1) {
        if ((tlb.data(slot) & needed) === needed) {
          const out = tlb.output(slot, page);
          if (this.tracer?.listener) this.#trace(stream, substream, page, access, "iotlb", out);
          return out;
        }
      } else if (c.quick !== undefined && !this.tlbs.globals) {
        const out = c.quick.translate(page, needed);
        if (out !== -1) {
          if (this.tracer?.listener) this.#trace(stream, substream, page, access, "walk", out);
          return out;
        }
      }
    }
    return this.#miss(stream, substream, page, access, offset);
  }

  #miss(stream: number, substream: number, page: number, access: number, offset: number): number {
    if (!this.enabled) return this.#disabled(stream, substream, page, access);
    const known = this.#slot(stream, substream);
    const missed = known.plainTlb !== undefined && known.stream === stream && known.substream === substream;
    const c = this.configure(stream, substream);
    if (c === undefined) return this.#refuse(this.#slot(stream, substream), stream, substream, page, access, offset);
    if (c.action === Action.ABORT) return this.#blocked(stream, substream, page, access);
    const out = this.resolve(c, page, access, missed ? Look.MISSED : Look.CACHE);
    if (out === -1) return this.#refuse(c, stream, substream, page, access, offset);
    if (this.tracer?.listener) this.#trace(stream, substream, page, access, c.action === Action.BYPASS ? "bypass" : "walk", out);
    return out;
  }

  /** SMMUEN = 0: GBPA decides, and nothing is recorded (3.3.4). */
  #disabled(stream: number, substream: number, page: number, access: number): number {
    if (this.bypassAborts || page >= 2 ** (this.#caps.oas - 12)) return this.#blocked(stream, substream, page, access);
    if (this.tracer?.listener) this.#trace(stream, substream, page, access, "bypass", page);
    return page;
  }

  /** The configuration of a stream, out of the cache or read; undefined with the fault filled. */
  configure(stream: number, substream: number): Configuration | undefined {
    const c = this.#slot(stream, substream);
    if (c.valid && c.stream === stream && c.substream === substream) return c;
    c.valid = false;
    c.plain = false;
    c.plainTlb = undefined;
    c.quick = undefined;
    if (!this.reader.read(stream, substream, c)) return undefined;
    c.valid = this.mask > 0;
    if (!c.valid || !c.plain) return c;
    c.plainTlb = c.tlb;
    if (c.action === Action.TRANSLATE && !this.tlbs.conflicts) c.quick = QuickWalk.for(c, this.#memory, this.#caps, this.tlbs);
    return c;
  }

  #slot(stream: number, substream: number): Configuration {
    return this.configurations[(stream ^ Math.imul(substream, 0x9e3779b1)) & this.mask];
  }

  /** Where `configure` read what it could before it failed. */
  lastConfiguration(stream: number, substream: number): Configuration {
    return this.#slot(stream, substream);
  }

  isPrivileged(c: Configuration, access: number): boolean {
    return attributes(c.needed / 16, access).privileged;
  }

  cached(): Iterable<CachedTranslation> {
    return this.enabled ? cachedTranslations(this.configurations, this.tlbs) : [];
  }

  /** A translation request was answered with an output page (3.9.1). */
  granted(stream: number, substream: number, page: number, access: number, out: number): void {
    if (this.tracer?.listener) this.#trace(stream, substream, page, access, this.fromCache ? "iotlb" : "walk", out);
  }

  /** True when devices get intermediate addresses of this stream. */
  isSplit(stream: number): boolean {
    return this.configurations.some((c) => c.valid && c.stream === stream && c.eats === Eats.SPLIT);
  }

  /** Forgets what was made of structures that are no longer cached. */
  forget(matches: (stream: number, substream: number) => boolean): void {
    for (const c of this.configurations) {
      if (!matches(c.stream, c.substream)) continue;
      c.valid = false;
      c.plainTlb = undefined;
    }
  }

  /**
   * Translates under a good configuration: the output page, or -1 with the fault filled.
   * @param look `Look`: where to look before the tables
   */
  resolve(c: Configuration, page: number, access: number, look: number = Look.CACHE): number {
    this.fromCache = false;
    if (c.skipsStage1 && page >= 2 ** (this.#caps.ias - 12)) return this.#tooLarge();
    if (c.action === Action.BYPASS) return this.#bypass(c, page);
    const needed = NEEDED[c.needed + (access & 15)];
    return c.stage1 ? this.#bothStages(c, page, needed, look) : this.#stage2Only(c, page, needed);
  }

  /** Stage 2 for an address that stage 1 is past: a translated transaction of split-stage ATS (3.9.2). */
  resolveIntermediate(c: Configuration, page: number, access: number): number {
    if (page >= 2 ** (this.#caps.ias - 12)) return this.#tooLarge();
    return this.#stage2Only(c, page, NEEDED[c.needed + (access & 15)]);
  }

  /** Input addresses that no stage looks at have a size all the same (3.4); A, R and S have no say. */
  #tooLarge(): -1 {
    this.fault.stage1(Event.F_ADDR_SIZE, false);
    return -1;
  }

  #bypass(c: Configuration, page: number): number {
    const pages = 2 ** (this.#caps.oas - 12);
    // An intermediate address beyond the output size is cut off, a bypassed one is refused.
    if (page >= pages && !c.skipsStage1) return this.#tooLarge();
    return page % pages;
  }

  #stage2Only(c: Configuration, page: number, needed: number): number {
    const out = this.#stage2;
    if (!out.resolve(c, page, needed, FaultClass.IN) || !out.commit(c)) return -1;
    this.rights = out.rights;
    this.shift = out.shift;
    return out.outPage;
  }

  #bothStages(c: Configuration, page: number, needed: number, look: number): number {
    const first = this.#stage1;
    const key = canonicalPage(page);
    const cached = look === Look.TABLES ? -1 : this.#cached(c, page, key, needed, look === Look.MISSED);
    if (cached !== -1) return cached;
    if (!first.resolve(c, page, needed)) return -1;
    this.rights = first.rights;
    this.shift = first.shift;
    let { outPage } = first;
    this.stage1Page = outPage;
    if (c.stage2) {
      const second = this.#stage2;
      if (!second.resolve(c, outPage, needed, FaultClass.IN) || !first.commit(c) || !second.commit(c)) return -1;
      this.rights &= second.rights;
      this.shift = Math.min(this.shift, second.shift);
      ({ outPage } = second);
    } else if (!first.commit(c)) return -1;
    if (this.tlbs.conflicts) return this.#keepApart(c, key, outPage);
    this.tlbs.insertInput(c, key, this.shift, outPage, this.rights, first.granule, first.level, first.global);
    return outPage;
  }

  /** Caches where entries of two sizes in one place are an error (3.21.1); a block with nT is not cached then. */
  #keepApart(c: Configuration, key: number, outPage: number): number {
    const first = this.#stage1;
    if (first.isTransient || (c.stage2 && this.#stage2.isTransient)) return outPage;
    if (this.tlbs.overlapsInput(c, key, this.shift, first.global)) {
      this.fault.structure(Event.F_TLB_CONFLICT);
      return -1;
    }
    this.tlbs.insertInput(c, key, this.shift, outPage, this.rights, first.granule, first.level, first.global);
    return outPage;
  }

  /** The input cache, under a top byte and for global entries too; its limits are checked as a walk does. @param missed there is no entry of this ASID */
  #cached(c: Configuration, page: number, key: number, needed: number, missed: boolean): number {
    const { tlb } = c;
    if (tlb === undefined) return -1;
    const half = c.halves[key >= 2 ** 51 ? 1 : 0];
    if (key !== page && !half.topByteIgnored) return -1;
    if (half.privilegedOnly && (needed & 7) !== 0) return -1;
    let slot = missed ? -1 : tlb.lookup(c.tagA, c.tagB, key);
    if (slot === -1 && this.tlbs.globals) slot = tlb.lookup(c.tagA & ~0xffff, c.tagB | GLOBAL_TAG, key);
    if (slot === -1 || (tlb.data(slot) & needed) !== needed) return -1;
    this.rights = tlb.data(slot);
    this.shift = tlb.shift(slot);
    this.fromCache = true;
    return tlb.output(slot, key);
  }

  /** The transaction ends here; what is recorded of it is the event queue's business (5.5, 7.2). */
  #refuse(c: Configuration, stream: number, substream: number, page: number, access: number, offset: number): -1 {
    const { fault } = this;
    const silent = fault.type === Event.C_BAD_STREAMID && (this.cr2 & Cr2.RECINVSID) === 0;
    const stall = silent ? -1 : this.#events.record(fault, c, stream, substream, page, access, offset);
    this.#blocked(stream, substream, page, access);
    // Last: others may have been blocked while the record was handled.
    this.stall = stall;
    this.answersZero = fault.controlled && !fault.stage2 && !c.aborts && !c.stalls;
    return -1;
  }

  #blocked(stream: number, substream: number, page: number, access: number): -1 {
    this.stall = -1;
    this.answersZero = false;
    if (this.tracer?.listener) this.#trace(stream, substream, page, access, "walk", -1);
    return -1;
  }

  #trace(stream: number, substream: number, page: number, access: number, source: "iotlb" | "walk" | "bypass", out: number): void {
    this.tracer?.listener?.({
      kind: "translation",
      unit: this.#name,
      rid: stream,
      iova: BigInt(page) << 12n,
      access: (access & Access.WRITE) !== 0 ? ((access & Access.READ) !== 0 ? "atomic" : "write") : "read",
      source,
      ...(substream === NO_PASID ? {} : { pasid: substream }),
      ...((access & Access.PRIVILEGED) === 0 ? {} : { privileged: true }),
      ...((access & Access.EXECUTE) === 0 ? {} : { execute: true }),
      ...(out === -1 ? {} : { pa: out * 4096 }),
    });
  }
}
