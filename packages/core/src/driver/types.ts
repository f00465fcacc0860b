/**
 * The driver interface: what iommufd asks of the software that programs one
 * kind of IOMMU. Optional method = optional ability; the caller answers for a
 * missing one as Linux does (EOPNOTSUPP, or "none").
 */

/** Mapping permissions. */
export const Prot = {
  READ: 1,
  WRITE: 2,
  /** Device memory, not to be cached. */
  MMIO: 4,
} as const;

/** A range that the IOAS of an attached device must leave alone; `last` inclusive. */
export interface ReservedRegion {
  readonly start: bigint;
  readonly last: bigint;
  readonly kind: "direct" | "direct-relaxable" | "reserved" | "msi" | "sw-msi";
}

/** What GET_HW_INFO answers. */
export interface HwInfo {
  /** enum iommu_hw_info_type. */
  readonly type: number;
  readonly data: Uint8Array;
}

/** What a device behind this driver can do. */
export interface DeviceCapabilities {
  readonly dirtyTracking: boolean;
  /** log2 of the number of PASIDs, 0 for none. */
  readonly maxPasidLog2: number;
  readonly ats: boolean;
}

/** Options of a paging domain; a driver refuses what it cannot do with EOPNOTSUPP. */
export interface PagingDomainOptions {
  readonly nestParent?: boolean;
  readonly dirtyTracking?: boolean;
  readonly pasid?: boolean;
}

/** An input address space that a driver made: tables in memory. */
export interface PagingDomain {
  /** Lowest and highest input address, inclusive. */
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  /** Bitmap of page sizes, bit n = 2^n bytes. */
  readonly pageSizes: bigint;
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
  /** Gives the tables back; no device is attached. */
  free(): void;
}

/** A device as its IOMMU driver knows it. */
export interface IommuDevice {
  readonly rid: number;
  /** "0000:00:03.0" */
  readonly name: string;
  readonly pasidBits: number;
  readonly ats: boolean;
}

export interface IommuDriver {
  readonly name: string;
  /** Takes a device in: until the first attach its DMA is blocked. */
  addDevice(device: IommuDevice): void;
  removeDevice(device: IommuDevice): void;
  capabilities(device: IommuDevice): DeviceCapabilities;
  reservedRegions(device: IommuDevice): readonly ReservedRegion[];
  hwInfo?(device: IommuDevice): HwInfo;
  /** @throws IommuError EOPNOTSUPP for an option that this unit lacks */
  allocPaging(device: IommuDevice, options: PagingDomainOptions): PagingDomain;
  /**
   * Lets (device, pasid) use the domain in place of what it used before; PASID 0 means the RID itself.
   * @throws IommuError EINVAL when the domain does not fit the device's unit
   */
  attach(device: IommuDevice, pasid: number, domain: PagingDomain): void;
  /** Blocks (device, pasid); returns when no cache holds a translation. */
  detach(device: IommuDevice, pasid: number): void;
}
