/** A hardware page table: one driver domain that mirrors one IOAS. */
import type { IommuDriver, PagingDomain } from "../driver/types.js";
import type { Ioas } from "./ioas.js";
import type { TableObject } from "./object-table.js";

export class HwptPaging implements TableObject {
  readonly type = "HWPT_PAGING";
  readonly id: number;
  users = 0;
  readonly ioas: Ioas;
  readonly driver: IommuDriver;
  readonly domain: PagingDomain;
  /** Made by an attach to an IOAS; goes with its last attachment. */
  readonly automatic: boolean;
  /** Allocated with IOMMU_HWPT_ALLOC_PASID. */
  readonly pasidCompatible: boolean;

  /** Joins the IOAS: fills the domain. @throws IommuError as `Ioas.addHwpt`; the domain is freed then */
  constructor(id: number, ioas: Ioas, driver: IommuDriver, domain: PagingDomain, options: { automatic: boolean; pasid: boolean }) {
    this.id = id;
    this.ioas = ioas;
    this.driver = driver;
    this.domain = domain;
    this.automatic = options.automatic;
    this.pasidCompatible = options.pasid;
    try {
      ioas.addHwpt(this);
    } catch (error) {
      domain.free();
      throw error;
    }
  }

  destroy(): void {
    this.ioas.removeHwpt(this);
    this.domain.free();
  }
}
