// @iommukit/viommu: each virtual IOMMU has a subpath of its own, so that users load what they use.
export { VirtioIommu } from "./virtio/index.js";
export type { VirtioIommuOptions } from "./virtio/index.js";
