/** What an invalidation removes, by descriptor (VT-d 6.5, tables 21 to 24; facts on tags in 6.2). */
import { Iotlb, type IotlbGeometry } from "@iommukit/core";
import { ConfigurationCache } from "./configuration.js";

/** IOTLB group A: domain-id in bits 15:0, and this bit for first-stage entries. */
export const FIRST_STAGE_GROUP = 0x10_0000;
const DOMAIN = 0xffff;
const PASID = 0xfffff;

/** SID bits that the FM field of a context-cache descriptor ignores (6.5.2.1). */
const FUNCTION_MASKS = [0, 4, 6, 7] as const;

export interface CacheGeometry {
  readonly iotlb: IotlbGeometry;
  /** Entries of the context and PASID cache, a power of two or 0. */
  readonly configurations: number;
}

export class Caches {
  readonly iotlb: Iotlb;
  readonly configurations: ConfigurationCache;

  constructor(geometry: CacheGeometry) {
    this.iotlb = new Iotlb(geometry.iotlb);
    this.configurations = new ConfigurationCache(geometry.configurations);
  }

  removeAll(): number {
    return this.configurations.remove(() => true) + this.iotlb.removeAll();
  }

  /** Type 1. In scalable mode domain-selective is global, and device-selective ignores DID. */
  context(granularity: number, domain: number, source: number, functionMask: number): number {
    const ignored = FUNCTION_MASKS[functionMask];
    return this.configurations.remove((entry) => {
      if (granularity === 1) return true;
      if (granularity === 2) return !entry.legacy || entry.domain === domain;
      const same = (entry.rid & ~ignored) === (source & ~ignored);
      return same && (!entry.legacy || entry.domain === domain);
    });
  }

  /** Type 7. */
  pasid(granularity: number, domain: number, pasid: number): number {
    return this.configurations.remove((entry) => {
      if (entry.legacy) return false;
      if (granularity === 3) return true;
      return entry.domain === domain && (granularity === 0 || entry.tagPasid === pasid);
    });
  }

  /** Type 2: page-selective removes second-stage and pass-through entries of the range, and every first-stage entry of the domain. */
  iotlbDomain(granularity: number, domain: number, page: number, addressMask: number): number {
    if (granularity === 1) return this.iotlb.removeAll();
    if (granularity === 2) return this.iotlb.removeWhere(DOMAIN, domain, 0, 0, 0, Infinity);
    const pages = 2 ** addressMask;
    const first = Math.floor(page / pages) * pages;
    return (
      this.iotlb.removeWhere(DOMAIN | FIRST_STAGE_GROUP, domain, 0, 0, first, first + pages - 1) +
      this.iotlb.removeWhere(DOMAIN | FIRST_STAGE_GROUP, domain | FIRST_STAGE_GROUP, 0, 0, 0, Infinity)
    );
  }

  /** Type 6: PASID-selective removes every entry of (domain, PASID); page-selective only first-stage ones. */
  iotlbPasid(granularity: number, domain: number, pasid: number, page: number, addressMask: number): number {
    if (granularity === 2) return this.iotlb.removeWhere(DOMAIN, domain, PASID, pasid, 0, Infinity);
    const pages = 2 ** addressMask;
    const first = Math.floor(page / pages) * pages;
    const group = domain | FIRST_STAGE_GROUP;
    return this.iotlb.removeWhere(DOMAIN | FIRST_STAGE_GROUP, group, PASID, pasid, first, first + pages - 1);
  }
}
