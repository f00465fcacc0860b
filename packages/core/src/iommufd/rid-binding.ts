/** A physical function: the IOMMU knows its requester id, and each PASID that it sends (iommufd facts, 10.2). */
import { refuse } from "../errors.js";
import type { BoundDevice, VfioBinding } from "./binding.js";
import type { IommufdContext } from "./context.js";
import type { BindableDevice, IommufdDevice } from "./device.js";

const PASID_LIMIT = 2 ** 31;

export class RidBinding implements VfioBinding {
  readonly bindable: BindableDevice;

  constructor(bindable: BindableDevice) {
    this.bindable = bindable;
  }

  bind(context: IommufdContext): BoundDevice {
    return new RidBound(context.bind(this.bindable));
  }
}

class RidBound implements BoundDevice {
  readonly #device: IommufdDevice;
  /** Attached without a PASID. The calls with one keep their own list, in which PASID 0 is not the RID. */
  #attached = false;
  readonly #pasids = new Set<number>();

  constructor(device: IommufdDevice) {
    this.#device = device;
  }

  get id(): number {
    return this.#device.id;
  }

  get context(): IommufdContext {
    return this.#device.context;
  }

  attach(pasid: number | undefined, ptId: number): number {
    if (pasid === undefined) {
      const hwpt = this.#attached ? this.#device.replace(0, ptId) : this.#device.attach(0, ptId);
      this.#attached = true;
      return hwpt;
    }
    if (this.#pasids.has(pasid)) return this.#device.replace(pasid, ptId);
    if (pasid >= PASID_LIMIT) refuse("ENOSPC", `pasid ${pasid} is not below 2^31`, { argument: "pasid" });
    const hwpt = this.#device.attach(pasid, ptId);
    this.#pasids.add(pasid);
    return hwpt;
  }

  detach(pasid: number | undefined): void {
    const attached = pasid === undefined ? this.#attached : this.#pasids.delete(pasid);
    if (pasid === undefined) this.#attached = false;
    if (attached) this.#device.detach(pasid ?? 0);
  }

  unbind(): void {
    this.#device.unbind();
  }
}
