/**
 * The operating system's side of one unit. It knows the hardware by its registers
 * and by what it writes into memory, nothing else.
 */
import {
  decodeFields,
  type DeviceCapabilities,
  encodeFields,
  type FieldTable,
  type FrameAllocator,
  type HwInfo,
  type IommuDevice,
  type IommuDriver,
  IommuError,
  PageTable,
  type Domain,
  type NestedDomain,
  type PagingDomain,
  type PagingDomainOptions,
  type UserData,
  type PhysicalMemory,
  refuse,
  type ReservedRegion,
  type Tracer,
} from "@iommukit/core";
import { encodeStruct } from "@iommukit/core/abi";
import { type Capabilities, readCapabilities } from "../spec/capabilities.js";
import {
  LEGACY_CONTEXT_ENTRY,
  LEGACY_ROOT_ENTRY,
  PASID_DIRECTORY_ENTRY,
  PASID_TABLE_ENTRY,
  Pgtt,
  SCALABLE_CONTEXT_ENTRY,
  SCALABLE_ROOT_ENTRY,
} from "../spec/entries.js";
import { entryName, firstStageFormat, secondStageFormat } from "../spec/formats.js";
import { Gcmd, Reg } from "../spec/registers.js";
import { VtdDomain } from "./domain.js";
import { CommandQueue } from "./queue.js";
import { RegisterAccess } from "./registers.js";

/** enum iommu_hw_info_type */
const HW_INFO_INTEL_VTD = 1;
/** Linux sets it on every unit (IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17). */
const ERRATA_772415_SPR17 = 1;
/** Domain-ids 0 and 1 stay unused: 0 means "absent" to a unit with caching mode. */
const FIRST_DOMAIN = 2;
const NO_RANGE = undefined;

export interface VtdDriverOptions {
  readonly name: string;
  readonly memory: PhysicalMemory;
  readonly frames: FrameAllocator;
  readonly registerBase: number;
  /** Host address width: firmware says it in the DMAR table. */
  readonly haw: number;
  readonly tracer?: Tracer;
}

/** A device's tables. */
interface DeviceTables {
  /** Physical address of its context entry. */
  readonly context: number;
  /** PASID directory and its bytes; 0 in legacy mode. */
  readonly directory: number;
  readonly directoryFrames: number;
  readonly domains: Map<number, VtdDomain>;
}

export class VtdDriver implements IommuDriver {
  readonly name: string;
  readonly #memory: PhysicalMemory;
  readonly #frames: FrameAllocator;
  readonly #tracer: Tracer | undefined;
  readonly #caps: Capabilities;
  readonly #queue: CommandQueue;
  readonly #root: number;
  readonly #devices = new Map<number, DeviceTables>();
  readonly #domainIds = new Set<number>();

