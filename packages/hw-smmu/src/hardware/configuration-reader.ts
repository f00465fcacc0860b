/**
 * From a StreamID and SubstreamID to a configuration (SMMU 3.3, 5.2, 5.4): stream table, STE, CD table, CD, in the order of
 * checks of section 7.3.22. What was fetched and is good is cached, structure by structure.
 */
import { NO_PASID, type PageTableFormat, type PhysicalMemory } from "@iommukit/core";
import { CD, L1_CONTEXT_DESCRIPTOR, TG1_AS_TG0 } from "../spec/context.js";
import { Event, FaultClass } from "../spec/events.js";
import type { Capabilities } from "../spec/identification.js";
import { CD_RULES, effectiveEats, enabledHalves, hasStage1, hasStage2, outputBits, STE_RULES, streamWorld, substreamBits, World } from "../spec/illegal.js";
import { L1_STREAM_DESCRIPTOR, S1dss, STE, SteConfig } from "../spec/stream-table.js";
import { GRANULE_SHIFTS, stage1TopLevel, stage2TopLevel, vmsaFormat } from "../spec/tables.js";
import { type Fields, fieldsByName, readBits, readFields } from "../spec/words.js";
import { Action, type Configuration, type Half } from "./configuration.js";
import type { Fault } from "./fault.js";
import type { Stage2 } from "./stage2.js";
import { StructureCache } from "./structure-cache.js";
import { inputTags, intermediateTags } from "./tlb-groups.js";
import type { Tlbs } from "./tlbs.js";

/** What registers say of stream tables (STRTAB_BASE, STRTAB_BASE_CFG, CR0, CR2), while translation is on. */
export interface StreamTable {
  readonly base: number;
  readonly log2Size: number;
  readonly split: number;
  readonly twoLevel: boolean;
  readonly e2h: boolean;
  readonly atsCheck: boolean;
}

export const NO_STREAM_TABLE: StreamTable = { base: 0, log2Size: 0, split: 6, twoLevel: false, e2h: false, atsCheck: false };

/** STRTAB_BASE and STRTAB_BASE_CFG (6.3.23, 6.3.24): the base is aligned by the literal LOG2SIZE. */
export function readStreamTable(base: bigint, cfg: number, caps: Capabilities): Omit<StreamTable, "e2h" | "atsCheck"> {
  const log2Size = cfg & 63;
  const written = (cfg >>> 6) & 31;
  const split = written === 8 || written === 10 ? written : 6;
  const twoLevel = caps.twoLevelStream && ((cfg >>> 16) & 3) === 1;
  const low = twoLevel ? Math.max(5, log2Size - split - 1 + 3) : log2Size + 5;
  const address = Number(base & 0xff_ffff_ffff_ffc0n);
  return { base: address - (address % 2 ** (low + 1)), log2Size, split, twoLevel };
}

const { CONT } = fieldsByName(STE);

export class ConfigurationReader {
  table: StreamTable = NO_STREAM_TABLE;
  /** What the last `read` found, for those who look at more than a translation needs. */
  stream: Fields | undefined = undefined;
  context: Fields | undefined = undefined;
  /** Stage 2 translates both start tables of a CD when it is read, and what it says is kept with the CD (`qemuNesting`). */
  fixesStartTables = false;
  /** A stream whose STE is not cached has that of a neighbour that is, and whose CONT says that it is the same. */
  usesNeighbours = false;
  /** Cached STEs that CONT says are alike, and are not, are F_CFG_CONFLICT. */
  findsConflicts = false;
  readonly streams: StructureCache;
  readonly streamTables: StructureCache;
  readonly contexts: StructureCache;
  readonly contextTables: StructureCache;
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #tlbs: Tlbs;
  readonly #fetches: Stage2;
  readonly #fault: Fault;
  readonly #words = new Uint32Array(16);
  /** Formats made so far, by granule, output size and DS. */
  readonly #formats: PageTableFormat[] = [];

