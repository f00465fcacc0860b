/** The driver of the kernel's mock IOMMU (selftest inventory, 3.1). It has no hardware: nothing does DMA through it. */
import type {
  DeviceCapabilities, Domain, DriverViommu, EventSink, HwInfo, InvalidationEntries, IommuDevice, IommuDriver, MmapOwner, NestedDomain,
  NestedDomainOptions, PagingDomain, PagingDomainOptions, ReservedRegion, UserData,
} from "../../driver/types.js";
import { refuse } from "../../errors.js";
import { SharedPages } from "../../memory/shared-pages.js";
import { MockDomain, MockNested } from "./domain.js";

export const MOCK_TYPE = { HW_INFO: 0xfeedbeef, HWPT: 0xdead, VIOMMU: 0xdeadbeef, VEVENT: 0xbeefbeef, HW_QUEUE: 0xdeadbeef } as const;
const REGISTER_VALUE = 0xdeadbeef;
const CACHE_DEFAULT = 0xbaddad;
export const CACHE_ENTRIES = 4;
const PASID_BITS = 20;
/** The attach of this PASID fails every second time. */
const FAULTY_PASID = 1024;
const MMAP_BYTES = 8192;
const QUEUES = 2;
const INVALIDATE_ALL = 1;

/** A device of the test command. */
export class MockDevice implements IommuDevice {
  readonly rid = 0;
  readonly name = "iommufd_mock";
  readonly ats = false;
  readonly pasidBits: number;
  readonly noDirty: boolean;
  readonly cache: Uint32Array = new Uint32Array(CACHE_ENTRIES).fill(CACHE_DEFAULT);
  /** The virtual IOMMU behind the nested page table that it uses. */
  viommu: MockViommu | undefined;
  failNext = false;

  constructor(noDirty: boolean, pasid: boolean) {
    this.noDirty = noDirty;
    this.pasidBits = pasid ? PASID_BITS : 0;
  }
}

function mock(device: IommuDevice): MockDevice {
  return device instanceof MockDevice ? device : refuse("EINVAL", `${device.name} is not a mock device`, { argument: "dev_id" });
}

export class MockDriver implements IommuDriver {
  readonly name = "mock";

  addDevice(): void {
    // A mock device has no tables.
  }

  removeDevice(): void {
    // Nor anything to take back.
  }

  capabilities(device: IommuDevice): DeviceCapabilities {
    const { noDirty, pasidBits } = mock(device);
    return { dirtyTracking: !noDirty, maxPasidLog2: pasidBits, pasidLimit: 2 ** pasidBits, ats: false };
  }

  reservedRegions(): readonly ReservedRegion[] {
    return [];
  }

  hwInfo(_device: IommuDevice, type: number): HwInfo {
    if (type !== 0 && type !== MOCK_TYPE.HW_INFO) refuse("EOPNOTSUPP", `in_data_type 0x${type.toString(16)} is not that of the mock IOMMU`, { argument: "in_data_type" });
    return { type: MOCK_TYPE.HW_INFO, data: new Uint8Array(Uint32Array.of(0, REGISTER_VALUE).buffer) };
  }

  allocPaging(_device: IommuDevice, options: PagingDomainOptions, data?: UserData): PagingDomain {
    if (data && data.type !== MOCK_TYPE.HWPT) refuse("EOPNOTSUPP", `data_type 0x${data.type.toString(16)} is not that of the mock IOMMU`, { argument: "data_type" });
    const table = data ? new DataView(data.read(4, 8).buffer).getUint32(4, true) : 0;
    if (table > 1) refuse("EOPNOTSUPP", `pagetable_type ${table} is neither DEFAULT nor HUGE`, { argument: "pagetable_type" });
    return new MockDomain(table === 1, options.dirtyTracking ?? false);
  }

  allocNested(_device: IommuDevice, _parent: PagingDomain, _options: NestedDomainOptions, data: UserData): NestedDomain {
    return nested(data, undefined);
  }

  checkViommu(_device: IommuDevice, type: number): void {
    if (type !== MOCK_TYPE.VIOMMU) refuse("EOPNOTSUPP", `type 0x${type.toString(16)} is not that of the mock IOMMU`, { argument: "type" });
  }

  allocViommu(_device: IommuDevice, _type: number, _parent: PagingDomain, data: UserData | undefined, mmap: MmapOwner, events: EventSink): DriverViommu {
    if (data === undefined) return new MockViommu(events);
    const bytes = data.read(8, 24);
    const view = new DataView(bytes.buffer);
    const offset = mmap.offer(MMAP_BYTES, new SharedPages(MMAP_BYTES, bytes.subarray(0, 4)));
    view.setUint32(4, view.getUint32(0, true), true);
    view.setBigUint64(8, offset, true);
    view.setBigUint64(16, BigInt(MMAP_BYTES), true);
    data.write(bytes);
    return new MockViommu(events);
  }