  /** Probes the unit, gives it empty tables and turns translation on: from then on every DMA is blocked. */
  constructor(options: VtdDriverOptions) {
    this.name = options.name;
    this.#memory = options.memory;
    this.#frames = options.frames;
    this.#tracer = options.tracer;
    const registers = new RegisterAccess(options.memory, options.registerBase, options.name, options.tracer);
    const version = Number(registers.read(Reg.VER, 4));
    this.#caps = readCapabilities(version, registers.read(Reg.CAP, 8), registers.read(Reg.ECAP, 8), options.haw);
    if (!this.#caps.queuedInvalidation) refuse("ENODEV", `${this.name} has no queued invalidation (ECAP.QI=0), which this driver needs`);
    this.#root = this.#frames.alloc();
    registers.write(Reg.RTADDR, 8, BigInt(this.#root) | (this.#caps.scalableMode ? 0x400n : 0n));
    registers.command(Gcmd.SRTP);
    this.#queue = new CommandQueue(this.#memory, this.#frames, registers, this.#caps.scalableMode);
    registers.command(Gcmd.TE);
  }

  // Device tables ------------------------------------------------------------------------------------------------

  addDevice(device: IommuDevice): void {
    const scalable = this.#caps.scalableMode;
    const entry = this.#contextEntry(device.rid);
    let directory = 0;
    let directoryFrames = 0;
    if (scalable) {
      const size = Math.max(0, this.#pasidBits(device) - 13);
      directoryFrames = Math.max(1, 2 ** (size + 10 - 12));
      directory = this.#frames.alloc(directoryFrames);
      const pasid = this.#pasidBits(device) > 0 ? 1n : 0n;
      this.#write(SCALABLE_CONTEXT_ENTRY, entry, { P: 1n, PASIDE: pasid, PDTS: BigInt(size), PASIDDIRPTR: BigInt(directory / 4096) });
    }
    this.#devices.set(device.rid, { context: entry, directory, directoryFrames, domains: new Map() });
  }

  removeDevice(device: IommuDevice): void {
    const tables = this.#tables(device);
    for (const pasid of [...tables.domains.keys()]) this.detach(device, pasid);
    this.#clear(this.#caps.scalableMode ? SCALABLE_CONTEXT_ENTRY : LEGACY_CONTEXT_ENTRY, tables.context);
    this.#queue.contextDevice(device.rid, 0);
    for (let at = 0; at < tables.directoryFrames * 4096; at += 8) {
      const table = this.#pointer(tables.directory + at);
      if (table !== 0) this.#frames.free(table);
    }
    if (tables.directoryFrames > 0) this.#frames.free(tables.directory, tables.directoryFrames);
    this.#devices.delete(device.rid);
  }

  /** Physical address of a requester's context entry; makes the root entry and context table. */
  #contextEntry(rid: number): number {
    const root = this.#root + (rid >> 8) * 16;
    if (!this.#caps.scalableMode) {
      const table = this.#pointer(root) || this.#newTable(LEGACY_ROOT_ENTRY, root, { P: 1n }, "CTP");
      return table + (rid & 0xff) * 16;
    }
    const upper = (rid & 0x80) !== 0;
    const half = root + (upper ? 8 : 0);
    const present = this.#pointer(half);
    if (present !== 0) return present + (rid & 0x7f) * 32;
    const table = this.#frames.alloc();
    // The other half may be in use already: only this half's word is written.
    this.#memory.writeU64(half, BigInt(table) | 1n);
    this.#traceStructure(SCALABLE_ROOT_ENTRY, root);
    return table + (rid & 0x7f) * 32;
  }

  #newTable(table: FieldTable, pa: number, fields: Readonly<Record<string, bigint>>, pointer: string): number {
    const frame = this.#frames.alloc();
    this.#write(table, pa, { ...fields, [pointer]: BigInt(frame / 4096) });
    return frame;
  }

  /** Bits 63:12 of a present entry's first word; 0 for an absent one. */
  #pointer(pa: number): number {
    const word = this.#memory.readU64(pa) ?? 0n;
    return (word & 1n) === 0n ? 0 : Number(word >> 12n) * 4096;
  }

  /** Physical address of a PASID table entry; makes the directory entry and table. */
  #pasidEntry(tables: DeviceTables, pasid: number): number {
    const directory = tables.directory + (pasid >>> 6) * 8;
    const table = this.#pointer(directory) || this.#newTable(PASID_DIRECTORY_ENTRY, directory, { P: 1n }, "SMPTBLPTR");
    return table + (pasid & 63) * 64;
  }

