/** Which paths are the simulated machine's: its nodes, its part of /sys, and what /proc tells of pinned pages. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Folders that the tree replaces, as in the shim (native/sysfs.c). "/sys/devices/pci" stands for every host bridge. */
const TREE = new RegExp(
  `^(${[
    "/sys/bus/pci", "/sys/class/vfio", "/sys/class/vfio-dev", "/sys/class/iommu", "/sys/devices/virtual/iommu", "/sys/devices/virtual/vfio", "/sys/devices/virtual/mdev", "/sys/class/mdev_bus", "/sys/bus/mdev",
    "/sys/kernel/iommu_groups", "/sys/kernel/debug/iommu", "/dev/vfio",
  ].join("|")})(/|$)|^/sys/devices/pci`,
);
const FOLDERS: ReadonlySet<string> = new Set(["/dev/vfio/", "/dev/vfio/devices", "/dev/vfio/devices/"]);

/** True for paths that only the door answers for, whether there is such a node or not. */
export function isNode(path: string): boolean {
  return path === "/dev/iommu" || (path.startsWith("/dev/vfio/") && !FOLDERS.has(path));
}

/** Where a path of the simulated machine's /sys really is; undefined for other paths. */
export function redirected(path: string, tree: string | undefined): string | undefined {
  return tree !== undefined && TREE.test(path) ? join(tree, path) : undefined;
}

/** The process whose /proc/PID/status a path names. */
export function statusOf(path: string, self: () => number): number | undefined {
  const match = /^\/proc\/(self|thread-self|\d+)\/status$/.exec(path);
  if (match === null) return undefined;
  return match[1].endsWith("self") ? self() : Number(match[1]);
}

/** That file, with the pages that the door has pinned and locked added to VmPin and VmLck. */
export function statusWith(pid: number, pinned: number, locked: number): string {
  const more: Readonly<Record<string, number>> = { VmPin: pinned, VmLck: locked };
  return readFileSync(`/proc/${pid}/status`, "latin1").replace(/^(VmPin|VmLck):\s*(\d+) kB$/gm, (_, name: string, kib: string) => `${name}:\t${String(Number(kib) + more[name] * 4).padStart(8)} kB`);
}
