/** Domains and the endpoints in them (virtio 1.3, 5.13.6): what requests build and accesses use. */
import { Access, type Entry, IntervalTree, Iotlb } from "@iommukit/core";
import { MapFlag } from "./spec.js";

/** What a domain does on the host, for endpoints that stand for the host's devices. Refusals are thrown as `IommuError`. */
export interface HostDomain {
  attach(endpoint: number): void;
  /** Cannot fail, nor can `free`. */
  detach(endpoint: number): void;
  /** All or nothing. Both ends of the range inclusive. */
  map(start: bigint, last: bigint, physical: bigint, flags: number): void;
  unmap(start: bigint, last: bigint): void;
  free(): void;
}

/** The host behind a device: makes a domain when its first endpoint is attached. */
export interface HostDomains {
  create(domain: number, bypass: boolean): HostDomain;
  /** An endpoint has no domain: its accesses pass, or they are stopped. Cannot fail. */
  rest?(endpoint: number, passes: boolean): void;
}

interface Mapping {
  readonly physical: bigint;
  readonly flags: number;
}

export class Domain {
  readonly id: number;
  readonly bypass: boolean;
  readonly endpoints: Set<number> = new Set<number>();
  readonly mappings: IntervalTree<Mapping> = new IntervalTree<Mapping>();
  readonly host: HostDomain | undefined;

  constructor(id: number, bypass: boolean, host: HostDomain | undefined) {
    this.id = id;
    this.bypass = bypass;
    this.host = host;
  }
}

export interface Endpoint {
  readonly id: number;
  domain: Domain | undefined;
  /** A driver has tried to attach it, and has not detached it since: QEMU knows only these. */
  seen: boolean;
}

const PAGE_SHIFT = 12n;
/** Requester ids of PCI. */
const REQUESTERS = 2 ** 16;
const WHOLE = -1;

export class Domains {
  readonly #endpoints: Map<number, Endpoint>;
  /** Every requester id of PCI is an endpoint, from the first time that somebody names it. */
  readonly #anyRequester: boolean;
  readonly #domains = new Map<number, Domain>();
  readonly #host: HostDomains | undefined;
  /** Of mappings, by page: the tree answers in 64-bit numbers. */
  readonly #tlb = new Iotlb({ sets: 64, ways: 8 });
  readonly #passes: () => boolean;
  /** Mappings of all domains. */
  mappings = 0;
  #last: Endpoint | undefined;

  /** @param passes accesses of an endpoint without a domain do */
  constructor(endpoints: readonly number[] | undefined, passes: () => boolean, host: HostDomains | undefined) {
    this.#passes = passes;
    this.#anyRequester = endpoints === undefined;
    this.#endpoints = new Map(endpoints?.map((id) => [id, newEndpoint(id)]));
    this.#host = host;
  }

  endpoint(id: number): Endpoint | undefined {
    if (this.#last?.id !== id) this.#last = this.#endpoints.get(id) ?? this.#named(id);
    return this.#last;
  }

  #named(id: number): Endpoint | undefined {
    if (!this.#anyRequester || id >= REQUESTERS) return undefined;
    const endpoint = newEndpoint(id);
    this.#endpoints.set(id, endpoint);
    return endpoint;
  }

  domain(id: number): Domain | undefined {
    return this.#domains.get(id);
  }

  /** Attaches an endpoint that is nowhere. @throws IommuError of the host; nothing is changed then */
  attach(endpoint: Endpoint, id: number, bypass: boolean): void {
    const domain = this.#domains.get(id) ?? new Domain(id, bypass, this.#host?.create(id, bypass));
    try {
      domain.host?.attach(endpoint.id);
    } catch (error) {
      if (domain.endpoints.size === 0) domain.host?.free();
      throw error;
    }
    this.#domains.set(id, domain);
    domain.endpoints.add(endpoint.id);
    endpoint.domain = domain;
  }

  /** With its last endpoint a domain goes, and its mappings (5.13.6.4.2). */
  detach(endpoint: Endpoint): void {
    const { domain } = endpoint;
    if (domain === undefined) return;
    domain.host?.detach(endpoint.id);
    endpoint.domain = undefined;
    domain.endpoints.delete(endpoint.id);
    this.#host?.rest?.(endpoint.id, this.#passes());
    if (domain.endpoints.size > 0) return;
    this.#domains.delete(domain.id);
    this.mappings -= domain.mappings.size;
    this.#tlb.removeWhere(WHOLE, domain.id | 0, 0, 0, 0, 2 ** 52);
    domain.host?.free();
  }

  /** What becomes of endpoints without a domain has changed. */
  settle(): void {
    for (const { id, domain } of this.#endpoints.values()) if (domain === undefined) this.#host?.rest?.(id, this.#passes());
  }

  reset(): void {
    for (const endpoint of this.#endpoints.values()) {
      this.detach(endpoint);
      endpoint.seen = false;
    }
  }

  /** @throws IommuError of the host; nothing is mapped then */
  map(domain: Domain, start: bigint, last: bigint, physical: bigint, flags: number): void {
    if ((flags & MapFlag.MMIO) === 0) domain.host?.map(start, last, physical, flags);
    domain.mappings.add(start, last, { physical, flags });
    this.mappings++;
  }

  /** Mappings that meet the range, in order. */
  meeting(domain: Domain, start: bigint, last: bigint): Entry<Mapping>[] {
    const found: Entry<Mapping>[] = [];
    for (let at = start; at <= last; ) {
      const entry = domain.mappings.first(at, last);
      if (entry === undefined) break;
      found.push(entry);
      at = entry.last + 1n;
    }
    return found;
  }

  unmap(domain: Domain, { start, last, value }: Entry<Mapping>): void {
    if ((value.flags & MapFlag.MMIO) === 0) domain.host?.unmap(start, last);
    domain.mappings.delete(start);
    this.mappings--;
    this.#tlb.removeWhere(WHOLE, domain.id | 0, 0, 0, Number(start >> PAGE_SHIFT), Number(last >> PAGE_SHIFT));
  }

  /** Output page of a mapping that allows the access, or -1. */
  translate(domain: Domain, page: number, access: number): number {
    const wanted = access & (Access.READ | Access.WRITE);
    const slot = this.#tlb.lookup(domain.id | 0, 0, page);
    if (slot !== -1) return (this.#tlb.data(slot) & wanted) === wanted ? this.#tlb.output(slot, page) : -1;
    const start = BigInt(page) << PAGE_SHIFT;
    const entry = domain.mappings.first(start, start);
    if (entry === undefined) return -1;
    const { physical, flags } = entry.value;
    const out = Number((physical + (start - entry.start)) >> PAGE_SHIFT);
    this.#tlb.insert(domain.id | 0, 0, page, 12, out, flags, domain.id | 0, 0);
    return (flags & wanted) === wanted ? out : -1;
  }
}

function newEndpoint(id: number): Endpoint {
  return { id, domain: undefined, seen: false };
}
