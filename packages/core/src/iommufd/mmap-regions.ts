/** What drivers offer for mmap(2) on /dev/iommu (iommufd facts, 6.3). */
import { refuse } from "../errors.js";
import type { MmapRegion, MmapRequest } from "../files/types.js";
import { SharedPages } from "../memory/shared-pages.js";
import type { MemoryBackend } from "../memory/types.js";
import type { TableObject } from "./object-table.js";

const PAGE = 4096;

interface Offered {
  readonly offset: bigint;
  readonly length: number;
  readonly backend: MemoryBackend;
  readonly owner: () => TableObject | undefined;
}

export class MmapRegions {
  #regions: Offered[] = [];

  /** Takes the lowest free offset. */
  offer(length: number, backend: MemoryBackend, owner: () => TableObject | undefined): bigint {
    let offset = BigInt(PAGE);
    const size = BigInt(Math.ceil(length / PAGE) * PAGE);
    for (const region of this.#regions) {
      if (offset + size <= region.offset) break;
      offset = region.offset + BigInt(Math.ceil(region.length / PAGE) * PAGE);
    }
    this.#regions.push({ offset, length, backend, owner });
    this.#regions.sort((a, b) => (a.offset < b.offset ? -1 : 1));
    return offset;
  }

  withdraw(offset: bigint): void {
    this.#regions = this.#regions.filter((region) => region.offset !== offset);
  }

  /** @throws IommuError EINVAL, EPERM, ENXIO in this order */
  map(request: MmapRequest, mapped: () => () => void): MmapRegion {
    if (request.length % PAGE !== 0) refuse("EINVAL", `length ${request.length} is not made of pages`, { argument: "length" });
    if (!request.shared) refuse("EINVAL", "a region is mapped with MAP_SHARED only", { argument: "flags" });
    if (request.executable) refuse("EPERM", "a region is never executable", { argument: "prot" });
    const region = this.#regions.find((candidate) => candidate.offset === request.position);
    if (region === undefined || region.length !== request.length) {
      return refuse("ENXIO", `no region of ${request.length} bytes is offered at offset 0x${request.position.toString(16)}`, { argument: "offset" });
    }
    const owner = region.owner();
    const releases: (() => void)[] = [];
    const retain = (): void => {
      if (owner) owner.users++;
      releases.push(mapped());
    };
    retain();
    return {
      length: region.length,
      backend: region.backend,
      ...(region.backend instanceof SharedPages && { memory: { pages: region.backend, offset: 0 } }),
      retain,
      unmapped: () => {
        if (owner) owner.users--;
        releases.pop()?.();
      },
    };
  }
}
