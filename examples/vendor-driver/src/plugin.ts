/** What iommukit loads: `iommu --plugin ./dist/plugin.js tour --machine acme`. */
import { type IommuEnvironment, type IommuFactory, type IommuUnit, type Plugin, refuse, TOKENS } from "@iommukit/core";
import { acmeTableDecoder } from "./decode.js";
import { AcmeDriver } from "./driver.js";
import { AcmeUnit } from "./hardware.js";
import { HOST_ADDRESS_BITS, Register, REGISTER_BYTES } from "./spec.js";

const OPTIONS = ["entries"];

function create({ name, memory, frames, registerBase, tracer }: IommuEnvironment, options: Readonly<Record<string, unknown>>): IommuUnit {
  const unknown = Object.keys(options).find((key) => !OPTIONS.includes(key));
  if (unknown !== undefined) refuse("EINVAL", `an Acme IOMMU has no option "${unknown}"; there are: ${OPTIONS.join(", ")}`, { argument: unknown });
  const { entries = 256 } = options;
  if (typeof entries !== "number" || entries < 0 || entries > 65_536 || (entries !== 0 && !Number.isInteger(Math.log2(entries / 4)))) {
    return refuse("EINVAL", `option entries is ${JSON.stringify(entries)}, not 0 or four times a power of two`, { argument: "entries" });
  }
  const hardware = new AcmeUnit(name, memory, tracer, entries);
  memory.addMmio(registerBase, REGISTER_BYTES, hardware);
  return {
    hardware,
    driver: new AcmeDriver({ name, memory, frames, registerBase, tracer }),
    hostAddressWidth: HOST_ADDRESS_BITS,
    explain: (request) =>
      acmeTableDecoder.walk({ iommu: "acme", registers: { TABLE: memory.readMmio(registerBase + Register.TABLE, 8) }, read: (pa, target) => memory.read(pa, target) }, request),
    dueInvalidation: () => ({ text: "FLUSH of the requester", section: "Acme 1.2" }),
  };
}

export const acmeIommuFactory: IommuFactory = {
  name: "acme",
  about: "a small invented IOMMU: 39-bit addresses, pages of 4 KiB and 2 MiB, no PASIDs",
  create,
  defaultMachine: () => ({
    name: "acme",
    memory: { size: "256MiB" },
    iommus: [{ type: "acme" }],
    devices: [
      { model: "dma-test", bdf: "00:03.0", vfio: "vfio0" },
      { model: "dma-test", bdf: "00:04.0", vfio: "vfio1" },
    ],
  }),
};

const plugin: Plugin = {
  name: "acme-iommu",
  register(container) {
    container.register(TOKENS.iommus, { useValue: acmeIommuFactory });
    container.register(TOKENS.decoders, { useValue: acmeTableDecoder });
  },
};

export default plugin;
