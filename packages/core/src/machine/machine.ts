/**
 * Builds a simulated machine from its description: RAM, units, devices, device
 * nodes. Fixed places: the first unit's registers at 0xfed90000, those of others from 0xfc040000 up, pinned client
 * memory from 64 GiB up to the units' host address width.
 */
import type { DeviceModel } from "../devices/types.js";
import { refuse } from "../errors.js";
import type { MdevBus, MdevBusFactory, MdevDriver } from "../mdev/types.js";
import { FrameAllocator } from "../memory/frame-allocator.js";
import { PhysicalMemory } from "../memory/physical-memory.js";
import { ClientWindows } from "../memory/windows.js";
import { Tracer } from "../trace.js";
import { pciEntries, pciHome, unitEntries } from "../vfio/sysfs.js";
import { buildDevices, type BusDevice, made } from "./devices.js";
import { InterruptController } from "./interrupts.js";
import { buildMdevs } from "./mdevs.js";
import { MachineNodes } from "./nodes.js";
import { registerBaseOf } from "./places.js";
import { LOW_RAM_LIMIT } from "./platforms.js";
import { readMachineSpec } from "./spec.js";
import type { IommuFactory, IommuUnit, MachineSpec } from "./types.js";

const HIGH_RAM_BASE = 0x1_0000_0000;
const WINDOW_BASE = 0x10_0000_0000;
/** Drivers take their frames from here up; below lies what firmware would own. */
const FRAMES_START = 0x10_0000;

export interface MachineParts {
  readonly iommus: readonly IommuFactory[];
  readonly devices: readonly DeviceModel[];
  /** For machines with mediated devices. */
  readonly mdevBus?: MdevBusFactory | undefined;
  readonly mdevDrivers?: readonly MdevDriver[];
}

export interface Machine {
  readonly spec: MachineSpec;
  readonly memory: PhysicalMemory;
  /** Frames of RAM for those who are the machine's operating system. */
  readonly frames: FrameAllocator;
  readonly units: readonly IommuUnit[];
  readonly nodes: MachineNodes;
  /** Those of its description, in order. */
  readonly devices: readonly BusDevice[];
  readonly tracer: Tracer;
  /** Absent when there was nothing to make one. */
  readonly mdev?: MdevBus;
}

/**
 * @param description a `MachineSpec`, checked here: it may come from a file
 * @throws IommuError EINVAL with the path of what is wrong, such as devices[1].bdf
 */
export function buildMachine(description: unknown, parts: MachineParts, tracer: Tracer = new Tracer()): Machine {
  const spec = readMachineSpec(description);
  const memory = new PhysicalMemory();
  const size = spec.memory.size;
  const low = Math.min(size, LOW_RAM_LIMIT);
  memory.addRam(0, low);
  if (size > low) memory.addRam(HIGH_RAM_BASE, size - low);
  const frames = new FrameAllocator(memory, FRAMES_START, low);
  const interrupts = new InterruptController();
  const units = spec.iommus.map((iommu, i) => {
    const factory = parts.iommus.find((candidate) => candidate.name === iommu.type);
    if (factory === undefined) {
      const known = parts.iommus.map((candidate) => candidate.name).join(", ");
      return refuse("EINVAL", `iommus[${i}].type "${iommu.type}" is not known; there are: ${known || "none"}`, { argument: `iommus[${i}].type` });
    }
    const environment = { name: `${iommu.type}${i}`, memory, frames, interrupts, tracer, registerBase: registerBaseOf(i) };
    return made(`iommus[${i}].options`, () => factory.create(environment, iommu.options ?? {}));
  });
  const width = Math.min(...units.map((unit) => unit.hostAddressWidth));
  const windows = new ClientWindows(memory, WINDOW_BASE, 2 ** width);
  const nodes = new MachineNodes(windows, tracer);
  const devices = buildDevices(spec, { models: parts.devices, units, memory, interrupts, nodes });
  const shown = units.map((unit, i) => unit.sysfs ?? { name: `${spec.iommus[i].type}${i}`, files: {} });
  nodes.tree.add([...shown.flatMap(unitEntries), { path: "/sys/bus/pci/drivers/vfio-pci", kind: "folder" }]);
  for (const [i, { vfio, iommu = 0 }] of spec.devices.entries()) {
    nodes.tree.add(pciEntries(devices[i], shown[iommu].name));
    nodes.addDevice(devices[i], pciHome(devices[i].pci.name), vfio);
  }
  const mdev = buildMdevs(spec, parts, devices, { nodes, tracer });
  return { spec, memory, frames, units, devices, tracer, nodes, ...(mdev && { mdev }) };
}
