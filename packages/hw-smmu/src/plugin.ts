/** What the package adds to a composition root. The only file that sees hardware and driver together. */
import { checkOptions, flagOption, type IommuEnvironment, type IommuFactory, type IommuUnit, type Plugin, smallMachine, type TableSource, TOKENS } from "@iommukit/core";
import { iortTable } from "./acpi/index.js";
import { readIortOptions } from "./acpi/options.js";
import { dueInvalidation, ownFlags, smmuStructureDecoder, smmuTableDecoder } from "./decode/index.js";
import { SmmuDriver } from "./driver/index.js";
import { smmuFaultCatalogue } from "./faults/index.js";
import { SmmuUnit, smmuReplayUnitFactory } from "./hardware/index.js";
import { CACHE_OPTIONS, cacheGeometry, granuleOption, IDENTIFICATION_OPTIONS, identificationOf } from "./options.js";
import { describePreset, PRESETS } from "./presets.js";
import { Reg, REGISTER_BYTES } from "./spec/registers.js";
import { transcriptPlatform } from "./transcripts.js";

const OPTIONS: readonly string[] = [...IDENTIFICATION_OPTIONS, ...CACHE_OPTIONS, "qemuNesting", "mergeEvents", "farAtomics", "tlbConflicts", "cfgConflicts", "contiguousEntries", "contiguousStreams", "granule", "iort"];

/** Registers of 32 bits that say how a transaction is translated. */
const EXPLAINED = ["STRTAB_BASE_CFG", "CR0", "CR2", "GBPA", "IDR0", "IDR1", "IDR3", "IDR5", "AIDR"] as const;

function create(environment: IommuEnvironment, options: Readonly<Record<string, unknown>>): IommuUnit {
  checkOptions(options, OPTIONS, "an SMMUv3");
  const { name, memory, frames, registerBase, interrupts, tracer } = environment;
  const identification = identificationOf(options);
  readIortOptions(options.iort);
  let driver: SmmuDriver | undefined;
  const hardware = new SmmuUnit(memory, {
    name, identification, tracer,
    caches: cacheGeometry(options),
    qemuNesting: flagOption(options, "qemuNesting"),
    mergeEvents: flagOption(options, "mergeEvents"),
    contiguousEntries: flagOption(options, "contiguousEntries", false),
    contiguousStreams: flagOption(options, "contiguousStreams", false),
    farAtomics: flagOption(options, "farAtomics", true),
    tlbConflicts: flagOption(options, "tlbConflicts"),
    cfgConflicts: flagOption(options, "cfgConflicts"),
    mayStall: (stream): boolean => hardware.stalls.isConnected(stream),
    onMessage: (address, data) => interrupts.deliver(address, data),
    onWire: (line) => (line === "sync" ? undefined : driver?.wire(line)),
  });
  memory.addMmio(registerBase, REGISTER_BYTES, hardware);
  driver = new SmmuDriver({ name, memory, frames, registerBase, interrupts, tracer, ...granuleOption(options) });
  return {
    hardware,
    driver,
    hostAddressWidth: driver.addressWidth,
    sysfs: { name: `smmu3.0x${registerBase.toString(16).padStart(16, "0")}`, files: {} },
    dueInvalidation,
    ownFlags,
    explain: (request) => {
      const register = (name: keyof typeof Reg, size = 4): bigint => memory.readMmio(registerBase + Reg[name], size);
      const source: TableSource = {
        iommu: "smmuv3",
        registers: { STRTAB_BASE: register("STRTAB_BASE", 8), ...Object.fromEntries(EXPLAINED.map((name) => [name, register(name)])) },
        read: (pa, target) => memory.read(pa, target),
      };
      return smmuTableDecoder.walk(source, request);
    },
  };
}

export const smmuIommuFactory: IommuFactory = {
  name: "smmuv3",
  about: `Arm SMMUv3; presets: ${Object.keys(PRESETS).join(", ")}`,
  presets: Object.entries(PRESETS).map(([name, preset]) => describePreset(name, preset)),
  create,
  everything: { preset: "server" },
  defaultMachine: () => smallMachine("smmuv3"),
};

export const plugin: Plugin = {
  name: "@iommukit/hw-smmu",
  register(container) {
    container.register(TOKENS.iommus, { useValue: smmuIommuFactory });
    container.register(TOKENS.platforms, { useFactory: () => transcriptPlatform(smmuIommuFactory) });
    container.register(TOKENS.decoders, { useValue: smmuTableDecoder });
    container.register(TOKENS.structureDecoders, { useValue: smmuStructureDecoder });
    container.register(TOKENS.acpiTables, { useValue: iortTable });
    container.register(TOKENS.faultCatalogues, { useValue: smmuFaultCatalogue });
    container.register(TOKENS.replayUnits, { useValue: smmuReplayUnitFactory });
  },
};

export default plugin;
