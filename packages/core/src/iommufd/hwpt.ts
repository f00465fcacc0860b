/** Hardware page tables: a domain that mirrors an IOAS, or a guest's own first stage on top of one. */
import type { IommuDriver, NestedDomain, PagingDomain } from "../driver/types.js";
import type { AreaMirror } from "./area.js";
import type { FaultQueue } from "./fault-queue.js";
import type { Ioas } from "./ioas.js";
import type { TableObject } from "./object-table.js";
import type { Viommu } from "./viommu.js";

export interface HwptOptions {
  /** Made by an attach to an IOAS; goes with its last attachment. */
  readonly automatic?: boolean;
  /** Allocated with IOMMU_HWPT_ALLOC_PASID. */
  readonly pasid?: boolean;
  readonly nestParent?: boolean;
  readonly dirtyTracking?: boolean;
}

abstract class Hwpt implements TableObject {
  abstract readonly type: "HWPT_PAGING" | "HWPT_NESTED";
  readonly id: number;
  users = 0;
  readonly driver: IommuDriver;
  /** Where page requests of attached devices go. */
  #faults: FaultQueue | undefined;

  constructor(id: number, driver: IommuDriver) {
    this.id = id;
    this.driver = driver;
  }

  get faults(): FaultQueue | undefined {
    return this.#faults;
  }

  set faults(queue: FaultQueue) {
    this.#faults = queue;
    queue.users++;
  }

  destroy(): void {
    if (this.#faults) this.#faults.users--;
  }
}

export class HwptPaging extends Hwpt implements AreaMirror {
  readonly type = "HWPT_PAGING";
  readonly ioas: Ioas;
  readonly domain: PagingDomain;
  readonly automatic: boolean;
  readonly pasidCompatible: boolean;
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
  readonly emptied: Set<bigint> = new Set<bigint>();

  constructor(id: number, ioas: Ioas, driver: IommuDriver, domain: PagingDomain, options: HwptOptions) {
    super(id, driver);
    this.ioas = ioas;
    this.domain = domain;
    this.automatic = options.automatic ?? false;
    this.pasidCompatible = options.pasid ?? false;
    this.nestParent = options.nestParent ?? false;
    this.dirtyTracking = options.dirtyTracking ?? false;
  }

  override destroy(): void {
    super.destroy();
    this.ioas.removeHwpt(this);
    this.domain.free();
  }
}

export class HwptNested extends Hwpt {
  readonly type = "HWPT_NESTED";
  readonly parent: HwptPaging;
  readonly viommu: Viommu | undefined;
  readonly domain: NestedDomain;
  readonly pasidCompatible: boolean;

  constructor(id: number, parent: HwptPaging, viommu: Viommu | undefined, domain: NestedDomain, pasid: boolean) {
    super(id, parent.driver);
    this.parent = parent;
    this.viommu = viommu;
    this.domain = domain;
    this.pasidCompatible = pasid;
    (viommu ?? parent).users++;
  }

  /** Reserved ranges of attached devices go where addresses end up. */
  get ioas(): Ioas {
    return this.parent.ioas;
  }

  override destroy(): void {
    super.destroy();
    this.domain.free();
    (this.viommu ?? this.parent).users--;
  }
}

export type AnyHwpt = HwptPaging | HwptNested;
