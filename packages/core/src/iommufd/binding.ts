/**
 * How a VFIO device meets iommufd. Its driver chooses one of three forms: its requester id (`RidBinding`), its parent's requester id
 * with a PASID, or software that reaches memory through an access object and that no IOMMU knows (`SoftwareBinding`).
 */
import type { IommufdContext } from "./context.js";

export interface VfioBinding {
  /** @throws IommuError EPERM, EINVAL, EBUSY, as the form has it */
  bind(context: IommufdContext): BoundDevice;
}

/** A device from bind to unbind. */
export interface BoundDevice {
  /** `out_devid`: of a DEVICE object, or of an ACCESS object. */
  readonly id: number;
  readonly context: IommufdContext;
  /**
   * Attaches, or replaces what the same kind of call attached; returns the id of what is in use.
   * @param pasid undefined for the device itself @throws IommuError EOPNOTSUPP for a PASID that the form does not take
   */
  attach(pasid: number | undefined, ptId: number): number;
  /** Nothing happens when the same kind of call attached nothing. @throws IommuError EOPNOTSUPP, as for attach */
  detach(pasid: number | undefined): void;
  /** The last use is over: everything is detached, and the id goes. */
  unbind(): void;
}
