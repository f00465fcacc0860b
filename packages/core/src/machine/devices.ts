/** The PCI functions of a machine's description: each behind its unit, in its group, with its BARs where firmware puts them. */
import { Bus } from "../bus/bus.js";
import { gatedPort } from "../bus/mastering.js";
import { formatRid, parseRid } from "../bus/rid.js";
import type { DmaPort } from "../bus/types.js";
import type { DeviceModel } from "../devices/types.js";
import type { IommuDevice } from "../driver/types.js";
import { refuse } from "../errors.js";
import type { DeviceGroup } from "../iommufd/device.js";
import { RidBinding } from "../iommufd/rid-binding.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import type { InterruptPath } from "../vfio/irqs.js";
import type { VfioDevice } from "../vfio/open-device.js";
import { PciFunction } from "../vfio/pci-function.js";
import type { InterruptController } from "./interrupts.js";
import type { MachineNodes } from "./nodes.js";
import { registerBaseOf } from "./places.js";
import { DEFAULT_PLATFORM, PLATFORMS } from "./platforms.js";
import type { IommuUnit, MachineSpec } from "./types.js";

/** BARs begin lower than the platform says when there are more than fit below the first unit's registers. */
const BAR_ALIGNMENT = 0x10_0000;

/** A function of the bus. */
export interface BusDevice extends VfioDevice {
  readonly rid: number;
  readonly binding: RidBinding;
  readonly interruptPath: InterruptPath;
}

/** What the functions of a machine are built from and on. */
export interface DeviceSurroundings {
  readonly models: readonly DeviceModel[];
  readonly units: readonly IommuUnit[];
  readonly memory: PhysicalMemory;
  readonly interrupts: InterruptController;
  readonly nodes: MachineNodes;
}

export function buildDevices(spec: MachineSpec, { models, units, memory, interrupts, nodes }: DeviceSurroundings): BusDevice[] {
  const bus = new Bus(memory, (address, data) => interrupts.deliver(address, data));
  const platform = PLATFORMS[spec.platform ?? DEFAULT_PLATFORM];
  const wanted = new Set(spec.devices.flatMap(({ group }) => (group === undefined ? [] : [group])));
  const shared = new Map<number | undefined, DeviceGroup>([...wanted].map((id) => [id, nodes.newGroup(id)]));
  const built = spec.devices.map((device, i) => {
    const model = models.find((candidate) => candidate.name === device.model);
    if (model === undefined) {
      const known = models.map((candidate) => candidate.name).join(", ");
      return refuse("EINVAL", `devices[${i}].model "${device.model}" is not known; there are: ${known || "none"}`, { argument: `devices[${i}].model` });
    }
    const unit = units[device.iommu ?? 0];
    const rid = parseRid(device.bdf);
    const name = `0000:${formatRid(rid)}`;
    const siblings = spec.devices.some((other) => other !== device && parseRid(other.bdf) >> 3 === rid >> 3);
    const place = { multiFunction: siblings && (rid & 7) === 0, platform };
    let port = bus.connect(rid, unit.hardware);
    const pci = made(`devices[${i}].options`, () => new PciFunction(name, place, (host, mastering) => {
      if (!model.ungated) port = gatedPort(port, mastering);
      return model.create(port, device.options ?? {}, host);
    }));
    const { pasidBits, ats, pageRequests = false, stalls = false } = pci.device;
    const iommuDevice = { rid, name, pasidBits, ats, pageRequests, stalls };
    unit.driver.addDevice(iommuDevice);
    const group = shared.get(device.group) ?? nodes.newGroup();
    const bindable = { device: iommuDevice, driver: unit.driver, group };
    group.members.push(bindable);
    return {
      rid,
      pci,
      binding: new RidBinding(bindable),
      group,
      interruptPath: throughUnit(unit, iommuDevice, port, interrupts),
      exportsBars: platform.exportsBars,
      open: undefined,
      holders: 0,
    };
  });
  placeBars(built.map(({ pci }) => pci), memory, platform.barBase);
  return built;
}

/** What a part says about its options is about this place of the machine file. */
export function made<T>(argument: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return refuse("EINVAL", `${argument}: ${error.message}`, { argument, rule: "machine description" });
  }
}

/** Messages from the interrupt controller, taken through the device's unit where that has a say; the device writes them to its port. */
function throughUnit(unit: IommuUnit, device: IommuDevice, port: DmaPort, interrupts: InterruptController): InterruptPath {
  return (handler) => {
    const message = interrupts.allocate(handler);
    try {
      const routed = unit.driver.routeInterrupt?.(device, message);
      const { address, data } = routed ?? message;
      return {
        message: { address, data },
        send: () => void port.interrupt(address, data),
        free: () => {
          routed?.free();
          interrupts.free(message);
        },
      };
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
