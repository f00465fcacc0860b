/** Options of an SMMUv3 in a machine file that say what it is: a preset, and words in its place. */
import { refuse } from "@iommukit/core";
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
