// @iommukit/mdev: mediated devices and their parents.
import type { DeviceModel } from "@iommukit/core";

/** Parents, by their names in machine files. */
export const deviceModels: readonly DeviceModel[] = [];
