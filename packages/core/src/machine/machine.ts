/**
 * Builds a simulated machine from its description: RAM, units, devices, device
 * nodes. Fixed places: the first unit's registers at 0xfed90000, those of others from 0xfc040000 up, pinned client
 * memory from 64 GiB up to the units' host address width.
 */
import { Bus } from "../bus/bus.js";
import { formatRid, parseRid } from "../bus/rid.js";
import type { DeviceModel } from "../devices/types.js";
import type { IommuDevice } from "../driver/types.js";
import { refuse } from "../errors.js";
import type { CallContext, DeviceNodes, KernelFile, SysfsEntry } from "../files/types.js";
import { DeviceGroup } from "../iommufd/device.js";
import { IommufdFile } from "../iommufd/file.js";
import { FrameAllocator } from "../memory/frame-allocator.js";
import { PhysicalMemory } from "../memory/physical-memory.js";
import { ClientWindows } from "../memory/windows.js";
import { Tracer } from "../trace.js";
import { VfioDeviceFile } from "../vfio/device-file.js";
import { VfioGroup, VfioGroupFile } from "../vfio/group-file.js";
import type { InterruptRouting } from "../vfio/irqs.js";
import type { VfioDevice } from "../vfio/open-device.js";
import { type SysfsUnit, sysfsTree } from "../vfio/sysfs.js";
import { PciFunction } from "../vfio/pci-function.js";
import { InterruptController } from "./interrupts.js";
import { registerBaseOf } from "./places.js";
import { DEFAULT_PLATFORM, LOW_RAM_LIMIT, PLATFORMS } from "./platforms.js";
import { readMachineSpec } from "./spec.js";
import { traceFile } from "./traced-file.js";
import type { IommuFactory, IommuUnit, MachineSpec } from "./types.js";

const HIGH_RAM_BASE = 0x1_0000_0000;
const WINDOW_BASE = 0x10_0000_0000;
/** BARs begin lower than the platform says when there are more than fit below the first unit's registers. */
const BAR_ALIGNMENT = 0x10_0000;
/** Drivers take their frames from here up; below lies what firmware would own. */
const FRAMES_START = 0x10_0000;

export interface MachineParts {
  readonly iommus: readonly IommuFactory[];
  readonly devices: readonly DeviceModel[];
}

export interface Machine {
  readonly spec: MachineSpec;
  readonly memory: PhysicalMemory;
  readonly units: readonly IommuUnit[];
  readonly nodes: DeviceNodes;
  readonly devices: readonly VfioDevice[];
  readonly tracer: Tracer;
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
  const devices = buildDevices(spec, parts, units, memory, interrupts);
  const shown = units.map((unit, i) => unit.sysfs ?? { name: `${spec.iommus[i].type}${i}`, files: {} });
  return { spec, memory, units, devices, tracer, nodes: new MachineNodes(spec, devices, shown, windows, tracer) };
}

function buildDevices(spec: MachineSpec, parts: MachineParts, units: readonly IommuUnit[], memory: PhysicalMemory, interrupts: InterruptController): VfioDevice[] {
  const bus = new Bus(memory, (address, data) => interrupts.deliver(address, data));
  const groups = new Map<string, DeviceGroup>();
  const platform = PLATFORMS[spec.platform ?? DEFAULT_PLATFORM];
  const taken = new Set(spec.devices.map((device) => device.group));
  const built = spec.devices.map((device, i) => {
    const model = parts.devices.find((candidate) => candidate.name === device.model);
    if (model === undefined) {
      const known = parts.devices.map((candidate) => candidate.name).join(", ");
      return refuse("EINVAL", `devices[${i}].model "${device.model}" is not known; there are: ${known || "none"}`, { argument: `devices[${i}].model` });
    }
    const unit = units[device.iommu ?? 0];
    const rid = parseRid(device.bdf);
    const name = `0000:${formatRid(rid)}`;
    const siblings = spec.devices.some((other) => other !== device && parseRid(other.bdf) >> 3 === rid >> 3);
    const place = { multiFunction: siblings && (rid & 7) === 0, platform };
    const pci = made(`devices[${i}].options`, () => new PciFunction(name, bus.connect(rid, unit.hardware), model, device.options ?? {}, place));
    const { pasidBits, ats, pageRequests = false } = pci.device;
    const iommuDevice = { rid, name, pasidBits, ats, pageRequests };
    unit.driver.addDevice(iommuDevice);
    const key = device.group === undefined ? `own ${i}` : `shared ${device.group}`;
    let id = device.group ?? 0;
    while (device.group === undefined && taken.has(id)) id++;
    taken.add(id);
    const group = groups.get(key) ?? new DeviceGroup(id);
    groups.set(key, group);
    const bindable = { device: iommuDevice, driver: unit.driver, group };
    group.members.push(bindable);
    return { pci, bindable, route: routing(unit, iommuDevice, interrupts), exportsBars: platform.exportsBars, open: undefined };
  });
  placeBars(built.map(({ pci }) => pci), memory, platform.barBase);
  return built;
}

