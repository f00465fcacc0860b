/** A paging domain: one first-stage or second-stage table under one domain-id. */
import { PageTable, type PageTableFormat, type PagingDomain, Prot, refuse } from "@iommukit/core";
import { FirstStage, SecondStage } from "../spec/formats.js";

/** What a domain needs of its driver. */
export interface DomainHost {
  /** Removes 2^mask pages around `page`, or everything, of the domain from the caches. */
  flush(domain: VtdDomain, range?: { readonly page: number; readonly mask: number }): void;
  freeTables(tables: readonly number[]): void;
  releaseDomain(domain: VtdDomain): void;
  /** Caching mode: mapping needs an invalidation too. */
  readonly cachesAbsent: boolean;
  /** Largest AM of a page-selective invalidation. */
  readonly maxMask: number;
}

export class VtdDomain implements PagingDomain {
  readonly id: number;
  readonly firstStage: boolean;
  readonly table: PageTable;
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  readonly pageSizes: bigint;
  /** PASIDs under which caches may know it, counted. */
  readonly pasids: Map<number, number> = new Map<number, number>();
  readonly #host: DomainHost;

  constructor(id: number, firstStage: boolean, table: PageTable, addressBits: number, host: DomainHost) {
    this.id = id;
    this.firstStage = firstStage;
    this.table = table;
    this.#host = host;
    this.aperture = { start: 0n, last: (1n << BigInt(addressBits)) - 1n };
    this.pageSizes = pageSizes(table.format);
  }

  map(iova: bigint, pa: number, length: number, prot: number): void {
    if (this.firstStage && (prot & Prot.READ) === 0 && (prot & Prot.WRITE) === 0) refuse("EINVAL", "a mapping needs read or write permission");
    const page = Number(iova >> 12n);
    this.table.map(page, pa / 4096, length / 4096, this.#leafBits(prot));
    if (this.#host.cachesAbsent) this.#flush(page, length / 4096);
  }

  /** First stage: a write permission brings read; A and D are set already, as Linux does. */
  #leafBits(prot: number): number {
    const write = (prot & Prot.WRITE) !== 0;
    if (this.firstStage) return FirstStage.P | FirstStage.US | FirstStage.A | FirstStage.D | (write ? FirstStage.RW : 0);
    return ((prot & Prot.READ) !== 0 ? SecondStage.R : 0) | (write ? SecondStage.W : 0);
  }

  /** Tables first, then the caches, then the freed tables: in that order no walk meets a reused frame. */
  unmap(iova: bigint, length: number): void {
    const page = Number(iova >> 12n);
    const { removed, freed } = this.table.unmap(page, length / 4096);
    if (removed > 0) this.#flush(page, length / 4096);
    this.#host.freeTables(freed);
  }

  /** The smallest aligned power of two of pages that covers the range (6.5.2.3). */
  #flush(page: number, count: number): void {
    let mask = 0;
    while (Math.floor(page / 2 ** mask) !== Math.floor((page + count - 1) / 2 ** mask)) mask++;
    if (mask > this.#host.maxMask) this.#host.flush(this);
    else this.#host.flush(this, { page: Math.floor(page / 2 ** mask) * 2 ** mask, mask });
  }

  iovaToPa(iova: bigint): number | undefined {
    const page = this.table.lookup(Number(iova >> 12n));
    return page === -1 ? undefined : page * 4096 + Number(iova & 0xfffn);
  }

  free(): void {
    this.table.free();
    this.#host.releaseDomain(this);
  }
}

function pageSizes(format: PageTableFormat): bigint {
  let sizes = 0n;
  for (let level = 0; level <= format.maxLevel; level++) {
    if ((format.leafLevels >> level) & 1) sizes |= 1n << BigInt(12 + 9 * level);
  }
  return sizes;
}
