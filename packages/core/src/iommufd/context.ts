/** One open of /dev/iommu: an id space with its objects. */
import type { IommuDriver, PagingDomainOptions } from "../driver/types.js";
import { IommuError, refuse } from "../errors.js";
import type { ClientWindows } from "../memory/windows.js";
import { type BindableDevice, IommufdDevice } from "./device.js";
import { HwptPaging } from "./hwpt.js";
import type { Ioas } from "./ioas.js";
import { ObjectTable } from "./object-table.js";

export class IommufdContext {
  readonly objects: ObjectTable = new ObjectTable();
  readonly windows: ClientWindows;
  /** Open files that keep it: /dev/iommu itself and each bound device (2.4). */
  #holders = 1;

  constructor(windows: ClientWindows) {
    this.windows = windows;
  }

  /**
   * Takes a device in and owns its DMA, which is blocked until an attach.
   * @throws IommuError EBUSY when its group belongs to another context
   */
  bind(bindable: BindableDevice): IommufdDevice {
    const { group } = bindable;
    if (group.owner !== undefined && group.owner !== this) {
      refuse("EBUSY", `group ${group.id} of ${bindable.device.name} belongs to another open of /dev/iommu`, { argument: "iommufd" });
    }
    const device = new IommufdDevice(this.objects.reserve(), this, bindable);
    group.owner = this;
    group.devices.add(device);
    this.objects.publish(device);
    this.#holders++;
    return device;
  }

  /** Makes a page table for an IOAS, filled with all that is mapped there. */
  createHwpt(ioas: Ioas, device: IommufdDevice, options: PagingDomainOptions & { readonly automatic: boolean }): HwptPaging {
    const id = this.objects.reserve();
    try {
      const hwpt = this.buildHwpt(id, ioas, device, options);
      this.objects.publish(hwpt);
      return hwpt;
    } catch (error) {
      this.objects.abandon(id);
      throw error;
    }
  }

  /** The same with an id that the caller publishes. */
  buildHwpt(id: number, ioas: Ioas, device: IommufdDevice, options: PagingDomainOptions & { readonly automatic: boolean }): HwptPaging {
    const { driver, device: hardware } = device.bindable;
    const { automatic, ...wanted } = options;
    const domain = allocate(driver, hardware, wanted);
    return new HwptPaging(id, ioas, driver, domain, { automatic, pasid: wanted.pasid ?? false });
  }

  /** One holder less; the last one takes everything with it. */
  put(): void {
    if (--this.#holders === 0) this.objects.clear();
  }
}

function allocate(driver: IommuDriver, device: BindableDevice["device"], options: PagingDomainOptions): ReturnType<IommuDriver["allocPaging"]> {
  if (options.dirtyTracking && !driver.capabilities(device).dirtyTracking) {
    throw new IommuError("EOPNOTSUPP", { message: `${device.name} cannot track dirty pages`, argument: "flags", rule: "IOMMU_HW_CAP_DIRTY_TRACKING" });
  }
  return driver.allocPaging(device, options);
}
