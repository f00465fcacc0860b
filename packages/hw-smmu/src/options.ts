/** Options of an SMMUv3 in a machine file that say what it is: a preset, and words in its place; and how large its caches are. */
import { cacheOptionNames, cacheOptions, type Options, presetOption, wordOption, refuse } from "@iommukit/core";
import { type CacheGeometry, DEFAULT_CACHES } from "./hardware/index.js";
import { DEFAULT_PRESET, PRESETS } from "./presets.js";
import type { Identification } from "./spec/identification.js";

const WORDS = ["idr0", "idr1", "idr2", "idr3", "idr4", "idr5", "iidr", "aidr"] as const;

/** Options that `identificationOf` reads. */
export const IDENTIFICATION_OPTIONS: readonly string[] = ["preset", ...WORDS];

/** @throws IommuError EINVAL */
export function identificationOf(options: Options): Identification {
  const { identification } = presetOption(options, PRESETS, DEFAULT_PRESET);
  return Object.fromEntries(WORDS.map((register) => [register, Number(wordOption(options, register, BigInt(identification[register] ?? 0), 32))])) as unknown as Identification;
}

/** Caches, by what options call them: `tlbSets`, `tlbWays` and so on. */
const CACHES = { tlb: "input", ipaTlb: "intermediate", table: "inputTables", ipaTable: "intermediateTables" } as const;

/** Options that `cacheGeometry` reads. */
export const CACHE_OPTIONS: readonly string[] = cacheOptionNames(CACHES);

/** @throws IommuError EINVAL */
export function cacheGeometry(options: Options): CacheGeometry {
  return { ...DEFAULT_CACHES, ...cacheOptions(options, CACHES, DEFAULT_CACHES) };
}

const GRANULES: Readonly<Record<string, number>> = { "4K": 4096, "16K": 16_384, "64K": 65_536 };

/** `granule` of the driver's page tables: "4K", "16K" or "64K". @throws IommuError EINVAL */
export function granuleOption({ granule }: Options): { readonly granule?: number } {
  if (granule === undefined) return {};
  if (typeof granule === "string" && Object.hasOwn(GRANULES, granule)) return { granule: GRANULES[granule] };
  return refuse("EINVAL", `option granule is ${JSON.stringify(granule)}; there are: ${Object.keys(GRANULES).join(", ")}`, { argument: "granule" });
}
