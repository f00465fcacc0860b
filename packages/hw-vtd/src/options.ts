/** Options of a VT-d unit in a machine file that say what it is: a preset, and words in its place. */
import { parseRid, refuse } from "@iommukit/core";
import type { ReservedMemory } from "./driver/index.js";
import { PRESETS } from "./presets.js";

export type Options = Readonly<Record<string, unknown>>;

/** What a unit is built from. */
export interface UnitWords {
  readonly version: number;
  readonly cap: bigint;
  readonly ecap: bigint;
  readonly haw: number;
}

/** @throws IommuError EINVAL */
export function numberOption(options: Options, name: string, fallback: number): number {
  const value = options[name] ?? fallback;
  if (!Number.isInteger(value) || Number(value) < 0 || Number(value) > 65536) refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, not a number up to 65536`, { argument: name });
  return Number(value);
}

/** @throws IommuError EINVAL */
export function flagOption(options: Options, name: string): boolean {
  const value = options[name] ?? false;
  return typeof value === "boolean" ? value : refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, not true or false`, { argument: name });
}

/** A register word: "0x…". */
function word(options: Options, name: string, fallback: bigint): bigint {
  const value = options[name];
  if (value === undefined) return fallback;
  if (typeof value !== "string" || !/^0x[0-9a-f]{1,16}$/i.test(value)) return refuse("EINVAL", `option ${name} is ${JSON.stringify(value)}, not a word such as "0x80d2008c222f0606"`, { argument: name });
  return BigInt(value);
}

/** @throws IommuError EINVAL */
export function unitWords(options: Options): UnitWords {
  const name = options.preset ?? "scalable";
  const preset = typeof name === "string" && Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined;
  if (preset === undefined) return refuse("EINVAL", `preset ${JSON.stringify(name)} is not known; there are: ${Object.keys(PRESETS).join(", ")}`, { argument: "preset" });
  return {
    version: numberOption(options, "version", preset.version),
    cap: word(options, "cap", preset.cap),
    ecap: word(options, "ecap", preset.ecap),
    haw: numberOption(options, "haw", preset.haw),
  };
}

/** Option `rmrr`: `[{ "devices": ["00:03.0"], "start": "0x80000", "end": "0x90000" }]`, optionally `"relaxable": true`; `end` exclusive. */
export function reservedMemory(options: Options): ReservedMemory[] {
  const wrong = (at: string, message: string): never => refuse("EINVAL", `option ${at} ${message}`, { argument: at });
  const list = options.rmrr ?? [];
  if (!Array.isArray(list)) return wrong("rmrr", "is not a list");
  return list.map((entry: unknown, i) => {
    const at = `rmrr[${i}]`;
    if (typeof entry !== "object" || entry === null) return wrong(at, "is not an object");
    const row = entry as Options;
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
    return { devices, start, last: end - 1, relaxable: flagOption(row, "relaxable") };
  });
}
