/** A virtio-iommu as a machine's IOMMU: what guests of QEMU and Cloud Hypervisor have. */
import { checkOptions, type IommuEnvironment, type IommuFactory, type IommuUnit, refuse, smallMachine } from "@iommukit/core";
import type { HostDomains } from "./domains.js";
import { VirtioIommuDriver } from "./driver.js";
import { VirtioMmio } from "./mmio.js";
import type { Mode, ReservedMemory } from "./requests.js";
import { MMIO_BYTES } from "./spec.js";
import { VirtioIommu } from "./virtio-iommu.js";

const NAME = "virtio-iommu";
/** A machine's memory has registers by whole pages. */
const REGISTER_BYTES = Math.ceil(MMIO_BYTES / 4096) * 4096;
/** Input addresses (`input_range`). */
const ADDRESS_BITS = 48;
/** Where a PC has messages go. */
const MESSAGES: ReservedMemory = { start: 0xfee0_0000n, last: 0xfeef_ffffn, msi: true };

/** Only what a machine's description does not say. */
export interface VirtioUnitParts {
  /** Endpoints that exist; every requester id of PCI unless given. */
  readonly endpoints?: readonly number[];
  /** Behind endpoints that stand for devices of the host. */
  readonly host?: HostDomains;
}

export function createVirtioUnit({ name, memory, frames, registerBase, tracer }: IommuEnvironment, options: Readonly<Record<string, unknown>>, { endpoints, host }: VirtioUnitParts = {}): IommuUnit & { readonly hardware: VirtioIommu } {
  checkOptions(options, ["mode"], "a virtio-iommu");
  let driver: VirtioIommuDriver | undefined;
  const hardware = new VirtioIommu(memory, { name, ...(endpoints ? { endpoints } : {}), mode: modeOf(options.mode), reserved: () => [MESSAGES], onInterrupt: () => driver?.interrupt(), tracer, ...(host ? { host } : {}) });
  memory.addMmio(registerBase, REGISTER_BYTES, new VirtioMmio(hardware.transport));
  driver = new VirtioIommuDriver({ name, memory, frames, registerBase, tracer });
  return { hardware, driver, hostAddressWidth: ADDRESS_BITS, sysfs: { name: name.replace(NAME, "virtio"), files: {} } };
}

function modeOf(mode: unknown = "strict"): Mode {
  return mode === "strict" || mode === "qemu" ? mode : refuse("EINVAL", `option mode is ${JSON.stringify(mode)}, neither "strict" nor "qemu"`, { argument: "mode" });
}

export const virtioIommuFactory: IommuFactory = {
  name: NAME,
  about: "virtio-iommu (virtio 1.3): mappings by requests, without tables in memory; no PASIDs, no nesting",
  create: (environment, options) => createVirtioUnit(environment, options),
  defaultMachine: () => smallMachine(NAME),
};
