/**
 * What core asks of an IOMMU's driver. A driver programs its unit through memory
 * and registers only, and never calls the hardware model; core never knows which vendor it talks to.
 */

import type { InterruptMessage } from "../machine/interrupts.js";
import type { FrameAllocator } from "../memory/frame-allocator.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import type { Tracer } from "../trace.js";

/** What a driver makes page tables from. */
export interface DomainParts {
  readonly memory: PhysicalMemory;
  readonly frames: FrameAllocator;
  readonly tracer?: Tracer;
}

/** What a driver of one unit is made from. */
export interface DriverParts extends DomainParts {
  /** Of the unit. */
  readonly name: string;
  readonly registerBase: number;
  /** Where the driver gets messages from. */
  readonly interrupts: { allocate(handler: () => void): InterruptMessage };
}

/** Permissions of a mapping, as `IOMMU_READ` and `IOMMU_WRITE`. */
export const Prot = { READ: 1, WRITE: 2 } as const;

/** A range that a device cannot use for DMA mappings. Both ends inclusive. */
export interface ReservedRegion {
  readonly start: bigint;
  readonly last: bigint;
  readonly kind: "direct" | "direct-relaxable" | "reserved" | "msi" | "sw-msi";
}

/** GET_HW_INFO: a vendor's type number and its struct. */
export interface HwInfo {
  readonly type: number;
  readonly data: Uint8Array;
}

export interface DeviceCapabilities {
  readonly dirtyTracking: boolean;
  /** log2 of the number of PASIDs, 0 for none. */
  readonly maxPasidLog2: number;
  /** Highest PASID + 1 that an attach takes; undefined: a device without PASIDs takes any and ignores it. */
  readonly pasidLimit?: number;
  /** The device may raise page requests, or the unit stalls what faults. */
  readonly pageRequests?: boolean;
  /** Every access of the device is coherent with the caches. */
  readonly coherent?: boolean;
  readonly ats: boolean;
}

/** Vendor data of a request: `data_type`, `data_len` and the bytes in the caller's memory. */
export interface UserData {
  readonly type: number;
  readonly length: number;
  /**
   * The vendor's struct of `size` bytes, zero-filled behind the caller's length.
   * @throws IommuError EINVAL for a length below `least` or above `size`, EFAULT
   */
  read(least: number, size: number): Uint8Array;
  /** Writes the struct back, as far as the caller's length goes. @throws IommuError EFAULT */
  write(bytes: Uint8Array): void;
}

/** Entries of HWPT_INVALIDATE. */
export interface InvalidationEntries {
  readonly type: number;
  readonly entryLength: number;
  readonly count: number;
  /** One entry. @throws IommuError EINVAL for an entry length below `least` or above `size`, EFAULT */
  read(index: number, least: number, size: number): Uint8Array;
  /** Every entry at once. @throws IommuError E2BIG for bytes behind `size` that are not 0, EFAULT */
  readAll(size: number): Uint8Array[];
  /** Counts entries as handled: the number goes back to the caller, whatever happens next. */
  handled(count: number): void;
}

/** Options of a page table; a driver refuses what it cannot do with EOPNOTSUPP. */
export interface PagingDomainOptions {
  readonly nestParent?: boolean;
  readonly dirtyTracking?: boolean;
  readonly pasid?: boolean;
}

export interface NestedDomainOptions {
  readonly pasid: boolean;
}

/** Something that a device can be attached to. */
export interface Domain {
  /** Gives the tables back; no device is attached. */
  free(): void;
}

/** Dirty bits of a domain that was allocated for it. */
export interface DirtyTracking {
  set(enabled: boolean): void;
  /**
   * Reports each dirty piece of [iova, iova + length), ascending, as far as mappings go without a hole; the last
   * piece may be longer than the range. Clears what it reports when `clear`.
   */
  read(iova: bigint, length: bigint, clear: boolean, report: (iova: bigint, length: bigint) => void): void;
}

/** An input address space that a driver made: tables in memory. */
export interface PagingDomain extends Domain {
  /** Lowest and highest input address, inclusive. */
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  /** Bitmap of page sizes, bit n = 2^n bytes. */
  readonly pageSizes: bigint;
  readonly dirty?: DirtyTracking;
  /** False when a device could write past the caches through it. */
  readonly enforcesCoherency?: boolean;
  /**
   * Maps one extent; all or nothing. iova, pa and length are multiples of the
   * smallest page size and the range is not mapped.
   * @throws IommuError ENOMEM when no memory is left for tables
   */
  map(iova: bigint, pa: number, length: number, prot: number): void;
  /** Removes every mapping in the range and waits until no cache holds one. */
  unmap(iova: bigint, length: number): void;
  /** The physical address behind iova; undefined when not mapped. */
  iovaToPa(iova: bigint): number | undefined;
}

/** A guest's own first stage, on top of a nest parent. */
export interface NestedDomain extends Domain {
  /** @throws IommuError of the first entry that is refused; EINVAL for a data type that is not this domain's */
  invalidate?(entries: InvalidationEntries): void;
}

/** What a driver may hand to mmap(2) on /dev/iommu. */
export interface MmapOwner {
  /** Offers `backend` and returns the offset to map it at. */
  offer(length: number, backend: import("../memory/types.js").MemoryBackend): bigint;
}

