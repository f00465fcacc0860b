/** A paging domain: one stage-1 table under an ASID, or one stage-2 table under a VMID, kept equal to an IOAS. */
import { type DirtyTracking, type DomainParts, type FieldValues, type FrameAllocator, pageSizesOf, PageTable, type PagingDomain, Prot, refuse, tableListener, type TableWords } from "@iommukit/core";
import { Op } from "../spec/commands.js";
import { ADDRESS_SIZES, type Capabilities } from "../spec/identification.js";
import { SteConfig, S1dss } from "../spec/stream-table.js";
import { Hi, LAST_LEVEL, Lo } from "../spec/tables.js";
import { Stage1Dirty } from "./dirty.js";
import { type DeviceRecord, SmmuDomain, type UnitSide } from "./domain.js";
import { invalidateDevices, invalidateRange } from "./invalidation.js";
import type { NestedSmmuDomain } from "./nested-domain.js";
import { stage1Shape, stage2Shape, startLevelFields, type TableShape } from "./table-shape.js";

export interface PagingKind {
  readonly stage1: boolean;
  /** Guests' stage-1 tables may lie on top of it. */
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
}

/** Inner shareable, write-back, read and write allocate: of table walks (SH, OR, IR). */
const WALK = { shareable: 3n, cacheable: 1n } as const;
/** MAIR: non-cacheable, write-back, device, and inner write-back with outer non-cacheable; leaves use the second (AttrIndx=1). */
const MAIR0 = 0xf404_ff44n;
const WRITE_BACK = 1 << 2;
/** MemAttr of stage 2: write-back. */
const STAGE2_WRITE_BACK = 0xf << 2;
const INNER_SHAREABLE = 3 << 8;

export class PagingSmmuDomain extends SmmuDomain implements PagingDomain {
  readonly kind: PagingKind;
  readonly table: PageTable;
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  readonly pageSizes: bigint;
  readonly enforcesCoherency: boolean = true;
  readonly dirty?: DirtyTracking;
  override readonly contextFields?: () => FieldValues;
  readonly nested: Set<NestedSmmuDomain> = new Set<NestedSmmuDomain>();
  /** ASID of stage 1, VMID of stage 2. */
  readonly id: number;
  /** HD of the descriptors that use it: a write sets the dirty state. */
  tracksDirty = false;
  readonly #shape: TableShape;
  readonly #frames: FrameAllocator;

  constructor(parts: DomainParts, unit: UnitSide, kind: PagingKind) {
    super(unit);
    const { caps } = unit;
    this.kind = kind;
    this.#frames = parts.frames;
    this.#shape = kind.stage1 ? stage1Shape(caps, unit.granule) : stage2Shape(caps, unit.granule);
    const { format, topLevel, startTables, inputBits } = this.#shape;
    this.table = new PageTable(parts.memory, parts.frames, format, topLevel, tableListener(parts.tracer, unit.name, tableWords(kind.stage1)), startTables);
    this.pageSizes = pageSizesOf(format);
    this.aperture = { start: 0n, last: (1n << BigInt(inputBits)) - 1n };
    this.id = (kind.stage1 ? unit.asids : unit.vmids).take();
    if (kind.stage1) this.contextFields = () => this.#contextFields();
    if (kind.dirtyTracking) this.dirty = new Stage1Dirty(this, parts.memory);
  }

  override check(record: DeviceRecord, pasid: number): void {
    const bad = (why: string): never => refuse("EINVAL", why, { argument: "pt_id" });
    if (pasid !== 0 && !this.kind.stage1) bad("a stage-2 page table has no PASIDs: it stands in the stream table entry");
    const others = [...record.attachments.keys()].some((key) => key !== 0);
    if (pasid === 0 && !this.kind.stage1 && others) bad(`${record.device.name} uses PASIDs, which a stage-2 page table leaves no room for`);
    const own = record.attachments.get(0);
    if (pasid !== 0 && own && !(own instanceof PagingSmmuDomain && own.kind.stage1)) bad(`${record.device.name} itself does not use a stage-1 page table`);
  }

  streamFields(record: DeviceRecord): FieldValues {
    if (!this.kind.stage1) return { Config: BigInt(SteConfig.STAGE2), ...this.stage2Fields() };
    return {
      Config: BigInt(SteConfig.STAGE1),
      ...record.contexts?.steFields,
      S1DSS: BigInt(S1dss.SUBSTREAM0),
      S1CIR: WALK.cacheable,
      S1COR: WALK.cacheable,
      S1CSH: WALK.shareable,
    };
  }

  /** Of an entry whose second stage it is. */
  stage2Fields(): FieldValues {
    const shape = this.#shape;
    return {
      S2VMID: BigInt(this.id),
      S2T0SZ: BigInt(64 - shape.inputBits),
      S2TG: BigInt(shape.granule),
      S2DS: shape.ds ? 1n : 0n,
      ...startLevelFields(this.unit.caps, shape),
      S2IR0: WALK.cacheable,
      S2OR0: WALK.cacheable,
      S2SH0: WALK.shareable,
      S2PS: BigInt(ADDRESS_SIZES.indexOf(shape.outputBits)),
      S2AA64: 1n,
      S2PTW: 1n,
      S2R: 1n,
      S2TTB: BigInt(this.table.root) >> 4n,
    };
  }

