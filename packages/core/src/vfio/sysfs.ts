/**
 * What /sys shows of a machine's devices, groups and units: the files and links that programs follow from a device's
 * address to its group and its node (Linux, Documentation/ABI/testing/sysfs-bus-pci, sysfs-devices-vfio-dev, sysfs-kernel-iommu_groups).
 */
import type { SysfsEntry } from "../files/types.js";
import type { VfioDevice } from "./open-device.js";
import { CONFIG_REGION } from "./pci-function.js";

export interface SysfsDevice extends VfioDevice {
  /** "vfio0" */
  readonly node: string;
  /** Name of the unit that it is behind. */
  readonly unit: string;
}

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

export function sysfsTree(devices: readonly SysfsDevice[], units: readonly SysfsUnit[], nodes: readonly string[]): SysfsEntry[] {
  const entries: SysfsEntry[] = [
    ...units.flatMap(unitEntries),
    { path: "/sys/bus/pci/drivers/vfio-pci", kind: "folder" },
    ...nodes.filter((path) => path.startsWith("/dev/vfio/")).map((path): SysfsEntry => ({ path, kind: "file", content: "" })),
  ];
  const groups = new Set<number>();
  for (const device of devices) {
    entries.push(...deviceEntries(device));
    const { id } = device.bindable.group;
    const folder = `/sys/kernel/iommu_groups/${id}`;
    if (!groups.has(id)) entries.push({ path: `${folder}/type`, kind: "file", content: "DMA\n" }, { path: `${folder}/name`, kind: "file", content: "" });
    groups.add(id);
    entries.push(link(`${folder}/devices/${device.pci.name}`, home(device)));
  }
  return entries;
}

function unitEntries({ name: unit, files }: SysfsUnit): SysfsEntry[] {
  return [
    ...Object.entries(files).map(([name, content]): SysfsEntry => ({ path: `/sys/devices/virtual/iommu/${unit}/${name}`, kind: "file", content })),
    { path: `/sys/devices/virtual/iommu/${unit}/devices`, kind: "folder" },
    link(`/sys/class/iommu/${unit}`, `/sys/devices/virtual/iommu/${unit}`),
  ];
}

/** The folder of a device: its bus hangs off the host bridge. */
function home({ pci: { name } }: VfioDevice): string {
  return `/sys/devices/pci${name.slice(0, 7)}/${name}`;
}

function deviceEntries(device: SysfsDevice): SysfsEntry[] {
  const { pci, node, bindable, unit } = device;
  const folder = home(device);
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
    file(`vfio-dev/${node}/dev`, `${NODE_NUMBER}\n`),
    link(`${folder}/vfio-dev/${node}/device`, folder),
    link(`${folder}/driver`, "/sys/bus/pci/drivers/vfio-pci"),
    link(`${folder}/subsystem`, "/sys/bus/pci"),
    link(`${folder}/iommu_group`, `/sys/kernel/iommu_groups/${bindable.group.id}`),
    link(`${folder}/iommu`, `/sys/devices/virtual/iommu/${unit}`),
    link(`/sys/bus/pci/devices/${pci.name}`, folder),
    link(`/sys/bus/pci/drivers/vfio-pci/${pci.name}`, folder),
    link(`/sys/class/vfio-dev/${node}`, `${folder}/vfio-dev/${node}`),
    link(`/sys/devices/virtual/iommu/${unit}/devices/${pci.name}`, folder),
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

/** A relative link, as sysfs makes them. */
function link(path: string, target: string): SysfsEntry {
  const from = path.split("/").slice(1, -1);
  const to = target.split("/").slice(1);
  let common = 0;
  while (common < from.length && common < to.length && from[common] === to[common]) common++;
  return { path, kind: "link", target: [...from.slice(common).map(() => ".."), ...to.slice(common)].join("/") };
}