/** A slice of an IOMMU for one virtual machine. */
export interface DriverViommu {
  allocNested?(device: IommuDevice, options: NestedDomainOptions, data: UserData): NestedDomain;
  invalidate?(entries: InvalidationEntries): void;
  /** @throws IommuError what the driver refuses about the device's place in the virtual machine */
  addDevice?(device: IommuDevice, virtId: bigint): void;
  removeDevice?(device: IommuDevice): void;
  /** Types of HW_QUEUE_ALLOC. */
  hasQueue?(type: number): boolean;
  /** @param pa physical address of the queue's memory @returns a function that ends it */
  addQueue?(type: number, index: number, pa: number, iova: bigint, length: bigint): () => void;
  free(): void;
}

/** How a driver reports to the queues of a virtual IOMMU. */
export interface EventSink {
  /** @throws IommuError EOPNOTSUPP when no queue of that type is there */
  report(type: number, payload: Uint8Array): void;
}

/** A page request of a device. */
export interface PageFault {
  /** undefined: without PASID. */
  readonly pasid: number | undefined;
  readonly group: number;
  readonly permissions: number;
  readonly address: bigint;
  readonly last: boolean;
}

/** An access of a device that was blocked for good, as its unit recorded it. */
export interface DeviceFault {
  /** undefined: without PASID. */
  readonly pasid: number | undefined;
  /** Bits of `iommu_hwpt_pgfault.perm`. */
  readonly permissions: number;
  /** Bits 11:0 as far as the unit tells. */
  readonly address: bigint;
  /** The unit had no room for records before this one: some of the device's may be among the lost. */
  readonly afterLoss?: boolean;
  /** It was a request for a translation (ATS); as far as the unit tells. */
  readonly translationRequest?: boolean;
}

/** Where a device's page requests go. */
export interface PageFaultSink {
  report(fault: PageFault): void;
  /** Requests were lost: a group whose last one has not come is incomplete, and forgotten. */
  discardPartial(): void;
}

/** How a page request group was answered. */
export interface PageFaultResponse {
  /** undefined: without PASID. */
  readonly pasid: number | undefined;
  readonly group: number;
  readonly code: "success" | "invalid";
}

/** A device as its IOMMU driver knows it. */
export interface IommuDevice {
  readonly rid: number;
  /** "0000:00:03.0" */
  readonly name: string;
  readonly pasidBits: number;
  readonly ats: boolean;
  /** It can ask for pages (PRI). */
  readonly pageRequests?: boolean;
  /** Its requests can wait for software: of PCI, only functions that a chip's maker says so of. */
  readonly stalls?: boolean;
}

export interface IommuDriver {
  readonly name: string;
  /** Drivers of one kind take each other's page tables, each as far as its unit can; alone of its kind unless given. */
  readonly kind?: string;
  /** Takes a device in: until the first attach its DMA is blocked. */
  addDevice(device: IommuDevice): void;
  removeDevice(device: IommuDevice): void;
  capabilities(device: IommuDevice): DeviceCapabilities;
  reservedRegions(device: IommuDevice): readonly ReservedRegion[];
  /** @param type asked for; 0 = the driver's own @throws IommuError EOPNOTSUPP for a type that it lacks */
  hwInfo?(device: IommuDevice, type: number): HwInfo;
  /** @throws IommuError EOPNOTSUPP for an option or data that this unit lacks */
  allocPaging(device: IommuDevice, options: PagingDomainOptions, data?: UserData): PagingDomain;
  allocNested?(device: IommuDevice, parent: PagingDomain, options: NestedDomainOptions, data: UserData): NestedDomain;
  /** @throws IommuError EOPNOTSUPP for a type that this unit lacks, before the parent is looked at */
  checkViommu?(device: IommuDevice, type: number): void;
  allocViommu?(device: IommuDevice, type: number, parent: PagingDomain, data: UserData | undefined, mmap: MmapOwner, events: EventSink): DriverViommu;
  /**
   * Lets (device, pasid) use the domain in place of what it used before; PASID 0 means the RID itself.
   * @throws IommuError EINVAL when the domain does not fit the device's unit
   */
  attach(device: IommuDevice, pasid: number, domain: Domain): void;
  /** Blocks (device, pasid); returns when no cache holds a translation. */
  detach(device: IommuDevice, pasid: number): void;
  /**
   * Page requests of the device go to `sink`, and the device may make them from now on; undefined: no more, what comes is answered
   * as invalid. Absent: a driver without page requests.
   */
  reportPageFaults?(device: IommuDevice, sink: PageFaultSink | undefined): void;
  /** Answers a group whose last request was reported. */
  respondToPageFault?(device: IommuDevice, response: PageFaultResponse): void;
  /** Accesses that were blocked go to `sink` too; undefined: no more. Absent: a driver that tells of none. */
  reportFaults?(device: IommuDevice, sink: ((fault: DeviceFault) => void) | undefined): void;
  /** Takes a message-signalled interrupt of the device through the unit. Absent: messages pass as they are. */
  routeInterrupt?(device: IommuDevice, message: InterruptMessage): RoutedInterrupt;
}

/** What a device is to write so that a message arrives. */
export interface RoutedInterrupt extends InterruptMessage {
  free(): void;
}
