/** What the package adds to a composition root. The only file that sees hardware and driver together. */
import {
  cacheOptionNames,
  cacheOptions,
  checkOptions,
  flagOption,
  type IommuEnvironment,
  type IommuFactory,
  type IommuUnit,
  numberOption,
  type Plugin,
  refuse,
  smallMachine,
  type TableSource,
  TOKENS,
} from "@iommukit/core";
import { dmarTable } from "./acpi/index.js";
import { readDmarOptions } from "./acpi/options.js";
import { dueInvalidation, ownFlags, vtdStructureDecoder, vtdTableDecoder } from "./decode/index.js";
import { VtdDriver } from "./driver/index.js";
import { vtdFaultCatalogue } from "./faults/index.js";
import {
  DEFAULT_CACHES, DEFAULT_DEVICE_TLB_TIMEOUT, DEFAULT_INTERRUPT_ENTRIES, POLICY_VALUES, REGISTER_BYTES, type VtdPolicies, VtdUnit, vtdReplayUnitFactory,
} from "./hardware/index.js";
import { reservedMemory, unitWords } from "./options.js";
import { describePreset, PRESETS } from "./presets.js";
import { TranslationTableMode } from "./spec/entries.js";
import { Reg } from "./spec/registers.js";
import { transcriptPlatform } from "./transcripts.js";

/** Caches, by what options call them: `iotlbSets`, `iotlbWays` and so on. */
const CACHES = { iotlb: "iotlb", context: "contexts", pasid: "pasids", firstStageTable: "firstStageTables", secondStageTable: "secondStageTables" } as const;

const OPTIONS: readonly string[] = ["preset", "cap", "ecap", "version", "haw", ...cacheOptionNames(CACHES), "policies", "interruptEntries", "deviceTlbTimeout", "compressFaults", "reservedBeforeSource", "rmrr", "dmar"];

/** `{ "userDenial": "last" }` */
function policies(options: Readonly<Record<string, unknown>>): Partial<VtdPolicies> {
  const given = options.policies ?? {};
  if (typeof given !== "object" || given === null || Array.isArray(given)) return refuse("EINVAL", "option policies is not an object", { argument: "policies" });
  for (const [name, value] of Object.entries(given)) {
    const values: readonly unknown[] = Object.hasOwn(POLICY_VALUES, name) ? POLICY_VALUES[name as keyof VtdPolicies] : [];
    if (values.length === 0) refuse("EINVAL", `there is no policy "${name}"; there are: ${Object.keys(POLICY_VALUES).join(", ")}`, { argument: `policies.${name}` });
    if (!values.includes(value)) refuse("EINVAL", `policy ${name} is ${JSON.stringify(value)}, none of ${values.join(", ")}`, { argument: `policies.${name}` });
  }
  return given;
}

function create(environment: IommuEnvironment, options: Readonly<Record<string, unknown>>): IommuUnit {
  checkOptions(options, OPTIONS, "a VT-d unit");
  const { memory, frames, registerBase, interrupts, tracer } = environment;
  const { cap, ecap, version, haw } = unitWords(options);
  readDmarOptions(options.dmar);
  const hardware = new VtdUnit(memory, {
    name: environment.name, version, cap, ecap, haw, tracer,
    caches: cacheOptions(options, CACHES, DEFAULT_CACHES),
    policies: policies(options),
    interruptEntries: numberOption(options, "interruptEntries", DEFAULT_INTERRUPT_ENTRIES),
    deviceTlbTimeout: numberOption(options, "deviceTlbTimeout", DEFAULT_DEVICE_TLB_TIMEOUT),
    compressFaults: flagOption(options, "compressFaults"),
    reservedBeforeSource: flagOption(options, "reservedBeforeSource"),
    onMessage: (address, data) => interrupts.deliver(address, data),
  });
  memory.addMmio(registerBase, REGISTER_BYTES, hardware);
  const driver = new VtdDriver({ name: environment.name, memory, frames, registerBase, interrupts, haw, tracer, reservedMemory: reservedMemory(options) });
  return {
    hardware,
    driver,
    hostAddressWidth: haw,
    sysfs: {
      name: environment.name.replace(/^vtd/, "dmar"),
      files: {
        "intel-iommu/version": `${version >> 4}:${version & 15}\n`,
        "intel-iommu/address": `${registerBase.toString(16)}\n`,
        "intel-iommu/cap": `${cap.toString(16)}\n`,
        "intel-iommu/ecap": `${ecap.toString(16)}\n`,
      },
    },
    dueInvalidation: (change, request) => dueInvalidation(change, request, hardware.mode === TranslationTableMode.LEGACY),
    ownFlags,
    explain: (request) => {
      const source: TableSource = {
        iommu: "vtd",
        registers: { RTADDR: memory.readMmio(registerBase + Reg.RTADDR, 8), CAP: cap, ECAP: ecap, VER: BigInt(version), HAW: BigInt(haw), STRICT: 1n },
        read: (pa, target) => memory.read(pa, target),
      };
      return vtdTableDecoder.walk(source, request);
    },
  };
}

export const vtdIommuFactory: IommuFactory = {
  name: "vtd",
  about: `Intel VT-d; presets: ${Object.keys(PRESETS).join(", ")}`,
  presets: Object.entries(PRESETS).map(([name, preset]) => describePreset(name, preset)),
  create,
  everything: { preset: "full" },
  defaultMachine: () => smallMachine("vtd"),
};

export const plugin: Plugin = {
  name: "@iommukit/hw-vtd",
  register(container) {
    container.register(TOKENS.iommus, { useValue: vtdIommuFactory });
    container.register(TOKENS.decoders, { useValue: vtdTableDecoder });
    container.register(TOKENS.structureDecoders, { useValue: vtdStructureDecoder });
    container.register(TOKENS.acpiTables, { useValue: dmarTable });
    container.register(TOKENS.faultCatalogues, { useValue: vtdFaultCatalogue });
    container.register(TOKENS.platforms, { useFactory: () => transcriptPlatform(vtdIommuFactory) });
    container.register(TOKENS.replayUnits, { useValue: vtdReplayUnitFactory });
  },
};

export default plugin;
