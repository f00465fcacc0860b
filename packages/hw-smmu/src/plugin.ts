/** What the package adds to a composition root. The only file that sees hardware and driver together. */
import { type IommuEnvironment, type IommuFactory, type IommuUnit, type MachineSpec, type Plugin, refuse, TOKENS } from "@iommukit/core";
import { smmuTableDecoder } from "./decode/index.js";
import { SmmuDriver } from "./driver/index.js";
import { REGISTER_BYTES } from "./spec/registers.js";
import { DEFAULT_CACHES, SmmuUnit, smmuReplayUnitFactory } from "./hardware/index.js";
import { ADDRESS_SIZES, type Identification } from "./spec/identification.js";
import { transcriptPlatform } from "./transcripts.js";

const WORDS = ["idr0", "idr1", "idr2", "idr3", "idr4", "idr5", "iidr", "aidr"] as const;
const OPTIONS: readonly string[] = [...WORDS, "tlbSets", "tlbWays", "qemuNesting"];
/** QEMU's unit of the virt machine, with what its driver needs: both stages, 16-bit ASIDs, range invalidation, two-level tables. */
const DEFAULT: Identification = { idr0: 0x0d44_101b, idr1: 0x0273_0010, idr3: 0x1414, idr5: 0x74, aidr: 1 };

/** A register word: "0x…". */
function word(options: Readonly<Record<string, unknown>>, name: keyof Identification): number {
  const value = options[name];
  if (value === undefined) return DEFAULT[name] ?? 0;
  if (typeof value !== "string" || !/^0x[0-9a-f]{1,8}$/i.test(value)) return refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, not a word such as "0xd44101b"`, { argument: name });
  return Number(value);
}

function number(options: Readonly<Record<string, unknown>>, name: string, fallback: number): number {
  const value = options[name] ?? fallback;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > 65_536) return refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, not a number up to 65536`, { argument: name });
  return value;
}

function create(environment: IommuEnvironment, options: Readonly<Record<string, unknown>>): IommuUnit {
  const unknown = Object.keys(options).find((key) => !OPTIONS.includes(key));
  if (unknown !== undefined) refuse("EINVAL", `an SMMUv3 has no option "${unknown}"; there are: ${OPTIONS.join(", ")}`, { argument: unknown });
  const { name, memory, frames, registerBase, interrupts, tracer } = environment;
  const identification = Object.fromEntries(WORDS.map((register) => [register, word(options, register)])) as unknown as Identification;
  const input = { sets: number(options, "tlbSets", DEFAULT_CACHES.input.sets), ways: number(options, "tlbWays", DEFAULT_CACHES.input.ways) };
  let driver: SmmuDriver | undefined;
  const hardware = new SmmuUnit(memory, {
    name, identification, tracer,
    caches: { ...DEFAULT_CACHES, input },
    qemuNesting: options.qemuNesting === true,
    onMessage: (address, data) => interrupts.deliver(address, data),
    onWire: (line) => (line === "sync" ? undefined : driver?.wire(line)),
  });
  memory.addMmio(registerBase, REGISTER_BYTES, hardware);
  driver = new SmmuDriver({ name, memory, frames, registerBase, interrupts, tracer });
  return {
    hardware,
    driver,
    hostAddressWidth: Math.min(ADDRESS_SIZES[identification.idr5 & 7], 48),
    sysfs: { name: `smmu3.0x${registerBase.toString(16).padStart(16, "0")}`, files: {} },
  };
}

function defaultMachine(): MachineSpec {
  return {
    name: "smmuv3",
    memory: { size: "256MiB" },
    iommus: [{ type: "smmuv3" }],
    devices: [
      { model: "dma-test", bdf: "00:03.0", vfio: "vfio0" },
      { model: "dma-test", bdf: "00:04.0", vfio: "vfio1" },
    ],
  };
}

export const smmuIommuFactory: IommuFactory = { name: "smmuv3", about: "Arm SMMUv3", create, defaultMachine };

export const plugin: Plugin = {
  name: "@iommukit/hw-smmu",
  register(container) {
    container.register(TOKENS.iommus, { useValue: smmuIommuFactory });
    container.register(TOKENS.platforms, { useFactory: () => transcriptPlatform(smmuIommuFactory) });
    container.register(TOKENS.decoders, { useValue: smmuTableDecoder });
    container.register(TOKENS.replayUnits, { useValue: smmuReplayUnitFactory });
  },
};

export default plugin;