  #tables(device: IommuDevice): DeviceTables {
    return this.#devices.get(device.rid) ?? refuse("ENODEV", `${device.name} is not behind ${this.name}`);
  }

  // What a device can do -----------------------------------------------------------------------------------------

  #pasidBits(device: IommuDevice): number {
    return this.#caps.scalableMode && this.#caps.pasid ? Math.min(device.pasidBits, this.#caps.pasidBits) : 0;
  }

  capabilities(device: IommuDevice): DeviceCapabilities {
    const bits = this.#pasidBits(device);
    return { dirtyTracking: false, maxPasidLog2: bits, ats: false, pageRequests: false, ...(bits > 0 ? { pasidLimit: 2 ** bits } : {}) };
  }

  /** Writes there are interrupts and never reach a table (VT-d 3.14). */
  reservedRegions(): readonly ReservedRegion[] {
    return [{ start: 0xfee0_0000n, last: 0xfeef_ffffn, kind: "msi" }];
  }

  hwInfo(_device: IommuDevice, type: number): HwInfo {
    if (type !== 0 && type !== HW_INFO_INTEL_VTD) refuse("EOPNOTSUPP", `in_data_type ${type} is not that of ${this.name}`, { argument: "in_data_type" });
    const { cap, ecap } = this.#caps;
    return { type: HW_INFO_INTEL_VTD, data: encodeStruct("iommu_hw_info_vtd", { flags: ERRATA_772415_SPR17, cap_reg: cap, ecap_reg: ecap }) };
  }

  // Domains ------------------------------------------------------------------------------------------------------

  allocPaging(_device: IommuDevice, options: PagingDomainOptions, data?: UserData): PagingDomain {
    if (data) refuse("EOPNOTSUPP", "a page table of an IOAS takes no vendor data", { argument: "data_type" });
    if (options.nestParent) refuse("EOPNOTSUPP", `${this.name} has no nested translation (ECAP.NEST=0)`, { argument: "flags" });
    if (options.dirtyTracking) refuse("EOPNOTSUPP", `${this.name} does not track dirty pages here`, { argument: "flags" });
    const firstStage = this.#caps.scalableMode && this.#caps.firstStage;
    const id = this.#takeDomainId();
    // First stage: 4 levels; second stage: the largest width up to 4 levels, as SAGAW says.
    const width = [2, 1, 3].find((candidate) => (this.#caps.sagaw >> candidate) & 1) ?? 2;
    const topLevel = firstStage ? 3 : width + 1;
    const format = firstStage ? firstStageFormat(this.#caps) : secondStageFormat(this.#caps);
    const table = new PageTable(this.#memory, this.#frames, format, topLevel, (level, leaf, pa, value, count, page) =>
      this.#traceEntries(firstStage, level, leaf, pa, value, count, page),
    );
    // A first-stage address is canonical: the upper half of 48 bits is left out.
    const addressBits = firstStage ? 9 * topLevel + 20 : Math.min(this.#caps.mgaw, 12 + 9 * (topLevel + 1));
    return new VtdDomain(id, firstStage, table, addressBits, {
      cachesAbsent: this.#caps.cachingMode,
      maxMask: this.#caps.pageSelective ? this.#caps.maxAddressMask : -1,
      flush: (domain, range) => this.#flush(domain, range),
      freeTables: (tables) => {
        for (const frame of tables) this.#frames.free(frame);
      },
      releaseDomain: (domain) => this.#domainIds.delete(domain.id),
    });
  }

  /** A nest parent needs nested translation too, so there is none that could come here. */
  allocNested(): NestedDomain {
    return refuse("EOPNOTSUPP", `${this.name} has no nested translation (ECAP.NEST=0)`, { argument: "data_type" });
  }

  #takeDomainId(): number {
    let id = FIRST_DOMAIN;
    while (this.#domainIds.has(id)) id++;
    if (id >= 2 ** this.#caps.domainIdBits) refuse("ENOSPC", `${this.name} has no domain-id left of ${2 ** this.#caps.domainIdBits}`);
    this.#domainIds.add(id);
    return id;
  }

  #flush(domain: VtdDomain, range: { readonly page: number; readonly mask: number } | undefined): void {
    if (!domain.firstStage) {
      if (domain.pasids.size > 0) this.#queue.iotlb(domain.id, range);
      return;
    }
    for (const pasid of domain.pasids.keys()) this.#queue.pasidIotlb(domain.id, pasid, range);
  }

  attach(device: IommuDevice, pasid: number, domain: Domain): void {
    if (!(domain instanceof VtdDomain)) throw new IommuError("EINVAL", { message: `the page table was made by another driver than ${this.name}`, argument: "pt_id" });
    const tables = this.#tables(device);
    if (!this.#caps.scalableMode && pasid !== 0) refuse("EOPNOTSUPP", `${this.name} is in legacy mode, without PASIDs`, { argument: "pasid" });
    if (tables.domains.has(pasid)) this.detach(device, pasid);
    if (this.#caps.scalableMode) this.#writePasidEntry(this.#pasidEntry(tables, pasid), domain);
    else this.#writeLegacyEntry(tables.context, domain);
    tables.domains.set(pasid, domain);
    domain.pasids.set(pasid, (domain.pasids.get(pasid) ?? 0) + 1);
    if (this.#caps.cachingMode) this.#invalidateEntry(device, pasid, domain);
  }

  #writePasidEntry(pa: number, domain: VtdDomain): void {
    const root = BigInt(domain.table.root / 4096);
    const common = { P: 1n, DID: BigInt(domain.id), PWSNP: this.#caps.walkCoherency ? 1n : 0n };
    const stage = domain.firstStage
      ? { PGTT: BigInt(Pgtt.FIRST_STAGE), FSPM: BigInt(domain.table.topLevel - 3), FSPTPTR: root }
      : { PGTT: BigInt(Pgtt.SECOND_STAGE), AW: BigInt(domain.table.topLevel - 1), SSPTPTR: root };
    this.#write(PASID_TABLE_ENTRY, pa, { ...common, ...stage });
  }

  #writeLegacyEntry(pa: number, domain: VtdDomain): void {
    this.#write(LEGACY_CONTEXT_ENTRY, pa, {
      P: 1n,
      SSPTPTR: BigInt(domain.table.root / 4096),
      AW: BigInt(domain.table.topLevel - 1),
      DID: BigInt(domain.id),
    });
  }

  /** Present bit off, caches in the manual's order (table 28: context, PASID, IOTLB), then the rest of the entry. */
  detach(device: IommuDevice, pasid: number): void {
    const tables = this.#tables(device);
    const domain = tables.domains.get(pasid);
    if (domain === undefined) return;
    const scalable = this.#caps.scalableMode;
    const entry = scalable ? this.#pasidEntry(tables, pasid) : tables.context;
    const table = scalable ? PASID_TABLE_ENTRY : LEGACY_CONTEXT_ENTRY;
    this.#memory.writeU64(entry, (this.#memory.readU64(entry) ?? 0n) & ~1n);
    this.#traceStructure(table, entry);
    this.#invalidateEntry(device, pasid, domain);
    this.#clear(table, entry);
    tables.domains.delete(pasid);
    const users = (domain.pasids.get(pasid) ?? 1) - 1;
    if (users === 0) domain.pasids.delete(pasid);
    else domain.pasids.set(pasid, users);
  }

  #invalidateEntry(device: IommuDevice, pasid: number, domain: VtdDomain): void {
    if (this.#caps.scalableMode) this.#queue.pasidCache(domain.id, pasid);
    else this.#queue.contextDevice(device.rid, domain.id);
    if (domain.firstStage) this.#queue.pasidIotlb(domain.id, pasid, NO_RANGE);
    else this.#queue.iotlb(domain.id, NO_RANGE);
  }

  // Structures in memory -----------------------------------------------------------------------------------------

  /** Writes an entry with its present bit last: no half-written entry is ever valid (VT-d 9). */
  #write(table: FieldTable, pa: number, fields: Readonly<Record<string, bigint>>): void {
    const words = encodeFields(table, fields);
    for (let i = words.length - 1; i >= 0; i--) this.#memory.writeU64(pa + i * 8, words[i]);
    this.#traceStructure(table, pa);
  }

  #clear(table: FieldTable, pa: number): void {
    for (let i = 0; i < table.bits / 64; i++) this.#memory.writeU64(pa + i * 8, 0n);
    this.#traceStructure(table, pa);
  }

  #traceStructure(table: FieldTable, pa: number): void {
    if (this.#tracer?.listener === undefined) return;
    const words = Array.from({ length: table.bits / 64 }, (_, i) => this.#memory.readU64(pa + i * 8) ?? 0n);
    const fields = decodeFields(table, words).filter((field) => field.value !== 0n);
    const meaning = fields.map((field) => `${field.name}=${field.meaning ?? `0x${field.value.toString(16)}`}`).join(" ");
    this.#tracer.listener({
      kind: "table-write",
      unit: this.name,
      structure: table.structure,
      pa,
      value: words.find((word) => word !== 0n) ?? 0n,
      count: 1,
      meaning: (words[0] & 1n) === 1n ? meaning : `not present ${meaning}`.trimEnd(),
    });
  }

  #traceEntries(firstStage: boolean, level: number, leaf: boolean, pa: number, value: bigint, count: number, page: number): void {
    if (this.#tracer?.listener === undefined) return;
    const target = `0x${(value & 0x000f_ffff_ffff_f000n).toString(16)}`;
    const iova = `IOVA 0x${(BigInt(page) << 12n).toString(16)}`;
    const meaning = value === 0n ? `${iova}: not present` : `${iova} -> ${leaf ? "" : "table "}${target}`;
    this.#tracer.listener({ kind: "table-write", unit: this.name, structure: entryName(firstStage, level), pa, value, count, meaning });
  }
}
