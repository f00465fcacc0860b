/** Options of a unit in a machine file, by kind. Every refusal names the option. */
import { refuse } from "../errors.js";

export type Options = Readonly<Record<string, unknown>>;

function wrong(name: string, value: unknown, wanted: string): never {
  return refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, ${wanted}`, { argument: name });
}

/** @throws IommuError EINVAL, as all here @param unit "a VT-d unit" */
export function checkOptions(options: Options, known: readonly string[], unit: string): void {
  const unknown = Object.keys(options).find((key) => !known.includes(key));
  if (unknown !== undefined) refuse("EINVAL", `${unit} has no option "${unknown}"; there are: ${known.join(", ")}`, { argument: unknown });
}

export function numberOption(options: Options, name: string, fallback: number): number {
  const value = options[name] ?? fallback;
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 65_536 ? Number(value) : wrong(name, value, "not a number up to 65536");
}

export function flagOption(options: Options, name: string, fallback = false): boolean {
  const value = options[name] ?? fallback;
  return typeof value === "boolean" ? value : wrong(name, value, "not true or false");
}

/** A register: "0x…". */
export function wordOption(options: Options, name: string, fallback: bigint, bits: 32 | 64): bigint {
  const value = options[name];
  if (value === undefined) return fallback;
  const isWord = typeof value === "string" && /^0x[0-9a-f]{1,16}$/i.test(value) && BigInt(value) >> BigInt(bits) === 0n;
  return isWord ? BigInt(value) : wrong(name, value, `not a word of ${bits} bits such as "0x1f"`);
}

/** Option `preset`: one of a vendor's units by name. */
export function presetOption<P>(options: Options, presets: Readonly<Record<string, P>>, fallback: string): P {
  const name = options.preset ?? fallback;
  if (typeof name === "string" && Object.hasOwn(presets, name)) return presets[name];
  return refuse("EINVAL", `preset ${JSON.stringify(name)} is not known; there are: ${Object.keys(presets).join(", ")}`, { argument: "preset" });
}

interface Geometry {
  readonly sets: number;
  readonly ways: number;
}

/** Options that say how large caches are: "tlbSets" and "tlbWays" of a cache that is called "tlb". */
export function cacheOptionNames(caches: Readonly<Record<string, string>>): string[] {
  return Object.keys(caches).flatMap((name) => [`${name}Sets`, `${name}Ways`]);
}

/** @param caches the caches that options are about, by what options call them; 0 sets make none */
export function cacheOptions<C extends string>(options: Options, caches: Readonly<Record<string, C>>, defaults: Readonly<Record<C, Geometry>>): Record<C, Geometry> {
  const geometries = Object.entries(caches).map(([name, cache]) => {
    const sets = numberOption(options, `${name}Sets`, defaults[cache].sets);
    const ways = numberOption(options, `${name}Ways`, defaults[cache].ways);
    if (sets !== 0 && !Number.isInteger(Math.log2(sets))) wrong(`${name}Sets`, sets, "neither a power of two nor 0");
    if (ways < 1 || ways > 255) wrong(`${name}Ways`, ways, "not 1 to 255");
    return [cache, { sets, ways }];
  });
  return Object.fromEntries(geometries) as Record<C, Geometry>;
}
