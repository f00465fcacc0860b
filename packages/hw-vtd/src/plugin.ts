/** What the package adds to a composition root. The only file that sees hardware and driver together. */
import {
  type IommuEnvironment,
  type IommuFactory,
  type IommuUnit,
  type MachineSpec,
  parseRid,
  type Plugin,
  refuse,
  type TableSource,
  TOKENS,
} from "@iommukit/core";
import { dueInvalidation, ownFlags, vtdStructureDecoder, vtdTableDecoder } from "./decode/index.js";
import { type ReservedMemory, VtdDriver } from "./driver/index.js";
import {
  type CacheGeometry, DEFAULT_CACHES, DEFAULT_DEVICE_TLB_TIMEOUT, DEFAULT_INTERRUPT_ENTRIES, POLICY_VALUES, REGISTER_BYTES, type VtdPolicies, VtdUnit, vtdReplayUnitFactory,
} from "./hardware/index.js";
import { PRESETS } from "./presets.js";
import { TranslationTableMode } from "./spec/entries.js";
import { Reg } from "./spec/registers.js";
import { transcriptPlatform } from "./transcripts.js";

/** Options that give the geometry of a cache: `iotlbSets`, `iotlbWays` and so on. */
const CACHES = [
  ["iotlb", "iotlb"], ["context", "contexts"], ["pasid", "pasids"], ["firstStageTable", "firstStageTables"], ["secondStageTable", "secondStageTables"],
] as const;

const OPTIONS: readonly string[] = ["preset", "cap", "ecap", "version", "haw", ...CACHES.flatMap(([name]) => [`${name}Sets`, `${name}Ways`]), "policies", "interruptEntries", "deviceTlbTimeout", "compressFaults", "reservedBeforeSource", "rmrr"];

function number(options: Readonly<Record<string, unknown>>, name: string, fallback: number): number {
  const value = options[name] ?? fallback;
  if (!Number.isInteger(value) || Number(value) < 0 || Number(value) > 65536) refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, not a number up to 65536`, { argument: name });
  return Number(value);
}

function flag(options: Readonly<Record<string, unknown>>, name: string): boolean {
  const value = options[name] ?? false;
  return typeof value === "boolean" ? value : refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, not true or false`, { argument: name });
}

function geometry(options: Readonly<Record<string, unknown>>): CacheGeometry {
  return Object.fromEntries(
    CACHES.map(([name, cache]) => {
      const sets = number(options, `${name}Sets`, DEFAULT_CACHES[cache].sets);
      const ways = number(options, `${name}Ways`, DEFAULT_CACHES[cache].ways);
      if (sets !== 0 && !Number.isInteger(Math.log2(sets))) refuse("EINVAL", `option ${name}Sets is ${sets}, neither a power of two nor 0`, { argument: `${name}Sets` });
      if (ways < 1 || ways > 255) refuse("EINVAL", `option ${name}Ways is ${ways}, not 1 to 255`, { argument: `${name}Ways` });
      return [cache, { sets, ways }];
    }),
  );
}

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

/** A register word: "0x…". */
function word(options: Readonly<Record<string, unknown>>, name: string, fallback: bigint): bigint {
  const value = options[name];
  if (value === undefined) return fallback;
  if (typeof value !== "string" || !/^0x[0-9a-f]{1,16}$/i.test(value)) return refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, not a word such as "0x80d2008c222f0606"`, { argument: name });
  return BigInt(value);
}

/** Reserved memory: `[{ "devices": ["00:03.0"], "start": "0x80000", "end": "0x90000" }]`, optionally `"relaxable": true`; `end` exclusive. */
function reservedMemory(options: Readonly<Record<string, unknown>>): ReservedMemory[] {
  const wrong = (at: string, message: string): never => refuse("EINVAL", `option ${at} ${message}`, { argument: at });
  const list = options.rmrr ?? [];
  if (!Array.isArray(list)) return wrong("rmrr", "is not a list");
  return list.map((entry: unknown, i) => {
    const at = `rmrr[${i}]`;
    if (typeof entry !== "object" || entry === null) return wrong(at, "is not an object");
    const row = entry as Readonly<Record<string, unknown>>;
    const unknown = Object.keys(row).find((key) => !["devices", "start", "end", "relaxable"].includes(key));
    if (unknown !== undefined) wrong(`${at}.${unknown}`, "is not known");
    const [start, end] = ["start", "end"].map((name) => Number(word(row, name, -1n)));
    if (start < 0 || end <= start || start % 4096 !== 0 || end % 4096 !== 0) wrong(at, "has no start below its end, both multiples of 4096");
    if (!Array.isArray(row.devices) || row.devices.length === 0) return wrong(`${at}.devices`, "is not a list of devices");
    const devices = row.devices.map((device: unknown) => {
      try {
        return parseRid(String(device));
      } catch {
        return wrong(`${at}.devices`, `has ${JSON.stringify(device)}, not a device such as "00:03.0"`);
      }
    });
    return { devices, start, last: end - 1, relaxable: flag(row, "relaxable") };
  });
}

function create(environment: IommuEnvironment, options: Readonly<Record<string, unknown>>): IommuUnit {
  const unknown = Object.keys(options).find((key) => !OPTIONS.includes(key));
  if (unknown !== undefined) refuse("EINVAL", `a VT-d unit has no option "${unknown}"; there are: ${OPTIONS.join(", ")}`, { argument: unknown });
  const name = options.preset ?? "scalable";
  const preset = typeof name === "string" ? PRESETS[name] : undefined;
  if (preset === undefined) return refuse("EINVAL", `preset ${JSON.stringify(name)} is not known; there are: ${Object.keys(PRESETS).join(", ")}`, { argument: "preset" });
  const { memory, frames, registerBase, interrupts, tracer } = environment;
  const cap = word(options, "cap", preset.cap);
  const ecap = word(options, "ecap", preset.ecap);
  const version = number(options, "version", preset.version);
  const haw = number(options, "haw", preset.haw);
  const hardware = new VtdUnit(memory, {
    name: environment.name, version, cap, ecap, haw, tracer,
    caches: geometry(options),
    policies: policies(options),
    interruptEntries: number(options, "interruptEntries", DEFAULT_INTERRUPT_ENTRIES),
    deviceTlbTimeout: number(options, "deviceTlbTimeout", DEFAULT_DEVICE_TLB_TIMEOUT),
    compressFaults: flag(options, "compressFaults"),
    reservedBeforeSource: flag(options, "reservedBeforeSource"),
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

function defaultMachine(): MachineSpec {
  return {
    name: "vtd",
    memory: { size: "256MiB" },
    iommus: [{ type: "vtd" }],
    devices: [
      { model: "dma-test", bdf: "00:03.0", vfio: "vfio0" },
      { model: "dma-test", bdf: "00:04.0", vfio: "vfio1" },
    ],
  };
}

export const vtdIommuFactory: IommuFactory = {
  name: "vtd",
  about: `Intel VT-d; presets: ${Object.keys(PRESETS).join(", ")}`,
  create,
  defaultMachine,
};

export const plugin: Plugin = {
  name: "@iommukit/hw-vtd",
  register(container) {
    container.register(TOKENS.iommus, { useValue: vtdIommuFactory });
    container.register(TOKENS.decoders, { useValue: vtdTableDecoder });
    container.register(TOKENS.structureDecoders, { useValue: vtdStructureDecoder });
    container.register(TOKENS.platforms, { useFactory: () => transcriptPlatform(vtdIommuFactory) });
    container.register(TOKENS.replayUnits, { useValue: vtdReplayUnitFactory });
  },
};

export default plugin;
