/**
 * What /sys shows of a machine's devices, groups and units: the files and links that programs follow from a device's
 * address to its group and its node (Linux, Documentation/ABI/testing/sysfs-bus-pci, sysfs-devices-vfio-dev, sysfs-kernel-iommu_groups).
 */
import { sysfsLink } from "../files/sysfs-tree.js";
import type { SysfsEntry } from "../files/types.js";
import type { DeviceGroup } from "../iommufd/device.js";
import type { VfioDevice } from "./open-device.js";
import { CONFIG_REGION } from "./pci-function.js";

/** A unit under /sys/class/iommu, and the files in it by their path there. */
export interface SysfsUnit {
  readonly name: string;
  readonly files: Readonly<Record<string, string>>;
}

const hex = (value: number, digits: number): string => `0x${value.toString(16).padStart(digits, "0")}`;
const word = (low: number, high: number): number => low | (high << 8);
/** IORESOURCE_MEM */
const RESOURCE_MEMORY = 0x200n;
const BAR0 = 0x10;
const BARS = 6;
/** Major and minor number of every node: programs look whether file and node agree. */
export const NODE_NUMBER = "10:250";

export function unitEntries({ name: unit, files }: SysfsUnit): SysfsEntry[] {
  return [
    ...Object.entries(files).map(([name, content]): SysfsEntry => ({ path: `/sys/devices/virtual/iommu/${unit}/${name}`, kind: "file", content })),
    { path: `/sys/devices/virtual/iommu/${unit}/devices`, kind: "folder" },
    sysfsLink(`/sys/class/iommu/${unit}`, `/sys/devices/virtual/iommu/${unit}`),
  ];
}

/** The folder of a function: its bus hangs off the host bridge. */
export function pciHome(name: string): string {
  return `/sys/devices/pci${name.slice(0, 7)}/${name}`;
}

/** What every VFIO device has, in its folder and elsewhere. */
export function vfioEntries({ pci: { name }, group }: VfioDevice, node: string, home: string): SysfsEntry[] {
  return [
    { path: `${home}/vfio-dev/${node}/dev`, kind: "file", content: `${NODE_NUMBER}\n` },
    sysfsLink(`${home}/vfio-dev/${node}/device`, home),
    sysfsLink(`${home}/iommu_group`, groupFolder(group.id)),
    sysfsLink(`/sys/class/vfio-dev/${node}`, `${home}/vfio-dev/${node}`),
    sysfsLink(`${groupFolder(group.id)}/devices/${name}`, home),
  ];
}

export function groupFolder(id: number): string {
  return `/sys/kernel/iommu_groups/${id}`;
}

/** A group that VFIO made for a device that no IOMMU knows has no type. */
export function groupEntries({ id, members }: DeviceGroup): SysfsEntry[] {
  const file = (name: string, content: string): SysfsEntry => ({ path: `${groupFolder(id)}/${name}`, kind: "file", content });
  return members.length === 0 ? [file("type", "unknown\n")] : [file("type", "DMA\n"), file("name", "")];
}

/** A function that vfio-pci drives, behind a unit. */
export function pciEntries({ pci }: VfioDevice, unit: string): SysfsEntry[] {
  const folder = pciHome(pci.name);
  const config = new Uint8Array(pci.regionSize(CONFIG_REGION));
  pci.readConfig(0, config);
  const [vendor, id] = [word(config[0], config[1]), word(config[2], config[3])];
  const classCode = config[9] | (config[10] << 8) | (config[11] << 16);
  const file = (name: string, content: string | Uint8Array): SysfsEntry => ({ path: `${folder}/${name}`, kind: "file", content });
  return [
    file("vendor", `${hex(vendor, 4)}\n`),
    file("device", `${hex(id, 4)}\n`),
    file("subsystem_vendor", `${hex(word(config[0x2c], config[0x2d]), 4)}\n`),
    file("subsystem_device", `${hex(word(config[0x2e], config[0x2f]), 4)}\n`),
    file("class", `${hex(classCode, 6)}\n`),
    file("revision", `${hex(config[8], 2)}\n`),
    file("config", config),
    file("resource", resources(pci.device.bars, config)),
    file("irq", `${config[0x3c]}\n`),
    file("numa_node", "-1\n"),
    file("enable", "0\n"),
    file("driver_override", "vfio-pci\n"),
    file("uevent", `DRIVER=vfio-pci\nPCI_CLASS=${classCode.toString(16).toUpperCase()}\nPCI_SLOT_NAME=${pci.name}\n`),
    ...(pci.device.resettable ? [file("reset", "")] : []),
    sysfsLink(`${folder}/driver`, "/sys/bus/pci/drivers/vfio-pci"),
    sysfsLink(`${folder}/subsystem`, "/sys/bus/pci"),
    sysfsLink(`${folder}/iommu`, `/sys/devices/virtual/iommu/${unit}`),
    sysfsLink(`/sys/bus/pci/devices/${pci.name}`, folder),
    sysfsLink(`/sys/bus/pci/drivers/vfio-pci/${pci.name}`, folder),
    sysfsLink(`/sys/devices/virtual/iommu/${unit}/devices/${pci.name}`, folder),
  ];
}

/** Start, end and flags of each BAR, the ROM and a bridge's windows. */
function resources(bars: readonly { readonly index: number; readonly size: number }[], config: Uint8Array): string {
  const view = new DataView(config.buffer);
  const line = (start: bigint, end: bigint, flags: bigint): string => `${[start, end, flags].map((value) => `0x${value.toString(16).padStart(16, "0")}`).join(" ")}\n`;
  const lines = Array.from({ length: BARS }, (_, index) => {
    const bar = bars.find((candidate) => candidate.index === index);
    if (bar === undefined) return line(0n, 0n, 0n);
    const start = BigInt(view.getUint32(BAR0 + 4 * index, true) & ~0xf) & 0xffff_ffffn;
    return line(start, start + BigInt(bar.size) - 1n, RESOURCE_MEMORY);
  });
  return lines.join("") + line(0n, 0n, 0n).repeat(7);
}
