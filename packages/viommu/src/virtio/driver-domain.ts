/** An address space of a virtio-iommu's driver: the device forgets mappings with the last endpoint, the driver keeps them. */
import { IntervalTree, type PagingDomain, Prot } from "@iommukit/core";
import { MapFlag } from "./spec.js";

/** What a domain asks of the device. Refusals are thrown as `IommuError`. */
export interface DomainRequests {
  map(domain: number, start: bigint, last: bigint, physical: bigint, flags: number): void;
  unmap(domain: number, start: bigint, last: bigint): void;
}

interface Mapping {
  readonly physical: bigint;
  readonly flags: number;
}

export class VirtioDomain implements PagingDomain {
  readonly id: number;
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  readonly pageSizes: bigint;
  readonly #requests: DomainRequests;
  readonly #mappings = new IntervalTree<Mapping>();
  /** Requesters that are attached. */
  readonly #endpoints = new Set<number>();

  constructor(id: number, requests: DomainRequests, limits: Pick<PagingDomain, "aperture" | "pageSizes">) {
    this.id = id;
    this.#requests = requests;
    this.aperture = limits.aperture;
    this.pageSizes = limits.pageSizes;
  }

  /** The device has attached an endpoint; with the first one it learns what there is. @throws IommuError what it refuses; nobody has joined then */
  join(endpoint: number): void {
    if (this.#endpoints.size === 0) for (const { start, last, value } of this.#mappings) this.#requests.map(this.id, start, last, value.physical, value.flags);
    this.#endpoints.add(endpoint);
  }

  leave(endpoint: number): void {
    this.#endpoints.delete(endpoint);
  }

  map(iova: bigint, pa: number, length: number, prot: number): void {
    const flags = ((prot & Prot.READ) !== 0 ? MapFlag.READ : 0) | ((prot & Prot.WRITE) !== 0 ? MapFlag.WRITE : 0);
    this.#add(iova, iova + BigInt(length) - 1n, { physical: BigInt(pa), flags });
  }

  #add(start: bigint, last: bigint, mapping: Mapping): void {
    if (this.#endpoints.size > 0) this.#requests.map(this.id, start, last, mapping.physical, mapping.flags);
    this.#mappings.add(start, last, mapping);
  }

  /** The device takes whole mappings only (5.13.6.6.2): of one that is cut, the rest is mapped again. */
  unmap(iova: bigint, length: number): void {
    const end = iova + BigInt(length) - 1n;
    for (let met = this.#mappings.first(iova, end); met !== undefined; met = this.#mappings.first(iova, end)) {
      const { start, last, value } = met;
      if (this.#endpoints.size > 0) this.#requests.unmap(this.id, start, last);
      this.#mappings.delete(start);
      if (start < iova) this.#add(start, iova - 1n, value);
      if (last > end) this.#add(end + 1n, last, { ...value, physical: value.physical + (end + 1n - start) });
    }
  }

  iovaToPa(iova: bigint): number | undefined {
    const mapping = this.#mappings.first(iova, iova);
    return mapping && Number(mapping.value.physical + (iova - mapping.start));
  }

  /** The device has forgotten it already. */
  free(): void {
    // Nothing of it is in memory.
  }
}
