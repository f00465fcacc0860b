/** What an invalidation removes, by descriptor (VT-d 6.5, tables 21 to 24; facts on tags in 6.2). */
import { Iotlb, type IotlbGeometry } from "@iommukit/core";
import { type Configuration, type Context, FIRST_STAGE_GROUP, NONE } from "./configuration.js";
import { EntryCache } from "./entry-cache.js";
import { DEFAULT_POLICIES, type VtdPolicies } from "./policies.js";

const DOMAIN = 0xffff;
const PASID = 0xfffff;

/** SID bits that the FM field of a context-cache descriptor ignores (6.5.2.1). */
const FUNCTION_MASKS = [0, 4, 6, 7] as const;

/** Sets and ways of each cache; 0 sets make one that holds nothing. What is not given is as in `DEFAULT_CACHES`. */
export interface CacheGeometry {
  readonly iotlb?: IotlbGeometry;
  readonly contexts?: IotlbGeometry;
  readonly pasids?: IotlbGeometry;
  /** Paging-structure caches (6.2.4, 6.2.5). */
  readonly firstStageTables?: IotlbGeometry;
  readonly secondStageTables?: IotlbGeometry;
}

export const DEFAULT_CACHES: Required<CacheGeometry> = {
  iotlb: { sets: 64, ways: 8 },
  contexts: { sets: 64, ways: 4 },
  pasids: { sets: 64, ways: 4 },
  firstStageTables: { sets: 16, ways: 4 },
  secondStageTables: { sets: 16, ways: 4 },
};

export class Caches {
  readonly iotlb: Iotlb;
  readonly contexts: EntryCache<Context>;
  readonly pasids: EntryCache<Configuration>;
  /** An entry at level n covers what the table below it does; tags and groups are DID and PASID. */
  readonly firstStageTables: Iotlb;
  /** Tagged by DID. */
  readonly secondStageTables: Iotlb;
  /** Changes whenever an entry of the context cache or the PASID cache does: what was looked up before stays right while it does not. */
  epoch = 0;
  readonly #wildcard: boolean;

  constructor(geometry: CacheGeometry, policies: VtdPolicies = DEFAULT_POLICIES) {
    const all = { ...DEFAULT_CACHES, ...geometry };
    this.iotlb = new Iotlb(all.iotlb);
    this.contexts = new EntryCache(all.contexts);
    this.pasids = new EntryCache(all.pasids);
    this.firstStageTables = new Iotlb(all.firstStageTables);
    this.secondStageTables = new Iotlb(all.secondStageTables);
    this.#wildcard = policies.absentPasids === "wildcard";
  }

  removeAll(): number {
    this.epoch++;
    return this.contexts.remove(() => true) + this.pasids.remove(() => true) + this.#removeTranslations();
  }

  #removeTranslations(): number {
    return this.iotlb.removeAll() + this.firstStageTables.removeAll() + this.secondStageTables.removeAll();
  }

  /** Type 1. In scalable mode domain-selective is global, and device-selective ignores DID. Absent legacy entries have DID 0 (6.1). */
  context(granularity: number, domain: number, source: number, functionMask: number): number {
    this.epoch++;
    const ignored = FUNCTION_MASKS[functionMask];
    const inDomain = (entry: Context): boolean => !entry.legacy || (entry.condition === NONE ? entry.translation.domain : 0) === domain;
    if (granularity === 1) return this.contexts.remove(() => true);
    if (granularity === 2) return this.contexts.remove(inDomain);
    return this.contexts.remove((entry) => (entry.rid & ~ignored) === (source & ~ignored) && inDomain(entry));
  }

  /** Type 7. Absent entries have DID 0 (6.1), or any. */
  pasid(granularity: number, domain: number, pasid: number): number {
    this.epoch++;
    return this.pasids.remove((entry) => {
      if (granularity === 3) return true;
      if (granularity === 1 && entry.pasid !== pasid) return false;
      if (entry.condition === NONE) return entry.domain === domain;
      return this.#wildcard || domain === 0;
    });
  }

  /** Type 2: page-selective removes second-stage and pass-through entries of the range, and every first-stage and nested entry of the domain. */
  iotlbDomain(granularity: number, domain: number, page: number, addressMask: number, leafOnly = false): number {
    const { iotlb, firstStageTables, secondStageTables } = this;
    if (granularity === 1) return this.#removeTranslations();
    if (granularity === 2) {
      return (
        iotlb.removeWhere(DOMAIN, domain, 0, 0, 0, Infinity) +
        firstStageTables.removeWhere(DOMAIN, domain, 0, 0, 0, Infinity) +
        secondStageTables.removeWhere(DOMAIN, domain, 0, 0, 0, Infinity)
      );
    }
    const pages = 2 ** addressMask;
    const first = Math.floor(page / pages) * pages;
    return (
      iotlb.removeWhere(DOMAIN | FIRST_STAGE_GROUP, domain, 0, 0, first, first + pages - 1) +
      iotlb.removeWhere(DOMAIN | FIRST_STAGE_GROUP, domain | FIRST_STAGE_GROUP, 0, 0, 0, Infinity) +
      firstStageTables.removeWhere(DOMAIN, domain, 0, 0, 0, Infinity) +
      (leafOnly ? 0 : secondStageTables.removeWhere(DOMAIN, domain, 0, 0, first, first + pages - 1))
    );
  }

  /** Type 6: PASID-selective removes every entry of (domain, PASID); page-selective only first-stage and nested ones. Second-stage tables stay. */
  iotlbPasid(granularity: number, domain: number, pasid: number, page: number, addressMask: number, leafOnly = false): number {
    const { iotlb, firstStageTables } = this;
    if (granularity === 2) {
      return iotlb.removeWhere(DOMAIN, domain, PASID, pasid, 0, Infinity) + firstStageTables.removeWhere(DOMAIN, domain, PASID, pasid, 0, Infinity);
    }
    const pages = 2 ** addressMask;
    const first = Math.floor(page / pages) * pages;
    const group = domain | FIRST_STAGE_GROUP;
    return (
      iotlb.removeWhere(DOMAIN | FIRST_STAGE_GROUP, group, PASID, pasid, first, first + pages - 1) +
      (leafOnly ? 0 : firstStageTables.removeWhere(DOMAIN, domain, PASID, pasid, first, first + pages - 1))
    );
  }
}
