/** The same nodes, opened in another way: what a layer between a door and a machine puts around them. */
import type { DeviceNodes } from "./types.js";

export function openedBy(nodes: DeviceNodes, open: DeviceNodes["open"]): DeviceNodes {
  const { watch } = nodes;
  return {
    get paths() {
      return nodes.paths;
    },
    ...(nodes.sysfs && {
      get sysfs() {
        return nodes.sysfs;
      },
    }),
    ...(watch && { watch: (listener) => watch.call(nodes, listener) }),
    open,
  };
}