  attach(device: IommuDevice, pasid: number, domain: Domain): void {
    const target = mock(device);
    if (domain instanceof MockDomain && domain.dirty && target.noDirty) refuse("EINVAL", "the device cannot track dirty pages", { argument: "pt_id" });
    if (pasid === FAULTY_PASID) {
      if (target.failNext) {
        target.failNext = false;
        refuse("ENOMEM", `attaching PASID ${FAULTY_PASID} fails every second time, for tests`, { argument: "pasid" });
      }
      target.failNext = true;
    }
    if (pasid !== 0) return;
    const viommu = domain instanceof MockNested ? domain.viommu : undefined;
    if (!(viommu instanceof MockViommu)) {
      target.viommu = undefined;
      return;
    }
    if (viommu.virtId(target) === undefined) refuse("ENOENT", "the device has no virtual device in the page table's virtual IOMMU", { argument: "pt_id", rule: "IOMMU_VDEVICE_ALLOC" });
    target.viommu = viommu;
  }

  detach(device: IommuDevice, pasid: number): void {
    const target = mock(device);
    if (pasid === FAULTY_PASID) target.failNext = false;
    if (pasid === 0) target.viommu = undefined;
  }
}

function nested(data: UserData, viommu: MockViommu | undefined): MockNested {
  if (data.type !== MOCK_TYPE.HWPT) refuse("EOPNOTSUPP", `data_type 0x${data.type.toString(16)} is not that of the mock IOMMU`, { argument: "data_type" });
  return new MockNested(new DataView(data.read(4, 8).buffer).getUint32(0, true), viommu);
}

export class MockViommu implements DriverViommu {
  readonly #events: EventSink;
  readonly #devices = new Map<bigint, MockDevice>();
  readonly #queues = new Set<number>();

  constructor(events: EventSink) {
    this.#events = events;
  }

  virtId(device: MockDevice): bigint | undefined {
    return [...this.#devices].find(([, candidate]) => candidate === device)?.[0];
  }

  /** The test command's event: the device's virtual id. */
  trigger(device: MockDevice): void {
    const id = this.virtId(device);
    if (id === undefined || id === 0n) refuse("ENOENT", "the device has no virtual id", { argument: "dev_id" });
    this.#events.report(MOCK_TYPE.VEVENT, new Uint8Array(Uint32Array.of(Number(id ?? 0n)).buffer));
  }

  allocNested(_device: IommuDevice, _options: NestedDomainOptions, data: UserData): NestedDomain {
    return nested(data, this);
  }

  addDevice(device: IommuDevice, virtId: bigint): void {
    this.#devices.set(virtId, mock(device));
  }

  removeDevice(device: IommuDevice): void {
    const id = this.virtId(mock(device));
    if (id !== undefined) this.#devices.delete(id);
  }

  invalidate(entries: InvalidationEntries): void {
    if (entries.type !== MOCK_TYPE.VIOMMU) refuse("EINVAL", `data_type 0x${entries.type.toString(16)} is not that of the mock IOMMU`, { argument: "data_type" });
    for (const [i, entry] of entries.readAll(12).entries()) {
      const [flags, virtId, cacheId] = new Uint32Array(entry.buffer);
      if ((flags & ~INVALIDATE_ALL) !== 0) refuse("EOPNOTSUPP", `entry ${i}: flags has 0x${flags.toString(16)}`, { argument: "flags" });
      if (cacheId >= CACHE_ENTRIES) refuse("EINVAL", `entry ${i}: cache_id ${cacheId} is not below ${CACHE_ENTRIES}`, { argument: "cache_id" });
      const device = this.#devices.get(BigInt(virtId)) ?? refuse("EINVAL", `entry ${i}: no virtual device ${virtId}`, { argument: "vdev_id" });
      if ((flags & INVALIDATE_ALL) !== 0) device.cache.fill(0);
      else device.cache[cacheId] = 0;
      entries.handled(i + 1);
    }
  }

  hasQueue(type: number): boolean {
    return type === MOCK_TYPE.HW_QUEUE;
  }

  addQueue(_type: number, index: number): () => void {
    if (index >= QUEUES) refuse("EINVAL", `index ${index} is not below ${QUEUES}`, { argument: "index" });
    if (this.#queues.has(index)) refuse("EEXIST", `queue ${index} is in use`, { argument: "index" });
    if (index > 0 && !this.#queues.has(index - 1)) refuse("EIO", `queue ${index - 1} comes first`, { argument: "index" });
    this.#queues.add(index);
    return () => this.#queues.delete(index);
  }

  free(): void {
    // Its devices and queues went before it.
  }
}