/** What a part says about its options is about this place of the machine file. */
function made<T>(argument: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return refuse("EINVAL", `${argument}: ${error.message}`, { argument, rule: "machine description" });
  }
}

/** A message from the interrupt controller, taken through the device's unit where that has a say. */
function routing(unit: IommuUnit, device: IommuDevice, interrupts: InterruptController): InterruptRouting {
  return (handler) => {
    const message = interrupts.allocate(handler);
    try {
      const routed = unit.driver.routeInterrupt?.(device, message);
      const free = (): void => {
        routed?.free();
        interrupts.free(message);
      };
      return { ...(routed ?? message), free };
    } catch (error) {
      interrupts.free(message);
      throw error;
    }
  };
}

/** As firmware does: large BARs first, each aligned to its size. Other devices reach those of memory by DMA. */
function placeBars(functions: readonly PciFunction[], memory: PhysicalMemory, base: number): void {
  const bars = functions.flatMap((pci) => pci.device.bars.map((bar) => ({ pci, bar })));
  const total = bars.reduce((sum, { bar }) => sum + bar.size, 0);
  let address = Math.min(base, Math.floor((registerBaseOf(0) - total) / BAR_ALIGNMENT) * BAR_ALIGNMENT);
  for (const { pci, bar } of bars.sort((a, b) => b.bar.size - a.bar.size)) {
    address = Math.ceil(address / bar.size) * bar.size;
    pci.placeBar(bar.index, address);
    if (bar.memory) memory.addWindow(address, bar.size, bar.memory);
    address += bar.size;
  }
}

class MachineNodes implements DeviceNodes {
  readonly paths: readonly string[];
  readonly sysfs: readonly SysfsEntry[];
  readonly #vfio = new Map<string, VfioDevice>();
  readonly #groups = new Map<string, VfioGroup>();
  readonly #windows: ClientWindows;
  readonly #tracer: Tracer;

  constructor(spec: MachineSpec, devices: readonly VfioDevice[], units: readonly SysfsUnit[], windows: ClientWindows, tracer: Tracer) {
    for (const [i, { vfio }] of spec.devices.entries()) {
      this.#vfio.set(`/dev/vfio/devices/${vfio}`, devices[i]);
      const { group } = devices[i].bindable;
      const path = `/dev/vfio/${group.id}`;
      const members = this.#groups.get(path) ?? new VfioGroup(group);
      members.devices.push(devices[i]);
      this.#groups.set(path, members);
    }
    this.#windows = windows;
    this.#tracer = tracer;
    this.paths = ["/dev/iommu", "/dev/vfio/vfio", ...[...this.#groups.keys(), ...this.#vfio.keys()].sort()];
    this.sysfs = sysfsTree(spec.devices.map(({ vfio: node, iommu = 0 }, i) => ({ ...devices[i], node, unit: units[iommu].name })), units, this.paths);
  }

  open(context: CallContext, path: string): KernelFile {
    return traceFile(this.#tracer, context, this.#create(path));
  }

  #create(path: string): KernelFile {
    if (path === "/dev/iommu" || path === "/dev/vfio/vfio") return new IommufdFile(path, { windows: this.#windows, container: path !== "/dev/iommu" });
    const group = this.#groups.get(path);
    if (group) return new VfioGroupFile(path, group);
    const device = this.#vfio.get(path);
    if (device === undefined) return refuse("ENOENT", `${path} is not a node of this machine; there are: ${this.paths.join(", ")}`, { argument: "path" });
    return new VfioDeviceFile(path, device);
  }
}