  /** @param fetches stage 2 for CD tables @param entries of each cache of structures */
  constructor(memory: PhysicalMemory, caps: Capabilities, tlbs: Tlbs, fetches: Stage2, fault: Fault, entries: number) {
    this.#memory = memory;
    this.#caps = caps;
    this.#tlbs = tlbs;
    this.#fetches = fetches;
    this.#fault = fault;
    this.streams = new StructureCache(entries, 16);
    this.streamTables = new StructureCache(entries, 2);
    this.contexts = new StructureCache(entries, 16);
    this.contextTables = new StructureCache(entries, 2);
  }

  /** Fills `out`; false with the fault filled. What stage 2 says in `out` is right even then, for its A, R and S. */
  read(stream: number, substream: number, out: Configuration): boolean {
    out.stream = stream;
    out.substream = substream;
    const f = this.#stream(stream, out);
    if (f === undefined) return false;
    if (f.Config < SteConfig.BYPASS) {
      out.action = Action.ABORT;
      return true;
    }
    const refused = this.#substreamError(f, substream);
    if (refused !== 0) return this.#fault.structure(refused);
    const bypasses = substream === NO_PASID && substreamBits(f, this.#caps) > 0 && f.S1DSS === S1dss.BYPASS;
    if (!hasStage1(f) || bypasses) return this.#withoutStage1(f, out);
    if (hasStage2(f)) this.#stage2(f, out);
    const index = substream === NO_PASID ? 0 : substream;
    const cd = this.#contextDescriptor(stream, index, f, out);
    if (cd === undefined) return false;
    out.action = Action.TRANSLATE;
    this.context = cd;
    this.#stage1(f, cd, out);
    if (!this.fixesStartTables || !out.stage2 || this.#fixStartTables(out)) return true;
    this.contexts.remove((s, i) => s === stream && i === index);
    return false;
  }

  #fixStartTables(c: Configuration): boolean {
    for (const half of c.halves) {
      if (!half.enabled) continue;
      half.fixedRoot = this.#fetches.fetchAddress(c, half.root, FaultClass.TT);
      if (half.fixedRoot === -1) return false;
    }
    return true;
  }

  /** The STE alone, and its stage 2: for traffic that is translated already. */
  readStream(stream: number, substream: number, out: Configuration): boolean {
    const f = this.#stream(stream, out);
    if (f === undefined) return false;
    out.substreamError = this.#substreamError(f, substream);
    if (hasStage2(f)) this.#stage2(f, out);
    return true;
  }

  /** The event that a SubstreamID, or its absence, is refused with (5.2 S1DSS, 7.3.9); 0 for none. */
  #substreamError(f: Fields, substream: number): number {
    const bits = hasStage1(f) ? substreamBits(f, this.#caps) : 0;
    if (substream === NO_PASID) return bits === 0 || f.S1DSS === S1dss.BYPASS || f.S1DSS === S1dss.SUBSTREAM0 ? 0 : Event.F_STREAM_DISABLED;
    if (bits === 0 || substream >= 2 ** bits) return Event.C_BAD_SUBSTREAMID;
    return substream === 0 && f.S1DSS === S1dss.SUBSTREAM0 ? Event.F_STREAM_DISABLED : 0;
  }

  #stream(stream: number, out: Configuration): Fields | undefined {
    out.config = -1;
    out.stage1 = false;
    out.stage2 = false;
    out.needed = 0;
    out.mergesEvents = false;
    const f = this.#streamTableEntry(stream);
    this.stream = f;
    this.context = undefined;
    if (f === undefined) return undefined;
    out.config = f.Config;
    out.eats = effectiveEats(f, this.#caps, this.table.atsCheck);
    out.mergesEvents = f.MEV === 1;
    out.pasidInResponse = f.PPAR === 1;
    this.#overrides(f, out);
    return f;
  }

  // Stream table (3.3.1, 3.3.2)

  #streamTableEntry(stream: number): Fields | undefined {
    const words = this.#words;
    if (!this.streams.load(stream, 0, words)) {
      const address = this.#streamAddress(stream);
      if (address === -1) return undefined;
      if (!(this.usesNeighbours && this.#borrow(stream)) && !this.#fetch(address, 16)) return this.#refuse(Event.F_STE_FETCH, address);
    }
    const f = readFields(STE, words);
    const world = streamWorld(f, this.#caps, this.table.e2h);
    const legal = f.V === 1 && (f.Config < SteConfig.BYPASS || !STE_RULES.some((rule) => rule.when({ f, caps: this.#caps, world })));
    if (!legal) return this.#refuse(Event.C_BAD_STE);
    if (this.findsConflicts && this.#conflicts(stream)) return this.#refuse(Event.F_CFG_CONFLICT);
    this.streams.store(stream, 0, words);
    return f;
  }

  /** A cached neighbour whose CONT says that this stream's STE is the same, and it is not (5.2). */
  #conflicts(stream: number): boolean {
    const words = this.#words;
    return this.streams.some((other, theirs) => covers(other, theirs, stream) && theirs.some((word, i) => word !== words[i]));
  }

  /** The words of a cached neighbour whose CONT says that this stream's STE is the same. */
  #borrow(stream: number): boolean {
    return this.streams.some((other, theirs) => {
      if (!covers(other, theirs, stream)) return false;
      this.#words.set(theirs);
      return true;
    });
  }

  /** Where the STE lies; -1 with the fault filled. */
  #streamAddress(stream: number): number {
    const { base, log2Size, split, twoLevel } = this.table;
    if (stream >= 2 ** Math.min(log2Size, this.#caps.sidBits)) return this.#badStream();
    if (!twoLevel) return base + stream * 64;
    const index = Math.floor(stream / 2 ** split);
    const words = this.#words;
    if (!this.streamTables.load(index, 0, words)) {
      const address = base + index * 8;
      if (!this.#fetch(address, 2)) {
        this.#fault.structure(Event.F_STE_FETCH, address);
        return -1;
      }
    }
    const { Span: span, L2Ptr: pointer } = readFields(L1_STREAM_DESCRIPTOR, words);
    if (span === 0 || span > 11 || span > split + 1) return this.#badStream();
    this.streamTables.store(index, 0, words);
    const below = stream % 2 ** split;
    if (below >= 2 ** (span - 1)) return this.#badStream();
    const bytes = 64 * 2 ** (span - 1);
    return pointer - (pointer % bytes) + below * 64;
  }

  #badStream(): -1 {
    this.#fault.structure(Event.C_BAD_STREAMID);
    return -1;
  }

  // CD table (3.3.3, 5.3)

  #contextDescriptor(stream: number, index: number, f: Fields, c: Configuration): Fields | undefined {
    const words = this.#words;
    if (!this.contexts.load(stream, index, words)) {
      const address = this.#contextAddress(stream, index, f, c);
      if (address === -1) return undefined;
      const physical = c.stage2 ? this.#fetches.fetchAddress(c, address, FaultClass.CD) : address;
      if (physical === -1) return undefined;
      if (!this.#fetch(physical, 16)) return this.#refuse(Event.F_CD_FETCH, physical);
    }
    const cd = readFields(CD, words);
    const world = streamWorld(f, this.#caps, this.table.e2h);
    if (cd.V === 0 || CD_RULES.some((rule) => rule.when({ f: cd, ste: f, caps: this.#caps, world }))) return this.#refuse(Event.C_BAD_CD);
    this.contexts.store(stream, index, words);
    return cd;
  }

  /** Where the CD lies, for stage 2 or in memory; -1 with the fault filled. */
  #contextAddress(stream: number, index: number, f: Fields, c: Configuration): number {
    const bits = substreamBits(f, this.#caps);
    const leafBits = bits === 0 ? 0 : [0, 6, 10, 0][f.S1Fmt];
    const tableBytes = leafBits === 0 ? 64 * 2 ** bits : Math.max(64, 8 * 2 ** (bits - leafBits));
    const table = f.S1ContextPtr - (f.S1ContextPtr % tableBytes);
    if (leafBits === 0) return table + index * 64;
    const upper = Math.floor(index / 2 ** leafBits);
    const words = this.#words;
    const key = upper * 2 + (leafBits === 10 ? 1 : 0);
    if (!this.contextTables.load(stream, key, words)) {
      const address = table + upper * 8;
      const physical = c.stage2 ? this.#fetches.fetchAddress(c, address, FaultClass.CD) : address;
      if (physical === -1) return -1;
      if (!this.#fetch(physical, 2)) {
        this.#fault.structure(Event.F_CD_FETCH, physical);
        return -1;
      }
    }
    const { V: valid, L2Ptr: pointer } = readFields(L1_CONTEXT_DESCRIPTOR, words);
    if (valid === 0 || pointer >= 2 ** (c.stage2 ? this.#caps.ias : this.#caps.oas)) {
      this.#fault.structure(Event.C_BAD_SUBSTREAMID);
      return -1;
    }
    this.contextTables.store(stream, key, words);
    const leafBytes = 64 * 2 ** leafBits;
    return pointer - (pointer % leafBytes) + (index % 2 ** leafBits) * 64;
  }

  // What the structures say

  #overrides(f: Fields, out: Configuration): void {
    out.needed = overrideRow(f, this.#caps) * 16;
  }

  /** Stage 1 is off, or S1DSS takes this transaction past it. */
  #withoutStage1(f: Fields, out: Configuration): boolean {
    out.skipsStage1 = f.Config !== SteConfig.BYPASS;
    out.world = World.EL1;
    out.action = hasStage2(f) ? Action.TRANSLATE : Action.BYPASS;
    out.plain = hasStage2(f);
    if (!hasStage2(f)) return true;
    this.#stage2(f, out);
    out.tlb = this.#tlbs.intermediate;
    Object.assign(out, intermediateTags(out.vmid));
    return true;
  }

  #stage2(f: Fields, out: Configuration): void {
    const ds = this.#caps.ds && f.S2DS === 1;
    const level = stage2TopLevel(f, this.#caps) ?? 0;
    const shift = GRANULE_SHIFTS[f.S2TG];
    const tableShift = shift + (level + 1) * (shift - 3);
    out.stage2 = true;
    out.vmid = f.S2VMID;
    out.s2Format = this.#format(f.S2TG, outputBits(f.S2PS, this.#caps), ds);
    out.s2TopLevel = level;
    out.s2Granule = f.S2TG;
    out.s2Pages = 2 ** (64 - f.S2T0SZ - 12);
    out.s2TableSpan = 2 ** (tableShift - 12);
    out.s2TableBytes = 2 ** shift;
    out.s2Root = alignedRoot(f.S2TTB, 64 - f.S2T0SZ, shift, level, outputBits(f.S2PS, this.#caps));
    out.s2BigEndian = f.S2ENDI === 1;
    out.s2AccessFlagIgnored = f.S2AFFD === 1;
    out.s2UpdatesAccess = f.S2HA === 1;
    out.s2UpdatesDirty = f.S2HA === 1 && f.S2HD === 1;
    out.s2UpdatesTables = f.S2HAFT === 1 && this.#caps.httu === 3;
    out.s2ProtectsWalks = f.S2PTW === 1;
    out.s2ForceWriteBack = f.S2FWB === 1 && this.#caps.forceWriteBack;
    out.s2Records = f.S2R === 1;
    out.s2Stalls = f.S2S === 1;
  }

  #stage1(f: Fields, cd: Fields, out: Configuration): void {
    const caps = this.#caps;
    const world = streamWorld(f, caps, this.table.e2h);
    const enabled = enabledHalves(cd, world);
    out.stage1 = true;
    out.skipsStage1 = false;
    out.world = world;
    out.bigEndian = cd.ENDI === 1;
    const ips = outputBits(cd.IPS, caps);
    const ds = caps.ds && cd.DS === 1;
    const flat = caps.hierarchicalDisable;
    this.#half(out.halves[0], enabled[0], cd.T0SZ, cd.TG0, cd.TTB0, ips, ds);
    this.#half(out.halves[1], enabled[1], cd.T1SZ, TG1_AS_TG0[cd.TG1], cd.TTB1, ips, ds);
    const [lower, upper] = out.halves;
    lower.topByteIgnored = cd.TBI0 === 1;
    upper.topByteIgnored = cd.TBI1 === 1;
    lower.flat = flat && cd.HAD0 === 1;
    upper.flat = flat && cd.HAD1 === 1;
    const twoPrivileges = world !== World.EL2;
    lower.privilegedOnly = caps.e0pd && twoPrivileges && cd.E0PD0 === 1;
    upper.privilegedOnly = caps.e0pd && twoPrivileges && cd.E0PD1 === 1;
    out.plain = !lower.topByteIgnored && !upper.topByteIgnored && !lower.privilegedOnly && !upper.privilegedOnly;
    out.writeNever = cd.WXN === 1;
    out.privilegedNever = twoPrivileges && cd.PAN === 1;
    out.privilegedNeverExecutable = caps.enhancedPan && cd.EPAN === 1;
    out.accessFlagIgnored = cd.AFFD === 1;
    out.updatesAccess = cd.HA === 1;
    out.updatesDirty = cd.HA === 1 && cd.HD === 1;
    out.updatesTables = cd.HAFT === 1 && caps.httu === 3;
    out.aborts = cd.A === 1;
    out.records = cd.R === 1;
    out.stalls = cd.S === 1;
    // VMIDs tag the EL1 regime whenever the unit has stage 2, ASIDs every regime but EL2 (3.3.4, 3.17).
    const vmid = world === World.EL1 && caps.stage2 ? f.S2VMID : 0;
    out.vmid = vmid;
    out.tlb = this.#tlbs.input;
    Object.assign(out, inputTags(world, vmid, twoPrivileges ? cd.ASID : 0, cd.ASET));
  }

  #half(half: Half, enabled: boolean, size: number, granule: number, base: number, ips: number, ds: boolean): void {
    half.enabled = enabled;
    half.fixedRoot = -1;
    if (!enabled) return;
    const bits = 64 - size;
    half.granule = granule;
    half.pages = 2 ** (bits - 12);
    half.topLevel = stage1TopLevel(granule, bits);
    half.format = this.#format(granule, ips, ds);
    half.root = alignedRoot(base, bits, GRANULE_SHIFTS[granule], half.topLevel, ips);
  }

  #format(granule: number, bits: number, ds: boolean): PageTableFormat {
    const wide = this.#caps.oas >= 52;
    const narrow = ds && granule !== 1;
    const key = (granule * 64 + bits) * 2 + (narrow ? 1 : 0);
    this.#formats[key] ??= vmsaFormat({ granule, outputBits: bits, ds: narrow, wide });
    return this.#formats[key];
  }

  #fetch(address: number, words: number): boolean {
    for (let i = 0; i < words; i += 2) {
      if (!this.#memory.load64(address + i * 4)) return false;
      this.#words[i] = this.#memory.lo;
      this.#words[i + 1] = this.#memory.hi;
    }
    return true;
  }

  #refuse(type: number, fetch = 0): undefined {
    this.#fault.structure(type, fetch);
    return undefined;
  }
}

/** STE.CONT of `owner` (5.2): 2^CONT streams, aligned, have the same STE. */
function covers(owner: number, words: Uint32Array, stream: number): boolean {
  const block = 2 ** readBits(words, CONT.low, CONT.width);
  return Math.floor(owner / block) === Math.floor(stream / block);
}

/** PRIVCFG and INSTCFG of an STE or of GBPA as a row of `NEEDED`. */
export function overrideRow(f: Fields, caps: Capabilities): number {
  return caps.permissionOverride ? Math.max(f.PRIVCFG - 1, 0) * 3 + Math.max(f.INSTCFG - 1, 0) : 0;
}

/** A start table is aligned to its size, concatenated ones to that of all; to 64 bytes where addresses have 52 bits (D8.2). */
function alignedRoot(base: number, inputBits: number, granuleShift: number, level: number, bits: number): number {
  const entries = 2 ** (inputBits - granuleShift - level * (granuleShift - 3));
  const bytes = Math.max(entries * 8, bits > 48 ? 64 : 8);
  return base - (base % bytes);
}
