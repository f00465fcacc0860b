/** A paging domain: one first-stage or second-stage table (VT-d 9.7, 9.8), kept equal to an IOAS. */
import {
  type DirtyTracking,
  type DomainParts,
  type FieldValues,
  type FrameAllocator,
  pageSizesOf,
  PageTable,
  type PageTableFormat,
  type PagingDomain,
  Prot,
  refuse,
  tableListener,
  type TableWords,
} from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pgtt } from "../spec/entries.js";
import { entryName, FirstStage, firstStageFormat, SecondStage, secondStageFormat } from "../spec/formats.js";
import { SecondStageDirty } from "./dirty.js";
import { type DomainUse, type UnitSide, VtdDomain } from "./domain.js";
import type { NestedVtdDomain } from "./nested-domain.js";
import { coveringBlock } from "./page-block.js";

export interface PagingKind {
  readonly firstStage: boolean;
  /** Guests' first stages may lie on top of it. */
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
}

export class PagingVtdDomain extends VtdDomain implements PagingDomain {
  readonly kind: PagingKind;
  readonly table: PageTable;
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  readonly pageSizes: bigint;
  readonly enforcesCoherency: boolean;
  readonly dirty?: DirtyTracking;
  /** Guests' first stages on top of it. */
  readonly nested: Set<NestedVtdDomain> = new Set<NestedVtdDomain>();
  /** SSADE of the entries that use it: A and D flags are set. */
  tracksDirty = false;
  readonly #frames: FrameAllocator;

  /** @param unit that it is made for; others may use it if they can do the same */
  constructor(parts: DomainParts, unit: UnitSide, kind: PagingKind) {
    super();
    const { caps } = unit;
    this.kind = kind;
    this.#frames = parts.frames;
    const shape = kind.firstStage ? firstStageShape(caps) : secondStageShape(caps);
    this.table = new PageTable(parts.memory, parts.frames, shape.format, shape.topLevel, tableListener(parts.tracer, unit.name, tableWords(kind.firstStage)));
    this.aperture = { start: 0n, last: (1n << BigInt(shape.addressBits)) - 1n };
    this.pageSizes = pageSizesOf(shape.format);
    this.enforcesCoherency = caps.snoopControl;
    if (kind.dirtyTracking) this.dirty = new SecondStageDirty(this, parts.memory);
  }

  get byPasid(): boolean {
    return this.kind.firstStage;
  }

  check({ name, caps }: UnitSide): void {
    const lacks = (this.kind.firstStage ? this.#firstStageLack(caps) : this.#secondStageLack(caps)) ?? this.#lack(caps);
    if (lacks !== undefined) refuse("EINVAL", `${name} cannot use this page table: it has no ${lacks}`, { argument: "pt_id" });
  }

  #lack(caps: Capabilities): string | undefined {
    if (this.aperture.last >= 1n << BigInt(caps.mgaw)) return `guest addresses of so many bits (CAP.MGAW=${caps.mgaw - 1})`;
    if (this.enforcesCoherency && !caps.snoopControl) return "snoop control (ECAP.SC=0)";
    return undefined;
  }

