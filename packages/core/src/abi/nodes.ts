/** Which requests belong to which file. */
import type { IoctlNode } from "./ioctls.js";

/** Whose requests a file answers; /dev/iommu takes the container's, too. */
export function nodesOf(path: string): readonly IoctlNode[] {
  if (path.startsWith("/dev/vfio/devices/") || /^\/dev\/vfio\/[0-9a-f]{4}:/.test(path)) return ["device"];
  return /^\/dev\/vfio\/\d+$/.test(path) ? ["group"] : ["iommufd", "container"];
}
