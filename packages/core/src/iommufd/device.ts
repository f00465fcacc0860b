/** Bound devices and their groups: attach, replace, detach (iommufd facts, section 5). */
import type { IommuDevice, IommuDriver } from "../driver/types.js";
import { IommuError, refuse } from "../errors.js";
import { HwptPaging } from "./hwpt.js";
import { Ioas } from "./ioas.js";
import type { IommufdContext } from "./context.js";
import type { TableObject } from "./object-table.js";

/** Devices that the IOMMU cannot tell apart: one owner, one page table for each PASID. */
export class DeviceGroup {
  readonly id: number;
  owner: IommufdContext | undefined;
  readonly devices: Set<IommufdDevice> = new Set<IommufdDevice>();

  constructor(id: number) {
    this.id = id;
  }

  /** The page table that some device of the group uses for `pasid`. */
  attachment(pasid: number): HwptPaging | undefined {
    for (const device of this.devices) {
      const hwpt = device.attachments.get(pasid);
      if (hwpt) return hwpt;
    }
    return undefined;
  }
}

/** A device that can be bound: what a machine hands to `IommufdContext.bind`. */
export interface BindableDevice {
  readonly device: IommuDevice;
  readonly driver: IommuDriver;
  readonly group: DeviceGroup;
}

export class IommufdDevice implements TableObject {
  readonly type = "DEVICE";
  readonly id: number;
  /** Its driver holds it: DESTROY of a device is always EBUSY (2.3). */
  users = 1;
  readonly bindable: BindableDevice;
  /** PASID, 0 for the RID itself, to page table. */
  readonly attachments: Map<number, HwptPaging> = new Map<number, HwptPaging>();
  readonly #context: IommufdContext;

  constructor(id: number, context: IommufdContext, bindable: BindableDevice) {
    this.id = id;
    this.#context = context;
    this.bindable = bindable;
  }

  get #driver(): IommuDriver {
    return this.bindable.driver;
  }

  /**
   * Attaches an IOAS or HWPT, in place of what was attached before; returns the id of the page table in use.
   * @throws IommuError ENOENT, EINVAL, EADDRINUSE and what pinning or the driver refuses
   */
  attach(pasid: number, ptId: number): number {
    const target = this.#context.objects.get(ptId);
    if (target === undefined) return refuse("ENOENT", `pt_id ${ptId}: no object has this id`, { argument: "pt_id" });
    if (target instanceof HwptPaging) return this.#attachHwpt(pasid, target);
    if (target instanceof Ioas) return this.#attachIoas(pasid, target);
    return refuse("EINVAL", `pt_id ${ptId} is a ${target.type}, neither an IOAS nor a page table`, { argument: "pt_id" });
  }

  /** Automatic page tables of the IOAS in creation order; a driver's EINVAL means "try the next" (5.2). */
  #attachIoas(pasid: number, ioas: Ioas): number {
    for (const hwpt of ioas.hwpts) {
      if (!hwpt.automatic) continue;
      try {
        return this.#attachHwpt(pasid, hwpt);
      } catch (error) {
        if (!(error instanceof IommuError) || error.errno !== "EINVAL") throw error;
      }
    }
    const hwpt = this.#context.createHwpt(ioas, this, { automatic: true });
    try {
      return this.#attachHwpt(pasid, hwpt);
    } catch (error) {
      this.#context.objects.remove(hwpt);
      throw error;
    }
  }

  #attachHwpt(pasid: number, hwpt: HwptPaging): number {
    const old = this.attachments.get(pasid);
    if (old === hwpt) return hwpt.id;
    const group = this.bindable.group.attachment(pasid);
    if (old === undefined && group !== undefined && group !== hwpt) {
      refuse("EINVAL", `group ${this.bindable.group.id} already uses page table ${group.id}, not ${hwpt.id}`, { argument: "pt_id" });
    }
    this.#checkPasid(pasid, hwpt);
    const movesIoas = pasid === 0 && old?.ioas !== hwpt.ioas;
    if (movesIoas) this.#reserve(hwpt.ioas);
    try {
      this.#driver.attach(this.bindable.device, pasid, hwpt.domain);
    } catch (error) {
      if (movesIoas) hwpt.ioas.unreserve(this);
      throw error;
    }
    this.attachments.set(pasid, hwpt);
    hwpt.users++;
    if (old !== undefined) this.#leave(old, movesIoas);
    return hwpt.id;
  }

  /** PASID 0 is the RID. Mixing needs page tables allocated for it on both sides (5.4). */
  #checkPasid(pasid: number, hwpt: HwptPaging): void {
    const rule = "IOMMU_HWPT_ALLOC_PASID";
    const others = [...this.bindable.group.devices].some((device) => [...device.attachments.keys()].some((used) => used !== 0));
    if (pasid === 0 ? others && !hwpt.pasidCompatible : !hwpt.pasidCompatible) {
      refuse("EINVAL", `page table ${hwpt.id} was not allocated for use with PASIDs`, { argument: "pt_id", rule });
    }
    if (pasid === 0) return;
    const rid = this.attachments.get(0);
    if (rid && !rid.pasidCompatible) {
      refuse("EINVAL", `the device itself uses page table ${rid.id}, which was not allocated for use with PASIDs`, { argument: "pt_id", rule });
    }
    const limit = 2 ** this.bindable.driver.capabilities(this.bindable.device).maxPasidLog2;
    if (limit > 1 && pasid >= limit) refuse("EINVAL", `PASID ${pasid} is not below the device's limit ${limit}`, { argument: "pasid" });
  }

  #reserve(ioas: Ioas): void {
    try {
      for (const region of this.#driver.reservedRegions(this.bindable.device)) {
        if (region.kind === "direct-relaxable") continue;
        ioas.reserve(region, this, `${region.kind} of ${this.bindable.device.name}`);
      }
    } catch (error) {
      ioas.unreserve(this);
      throw error;
    }
  }

  /** Blocks the device; no-op when nothing is attached (5.3). */
  detach(pasid: number): void {
    const hwpt = this.attachments.get(pasid);
    if (hwpt === undefined) return;
    this.#driver.detach(this.bindable.device, pasid);
    this.attachments.delete(pasid);
    this.#leave(hwpt, pasid === 0);
  }

  #leave(hwpt: HwptPaging, leavesIoas: boolean): void {
    if (leavesIoas) hwpt.ioas.unreserve(this);
    hwpt.users--;
    if (hwpt.automatic && hwpt.users === 0) this.#context.objects.remove(hwpt);
  }

  /** Close of the device file: detaches everything, the id goes. */
  unbind(): void {
    for (const pasid of [...this.attachments.keys()]) this.detach(pasid);
    this.bindable.group.devices.delete(this);
    if (this.bindable.group.devices.size === 0) this.bindable.group.owner = undefined;
    this.#context.objects.remove(this);
    this.#context.put();
  }

  destroy(): void {
    // Everything was given back by `unbind`.
  }
}
