/** The mdev bus of a machine, with the parents and mdevs of its description. */
import { IommuError, refuse } from "../errors.js";
import type { MdevBus, MdevBusEnvironment, MdevBusFactory, MdevDriver } from "../mdev/types.js";
import { pciHome } from "../vfio/sysfs.js";
import { type BusDevice, made } from "./devices.js";
import type { MachineSpec } from "./types.js";

/** Command register (PCI 3.0, 6.2.2): memory space and bus master. */
const COMMAND = 4;
const MEMORY_AND_MASTER = 6;
/** Parents that are no devices of the bus live here. */
const VIRTUAL = "/sys/devices/virtual/mdev";

export interface MdevParts {
  readonly mdevBus?: MdevBusFactory | undefined;
  readonly mdevDrivers?: readonly MdevDriver[];
}

/** @throws IommuError EINVAL, and what the bus refuses, with the path in the description */
export function buildMdevs(spec: MachineSpec, { mdevBus, mdevDrivers = [] }: MdevParts, devices: readonly BusDevice[], environment: MdevBusEnvironment): MdevBus | undefined {
  if (mdevBus === undefined) return spec.mdev && refuse("EINVAL", "machine.mdev: no plugin brings mediated devices", { argument: "machine.mdev" });
  const bus = mdevBus(environment);
  for (const { pci, binding, interruptPath } of devices) {
    const parent = pci.device.mediate?.({
      bindable: binding.bindable,
      interruptPath,
      machine: environment.nodes,
      enable: () => {
        pci.enable();
        pci.writeConfig(COMMAND, Uint8Array.of(MEMORY_AND_MASTER, 0));
      },
    });
    if (parent) bus.register(parent, { name: pci.name, home: pciHome(pci.name) });
  }
  for (const [i, { driver: wanted, name, options = {} }] of (spec.mdev?.parents ?? []).entries()) {
    const path = `mdev.parents[${i}]`;
    const known = mdevDrivers.map((candidate) => candidate.name).join(", ");
    const driver = mdevDrivers.find((candidate) => candidate.name === wanted) ?? refuse("EINVAL", `${path}.driver "${wanted}" is not known; there are: ${known || "none"}`, { argument: `${path}.driver` });
    const parent = made(`${path}.options`, () => driver.createParent(options));
    placed(path, () => bus.register(parent, { name, home: `${VIRTUAL}/${name}` }));
  }
  for (const [i, { uuid, type, parent }] of (spec.mdev?.devices ?? []).entries()) placed(`mdev.devices[${i}]`, () => bus.create(parent, type, uuid));
  return bus;
}

/** A refusal of the bus says which part of the description it is about. */
function placed(path: string, run: () => void): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof IommuError)) throw error;
    throw new IommuError(error.errno, { ...error.reason, message: `${path}: ${error.reason.message}` });
  }
}