  #contextFields(): FieldValues {
    const shape = this.#shape;
    return {
      T0SZ: BigInt(64 - shape.inputBits),
      TG0: BigInt(shape.granule),
      DS: shape.ds ? 1n : 0n,
      IR0: WALK.cacheable,
      OR0: WALK.cacheable,
      SH0: WALK.shareable,
      EPD1: 1n,
      V: 1n,
      IPS: BigInt(ADDRESS_SIZES.indexOf(shape.outputBits)),
      AA64: 1n,
      HA: this.tracksDirty ? 1n : 0n,
      HD: this.tracksDirty ? 1n : 0n,
      R: 1n,
      A: 1n,
      ASET: 1n,
      ASID: BigInt(this.id),
      TTB0: BigInt(this.table.root) >> 4n,
      MAIR0,
    };
  }

  /** A unit caches nothing that was absent, so a map needs no invalidation (SMMU 3.21.1). */
  map(iova: bigint, pa: number, length: number, prot: number): void {
    const write = (prot & Prot.WRITE) !== 0;
    const [lo, hi] = this.kind.stage1 ? this.#stage1Leaf(write) : [stage2Leaf(prot), 0];
    // With LPA2 a descriptor has address bits where others have SH, which is then that of walks.
    this.table.map(Number(iova >> 12n), pa / 4096, length / 4096, this.#shape.ds ? lo : lo | INNER_SHAREABLE, hi);
  }

  /** A write brings the right to read. With dirty tracking a writable page is clean: read-only until the first write (DDI0487 D8.5). */
  #stage1Leaf(write: boolean): [number, number] {
    const common = WRITE_BACK | Lo.AP1 | Lo.AF | Lo.NG;
    if (!write) return [common | Lo.AP2, 0];
    return this.kind.dirtyTracking ? [common | Lo.AP2, Hi.DBM] : [common, 0];
  }

  /** Tables first, then the caches, then the freed tables: in that order no walk meets a reused frame. */
  unmap(iova: bigint, length: number): void {
    const page = Number(iova >> 12n);
    const { removed, freed } = this.table.unmap(page, length / 4096);
    if (removed > 0) this.flush(page, length / 4096);
    for (const table of freed) this.#frames.free(table, this.table.tableFrames);
  }

  flush(page: number, count: number): void {
    const { unit, id } = this;
    if (this.kind.stage1) {
      if (!invalidateRange(unit, Op.TLBI_NH_VA, { ASID: BigInt(id) }, page, count)) this.flushAll();
    } else if (!invalidateRange(unit, Op.TLBI_S2_IPA, { VMID: BigInt(id) }, page, count)) this.flushAll();
    // A guest's stage 1 may lead from any address of its own to what has changed below.
    if (this.nested.size > 0) unit.queue.add(Op.TLBI_NH_ALL, { VMID: BigInt(id) });
    // The TLBs before the devices, which may ask again at once.
    unit.queue.sync();
    invalidateDevices(this, page, count);
    for (const domain of this.nested) invalidateDevices(domain);
    unit.queue.sync();
  }

  flushAll(): void {
    const { queue } = this.unit;
    if (this.kind.stage1) queue.add(Op.TLBI_NH_ASID, { ASID: BigInt(this.id) });
    else queue.add(Op.TLBI_S12_VMALL, { VMID: BigInt(this.id) });
  }

  iovaToPa(iova: bigint): number | undefined {
    const page = this.table.lookup(Number(iova >> 12n));
    return page === -1 ? undefined : page * 4096 + Number(iova & 0xfffn);
  }

  free(): void {
    // What is cached under the id would else be its next owner's.
    this.flushAll();
    this.unit.queue.sync();
    (this.kind.stage1 ? this.unit.asids : this.unit.vmids).free(this.id);
    this.table.free();
  }
}

function stage2Leaf(prot: number): number {
  const rights = ((prot & Prot.READ) !== 0 ? Lo.S2R : 0) | ((prot & Prot.WRITE) !== 0 ? Lo.S2W : 0);
  return STAGE2_WRITE_BACK | rights | Lo.AF;
}

export function hasStage1(caps: Capabilities): boolean {
  return caps.stage1 && caps.aarch64;
}

export function hasStage2(caps: Capabilities): boolean {
  return caps.stage2 && caps.aarch64;
}

export function nests(caps: Capabilities): boolean {
  return hasStage1(caps) && hasStage2(caps);
}

/** HTTU says how much of the flags the unit keeps itself: 2 and more, the dirty state. */
export function tracksDirty(caps: Capabilities): boolean {
  return hasStage1(caps) && caps.httu >= 2;
}

function tableWords(stage1: boolean): TableWords {
  const kind = (level: number, leaf: boolean): string => (!leaf ? "table" : level === 0 ? "page" : "block");
  return {
    structure: (level, leaf) => `Stage ${stage1 ? 1 : 2} ${kind(level, leaf)} descriptor, level ${LAST_LEVEL - level}`,
    input: stage1 ? "IOVA" : "IPA", absent: "not valid", addressMask: 0x0000_ffff_ffff_f000n,
  };
}