  #firstStageLack(caps: Capabilities): string | undefined {
    if (!caps.scalableMode || !caps.firstStage) return "first stage (ECAP.FSTS=0)";
    if (this.table.topLevel === 4 && !caps.firstStage5Level) return "5-level first stage (CAP.FS5LP=0)";
    if ((this.pageSizes & (1n << 30n)) !== 0n && !caps.firstStage1G) return "1 GiB pages (CAP.FS1GP=0)";
    return undefined;
  }

  #secondStageLack(caps: Capabilities): string | undefined {
    if (caps.scalableMode && !caps.secondStage) return "second stage (ECAP.SSTS=0)";
    if (((caps.sagaw >> (this.table.topLevel - 1)) & 1) === 0) return `${this.table.topLevel + 1}-level second stage (CAP.SAGAW)`;
    if ((pageSizesOf(secondStageFormat(caps)) & this.pageSizes) !== this.pageSizes) return "pages so large (CAP.SSLPS)";
    if (this.kind.dirtyTracking && !tracksDirty(caps)) return "dirty flags in the second stage (ECAP.SSADS=0)";
    if (this.kind.nestParent && !nests(caps)) return "nested translation (ECAP.NEST=0)";
    return undefined;
  }

  entryFields({ id, unit: { caps } }: DomainUse): FieldValues {
    const root = BigInt(this.table.root / 4096);
    const level = BigInt(this.table.topLevel);
    if (!caps.scalableMode) return { DID: BigInt(id), SSPTPTR: root, AW: level - 1n };
    const common = { DID: BigInt(id), ...walkFields(caps) };
    return this.kind.firstStage
      ? { ...common, PGTT: BigInt(Pgtt.FIRST_STAGE), FSPM: level - 3n, FSPTPTR: root }
      : { ...common, PGTT: BigInt(Pgtt.SECOND_STAGE), ...this.secondStageFields() };
  }

  /** FieldValues of an entry whose second stage it is. */
  secondStageFields(): FieldValues {
    return { AW: BigInt(this.table.topLevel - 1), SSPTPTR: BigInt(this.table.root / 4096), SSADE: this.tracksDirty ? 1n : 0n };
  }

  /** A unit without caching mode holds nothing that was absent, and never a first-stage fault (6.1): then mapping needs no invalidation. */
  map(iova: bigint, pa: number, length: number, prot: number): void {
    const page = Number(iova >> 12n);
    this.table.map(page, pa / 4096, length / 4096, this.#leafBits(prot));
    for (const { unit } of this.uses.values()) unit.flushWriteBuffer();
    if (!this.kind.firstStage) this.#flushWhere((unit) => unit.caps.cachingMode, page, length / 4096, false);
  }

  /**
   * First stage: write permission brings read; A and D are set already, so that no walk has to. A nest parent is always writable: some
   * parts set flags of a guest's tables through read-only mappings (erratum 772415).
   */
  #leafBits(prot: number): number {
    const write = (prot & Prot.WRITE) !== 0 || this.kind.nestParent;
    if (this.kind.firstStage) return FirstStage.P | FirstStage.US | FirstStage.A | FirstStage.D | (write ? FirstStage.RW : 0);
    const rights = ((prot & Prot.READ) !== 0 ? SecondStage.R : 0) | (write ? SecondStage.W : 0);
    return this.enforcesCoherency ? rights | SecondStage.SNP : rights;
  }

  /** Tables first, then the caches, then the freed tables: in that order no walk meets a reused frame. */
  unmap(iova: bigint, length: number): void {
    const page = Number(iova >> 12n);
    const { removed, freed } = this.table.unmap(page, length / 4096);
    if (removed > 0) this.flush(page, length / 4096, freed.length === 0);
    for (const frame of freed) this.#frames.free(frame);
  }

  /**
   * Removes a range from every cache that may hold a part of it, those of guests' first stages included.
   * @param leavesOnly no table has gone: what caches know of tables may stay (IH)
   */
  flush(page: number, count: number, leavesOnly: boolean): void {
    this.#flushWhere(() => true, page, count, leavesOnly);
  }

  #flushWhere(wanted: (unit: UnitSide) => boolean, page: number, count: number, leavesOnly: boolean): void {
    const block = coveringBlock(page, count);
    const nested = [...this.nested].flatMap((domain) => [...domain.uses.values()]);
    const units = new Set([...this.uses.values(), ...nested].map((use) => use.unit));
    for (const unit of units) {
      if (!wanted(unit)) continue;
      const own = this.uses.get(unit);
      const guests = nested.filter((use) => use.unit === unit);
      // PSI and MAMV bound the descriptors of the second stage only.
      const selective = block && unit.caps.pageSelective && block.mask <= unit.caps.maxAddressMask ? block : undefined;
      if (own && this.kind.firstStage) for (const pasid of own.pasids.keys()) unit.queue.pasidIotlb(own.id, pasid, block, leavesOnly);
      else if (own) unit.queue.iotlb(own.id, selective, leavesOnly);
      for (const guest of guests) unit.queue.iotlb(guest.id, selective, leavesOnly);
      own?.flushDeviceTlbs(block);
      // What a guest's device-TLB holds are the guest's addresses: any may have come through the range.
      for (const guest of guests) guest.flushDeviceTlbs();
      unit.queue.sync();
    }
  }

  iovaToPa(iova: bigint): number | undefined {
    const page = this.table.lookup(Number(iova >> 12n));
    return page === -1 ? undefined : page * 4096 + Number(iova & 0xfffn);
  }

  free(): void {
    this.table.free();
  }
}

/** Dirty flags of a second stage can be turned on. */
export function tracksDirty(caps: Capabilities): boolean {
  return caps.scalableMode && caps.secondStage && caps.secondStageDirty;
}

export function nests(caps: Capabilities): boolean {
  return caps.scalableMode && caps.nesting;
}

/** How walks of a scalable-mode entry behave (9.6): snooped where the unit can, pages snooped where it can be enforced. */
export function walkFields(caps: Capabilities): FieldValues {
  return { PWSNP: caps.walkCoherency ? 1n : 0n, PGSNP: caps.snoopControl ? 1n : 0n };
}

interface Shape {
  readonly format: PageTableFormat;
  readonly topLevel: number;
  readonly addressBits: number;
}

/** As many levels as the unit has. A first-stage address is canonical: the upper half is left out (3.6). */
function firstStageShape(caps: Capabilities): Shape {
  const topLevel = caps.firstStage5Level ? 4 : 3;
  return { format: firstStageFormat(caps), topLevel, addressBits: Math.min(caps.mgaw, 9 * topLevel + 20) };
}

/** The fewest levels that reach MGAW; less when the unit has no table so large. */
function secondStageShape(caps: Capabilities): Shape {
  const widths = [1, 2, 3].filter((width) => (caps.sagaw >> width) & 1);
  const width = widths.find((candidate) => 30 + 9 * candidate >= caps.mgaw) ?? widths.at(-1) ?? 2;
  return { format: secondStageFormat(caps), topLevel: width + 1, addressBits: Math.min(caps.mgaw, 30 + 9 * width) };
}

function tableWords(firstStage: boolean): TableWords {
  return { structure: (level) => entryName(firstStage, level), input: "IOVA", absent: "not present", addressMask: 0x000f_ffff_ffff_f000n };
}
