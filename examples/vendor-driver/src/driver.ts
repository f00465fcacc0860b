/** The operating system's side: it writes tables and registers, and never looks into the unit. */
import {
  type DeviceCapabilities, type Domain, type FrameAllocator, type IommuDevice, type IommuDriver, PageTable, type PagingDomain, type PagingDomainOptions, type PhysicalMemory, Prot, refuse, type ReservedRegion, type Tracer, type UserData,
} from "@iommukit/core";
import { ADDRESS_BITS, ENABLE, Entry, FORMAT, ID, Register, TOP_LEVEL } from "./spec.js";

const DIRECTORY_ENTRIES = 256;

export interface AcmeDriverOptions {
  readonly name: string;
  readonly memory: PhysicalMemory;
  readonly frames: FrameAllocator;
  readonly registerBase: number;
  readonly tracer: Tracer;
}

class AcmeDomain implements PagingDomain {
  readonly aperture = { start: 0n, last: 2n ** BigInt(ADDRESS_BITS) - 1n };
  readonly pageSizes = (1n << 12n) | (1n << 21n);
  readonly table: PageTable;
  readonly devices = new Set<number>();
  readonly #driver: AcmeDriver;

  constructor(driver: AcmeDriver, { memory, frames, name, tracer }: AcmeDriverOptions) {
    this.#driver = driver;
    this.table = new PageTable(memory, frames, FORMAT, TOP_LEVEL, (level, leaf, pa, value, count, page) =>
      tracer.listener?.({ kind: "table-write", unit: name, structure: `${leaf ? "leaf" : "table entry"} of level ${level}`, pa, value, count, meaning: `IOVA 0x${(BigInt(page) << 12n).toString(16)}` }),
    );
  }

  map(iova: bigint, pa: number, length: number, prot: number): void {
    this.table.map(Number(iova >> 12n), pa / 4096, length / 4096, (prot & Prot.WRITE) !== 0 ? Entry.W : 0);
  }

  /** Tables, then the caches, then the frames: no walk meets a frame that is somebody else's. */
  unmap(iova: bigint, length: number): void {
    const { removed, freed } = this.table.unmap(Number(iova >> 12n), length / 4096);
    if (removed > 0) for (const rid of this.devices) this.#driver.flush(rid);
    for (const frame of freed) this.#driver.options.frames.free(frame);
  }

  iovaToPa(iova: bigint): number | undefined {
    const page = this.table.lookup(Number(iova >> 12n));
    return page === -1 ? undefined : page * 4096 + Number(iova & 0xfffn);
  }

  free(): void {
    this.table.free();
  }
}

export class AcmeDriver implements IommuDriver {
  readonly name: string;
  readonly options: AcmeDriverOptions;
  readonly #directory: number;
  readonly #attached = new Map<number, AcmeDomain>();

  constructor(options: AcmeDriverOptions) {
    this.name = options.name;
    this.options = options;
    if (options.memory.readMmio(options.registerBase + Register.ID, 8) !== ID) refuse("ENODEV", `${options.name} is no Acme IOMMU`, { rule: "Acme 1.1" });
    this.#directory = options.frames.alloc();
    this.#write(Register.TABLE, BigInt(this.#directory) | ENABLE);
  }

  #write(register: number, value: bigint): void {
    this.options.memory.writeMmio(this.options.registerBase + register, 8, value);
  }

  flush(rid: number): void {
    this.#write(Register.FLUSH, BigInt(rid));
  }

  #store(structure: string, pa: number, value: bigint): void {
    this.options.memory.writeU64(pa, value);
    this.options.tracer.listener?.({ kind: "table-write", unit: this.name, structure, pa, value, count: 1, meaning: value === 0n ? "not valid" : `valid, at 0x${(value & ~0xfffn).toString(16)}` });
  }

  /** Physical address of a requester's device entry; makes the table of its bus. */
  #entry(rid: number): number {
    const at = this.#directory + ((rid >> 8) % DIRECTORY_ENTRIES) * 8;
    const word = this.options.memory.readU64(at) ?? 0n;
    if ((word & 1n) === 1n) return Number(word & ~0xfffn) + (rid & 0xff) * 8;
    const table = this.options.frames.alloc();
    this.#store("device directory entry", at, BigInt(table) | 1n);
    return table + (rid & 0xff) * 8;
  }

  addDevice(device: IommuDevice): void {
    this.#entry(device.rid);
  }

  removeDevice(device: IommuDevice): void {
    this.detach(device, 0);
  }

  capabilities(): DeviceCapabilities {
    return { dirtyTracking: false, maxPasidLog2: 0, ats: false, pageRequests: false };
  }

  /** Messages are writes to memory like any other here; the platform keeps a page for them. */
  reservedRegions(): readonly ReservedRegion[] {
    return [{ start: 0xfee0_0000n, last: 0xfeef_ffffn, kind: "msi" }];
  }

  allocPaging(_device: IommuDevice, { nestParent, dirtyTracking, pasid }: PagingDomainOptions, data?: UserData): PagingDomain {
    const lacks = (nestParent && "nested translation") || (dirtyTracking && "dirty tracking") || (pasid && "PASIDs") || (data && "vendor data");
    if (lacks) refuse("EOPNOTSUPP", `${this.name} has no ${lacks}`, { argument: "flags" });
    return new AcmeDomain(this, this.options);
  }

  attach(device: IommuDevice, pasid: number, domain: Domain): void {
    if (!(domain instanceof AcmeDomain)) return refuse("EINVAL", `the page table was made by another driver than ${this.name}`, { argument: "pt_id" });
    if (pasid !== 0) refuse("EOPNOTSUPP", `${this.name} has no PASIDs`, { argument: "pasid" });
    this.detach(device, 0);
    this.#store("device entry", this.#entry(device.rid), BigInt(domain.table.root) | 1n);
    this.#attached.set(device.rid, domain);
    domain.devices.add(device.rid);
  }

  detach({ rid }: IommuDevice, pasid: number): void {
    if (pasid !== 0) return;
    this.#store("device entry", this.#entry(rid), 0n);
    this.flush(rid);
    this.#attached.get(rid)?.devices.delete(rid);
    this.#attached.delete(rid);
  }
}
