/** The composition root: one container of our own, filled by plugins, asked once at start-up. */
import "reflect-metadata";
import type { AcpiTable } from "@iommukit/core/acpi";
import type { StructureDecoder } from "@iommukit/core/decode";
import type { TranscriptPlatform } from "@iommukit/core/testing";
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { type DeviceModel, type FaultCatalogue, type IommuFactory, type MdevBusFactory, type MdevDriver, type Plugin, type ReplayUnitFactory, type Story, type TableDecoder, TOKENS } from "@iommukit/core";
import { container, type DependencyContainer } from "tsyringe";

export interface GlobalOptions {
  readonly plugin?: readonly string[];
  readonly config?: string;
}

/** Everything that plugins registered. */
export interface Composition {
  readonly plugins: readonly string[];
  readonly iommus: readonly IommuFactory[];
  readonly devices: readonly DeviceModel[];
  readonly decoders: readonly TableDecoder[];
  readonly structureDecoders: readonly StructureDecoder[];
  readonly acpiTables: readonly AcpiTable[];
  readonly faultCatalogues: readonly FaultCatalogue[];
  readonly replayUnits: readonly ReplayUnitFactory[];
  readonly platforms: readonly TranscriptPlatform[];
  readonly stories: readonly Story[];
  readonly mdevBus?: MdevBusFactory | undefined;
  readonly mdevDrivers: readonly MdevDriver[];
  /** Machine of the config file. */
  readonly machine?: unknown;
}

/** Loaded like any other plugin, before those of the user. */
const DEFAULT_PLUGINS = ["@iommukit/core/devices", "@iommukit/hw-vtd/plugin", "@iommukit/hw-smmu/plugin", "@iommukit/mdev/plugin", "@iommukit/viommu/plugin"];
const CONFIG_FILE = "iommukit.config.json";

export async function compose(options: GlobalOptions): Promise<Composition> {
  const config = readConfig(options.config);
  const own = container.createChildContainer();
  const plugins: string[] = [];
  for (const name of [...DEFAULT_PLUGINS, ...config.plugins, ...(options.plugin ?? [])]) {
    const plugin = await loadPlugin(name);
    plugin.register(own);
    plugins.push(plugin.name);
  }
  return {
    plugins,
    iommus: all<IommuFactory>(own, TOKENS.iommus),
    devices: all<DeviceModel>(own, TOKENS.devices),
    decoders: all<TableDecoder>(own, TOKENS.decoders),
    structureDecoders: all<StructureDecoder>(own, TOKENS.structureDecoders),
    acpiTables: all<AcpiTable>(own, TOKENS.acpiTables),
    faultCatalogues: all<FaultCatalogue>(own, TOKENS.faultCatalogues),
    replayUnits: all<ReplayUnitFactory>(own, TOKENS.replayUnits),
    platforms: all<TranscriptPlatform>(own, TOKENS.platforms),
    stories: all<Story>(own, TOKENS.stories),
    mdevBus: all<MdevBusFactory>(own, TOKENS.mdevBus).at(-1),
    mdevDrivers: all<MdevDriver>(own, TOKENS.mdevDrivers),
    ...(config.machine === undefined ? {} : { machine: config.machine }),
  };
}

function all<T>(own: DependencyContainer, token: symbol): T[] {
  return own.isRegistered(token) ? own.resolveAll<T>(token) : [];
}

async function loadPlugin(name: string): Promise<Plugin> {
  const specifier = /^(\.|\/)/.test(name) || name.endsWith(".js") || name.endsWith(".mjs") ? pathToFileURL(resolve(name)).href : name;
  let module: Record<string, unknown>;
  try {
    module = (await import(specifier)) as Record<string, unknown>;
  } catch (error) {
    throw new Error(`plugin ${name} cannot be loaded: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  const found = [module.default, module.plugin].find(isPlugin);
  if (found === undefined) throw new Error(`${name} exports no plugin: an object with a name and register(container), as "default" or "plugin"`);
  return found;
}

function isPlugin(value: unknown): value is Plugin {
  return typeof value === "object" && value !== null && "name" in value && "register" in value && typeof value.register === "function";
}

function readConfig(file: string | undefined): { plugins: readonly string[]; machine?: unknown } {
  if (file === undefined && !existsSync(CONFIG_FILE)) return { plugins: [] };
  const path = file ?? CONFIG_FILE;
  const config = readJson(path);
  if (typeof config !== "object" || config === null) throw new Error(`${path} does not hold a JSON object`);
  const { plugins = [], machine, ...rest } = config as Record<string, unknown>;
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined) throw new Error(`${path}: "${unknown}" is not known; there are: plugins, machine`);
  if (!Array.isArray(plugins) || plugins.some((entry) => typeof entry !== "string")) throw new Error(`${path}: plugins is not a list of names`);
  return { plugins: plugins as string[], ...(machine === undefined ? {} : { machine }) };
}

export function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as unknown;
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** The machine of a name or a file; without either that of the config file, else the first IOMMU's own. */
export function chooseMachine(composition: Composition, wanted: string | undefined): unknown {
  if (wanted === undefined) return composition.machine ?? composition.iommus.find((candidate) => candidate.defaultMachine)?.defaultMachine?.();
  const factory = composition.iommus.find((candidate) => candidate.name === wanted);
  if (factory?.defaultMachine) return factory.defaultMachine();
  if (existsSync(wanted)) return readJson(wanted);
  const names = composition.iommus.filter((candidate) => candidate.defaultMachine).map((candidate) => candidate.name);
  throw new Error(`machine "${wanted}" is neither a file nor one of: ${names.join(", ")}`);
}
