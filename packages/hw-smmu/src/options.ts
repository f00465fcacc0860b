/** Options of an SMMUv3 in a machine file that say what it is: a preset, and words in its place; and how large its caches are. */
import { refuse } from "@iommukit/core";
import { type CacheGeometry, DEFAULT_CACHES } from "./hardware/index.js";
import { DEFAULT_PRESET, PRESETS } from "./presets.js";
import type { Identification } from "./spec/identification.js";

export type Options = Readonly<Record<string, unknown>>;

const WORDS = ["idr0", "idr1", "idr2", "idr3", "idr4", "idr5", "iidr", "aidr"] as const;

/** Options that `identificationOf` reads. */
export const IDENTIFICATION_OPTIONS: readonly string[] = ["preset", ...WORDS];

/** A register word: "0x…". */
function word(options: Options, name: keyof Identification, fallback: number): number {
  const value = options[name];
  if (value === undefined) return fallback;
  if (typeof value !== "string" || !/^0x[0-9a-f]{1,8}$/i.test(value)) return refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, not a word such as "0xd44101b"`, { argument: name });
  return Number(value);
}

/** @throws IommuError EINVAL */
export function identificationOf(options: Options): Identification {
  const name = options.preset ?? DEFAULT_PRESET;
  const preset = typeof name === "string" && Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined;
  if (preset === undefined) return refuse("EINVAL", `preset ${JSON.stringify(name)} is not known; there are: ${Object.keys(PRESETS).join(", ")}`, { argument: "preset" });
  const { identification } = preset;
  return Object.fromEntries(WORDS.map((register) => [register, word(options, register, identification[register] ?? 0)])) as unknown as Identification;
}

/** By the option that says sets and ways: `tlbSets`, `tlbWays` and so on. */
const CACHES = { tlb: "input", ipaTlb: "intermediate", table: "inputTables", ipaTable: "intermediateTables" } as const;

/** Options that `cacheGeometry` reads. */
export const CACHE_OPTIONS: readonly string[] = Object.keys(CACHES).flatMap((name) => [`${name}Sets`, `${name}Ways`]);

/** @throws IommuError EINVAL */
export function cacheGeometry(options: Options): CacheGeometry {
  const number = (name: string, fallback: number, fits: (value: number) => boolean, what: string): number => {
    const value = options[name] ?? fallback;
    if (typeof value !== "number" || !Number.isInteger(value) || !fits(value)) return refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, not ${what}`, { argument: name });
    return value;
  };
  const geometries = Object.entries(CACHES).map(([name, cache]) => {
    const { sets, ways } = DEFAULT_CACHES[cache];
    return [cache, {
      sets: number(`${name}Sets`, sets, (value) => value === 0 || (value > 0 && value <= 65_536 && Number.isInteger(Math.log2(value))), "a power of two up to 65536, or 0 for no cache"),
      ways: number(`${name}Ways`, ways, (value) => value >= 1 && value <= 255, "1 to 255"),
    }];
  });
  return { ...DEFAULT_CACHES, ...Object.fromEntries(geometries) };
}
