/** A mediated device that the IOMMU tells from its siblings: its parent's requester id, and PASIDs of its own (RFC v2, R23). */
import type { BoundDevice, VfioBinding } from "./binding.js";
import type { IommufdContext } from "./context.js";
import type { BindableDevice, DeviceGroup } from "./device.js";
import { RequesterSlice, type RequesterSlots, type SliceOptions, type UserPasids } from "./requester-slice.js";
import { RidBinding } from "./rid-binding.js";

export interface PasidBindingOptions extends SliceOptions {
  /** Its own, of one device. */
  readonly group: DeviceGroup;
  /** What the user of this iommufd may do with PASIDs. @throws IommuError why it may not have the device */
  readonly pasidsOf: (context: IommufdContext) => UserPasids;
}

export class PasidBinding implements VfioBinding {
  readonly #options: PasidBindingOptions;
  readonly #slice: RequesterSlice;
  readonly #bindable: BindableDevice;

  constructor(slots: RequesterSlots, options: PasidBindingOptions) {
    const { rid, pasidBits, ats, pageRequests = false } = slots.parent.device;
    const { name, group } = options;
    this.#options = options;
    this.#slice = new RequesterSlice(slots, options);
    this.#bindable = { device: { rid, name, pasidBits, ats, pageRequests }, driver: this.#slice, group };
    group.members.push(this.#bindable);
  }

  /** The parent's own security context is not touched: the device is secure while its PASID entries are absent (R24). */
  bind(context: IommufdContext): BoundDevice {
    const bound = new RidBinding(this.#bindable).bind(context);
    try {
      const pasids = this.#options.pasidsOf(context);
      this.#slice.pasids = pasids;
      return new PasidBound(bound, pasids);
    } catch (error) {
      bound.unbind();
      throw error;
    }
  }
}

class PasidBound implements BoundDevice {
  readonly #bound: BoundDevice;
  readonly #pasids: UserPasids;

  constructor(bound: BoundDevice, pasids: UserPasids) {
    this.#bound = bound;
    this.#pasids = pasids;
  }

  get id(): number {
    return this.#bound.id;
  }

  get context(): IommufdContext {
    return this.#bound.context;
  }

  attach(pasid: number | undefined, ptId: number): number {
    return this.#bound.attach(pasid, ptId);
  }

  detach(pasid: number | undefined): void {
    if (pasid !== undefined) this.#pasids.mayDetach?.(pasid);
    this.#bound.detach(pasid);
  }

  unbind(): void {
    this.#pasids.close?.();
    this.#bound.unbind();
  }
}
