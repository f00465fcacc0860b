/** Options of a VT-d unit in a machine file that say what it is: a preset, and words in its place. */
import { describedFlag, describedList, describedObject, describedRid, numberOption, type Options, presetOption, wordOption, wrongValue } from "@iommukit/core";
import type { ReservedMemory } from "./driver/index.js";
import { DEFAULT_PRESET, PRESETS } from "./presets.js";

/** What a unit is built from. */
export interface UnitWords {
  readonly version: number;
  readonly cap: bigint;
  readonly ecap: bigint;
  readonly haw: number;
}

/** @throws IommuError EINVAL */
export function unitWords(options: Options): UnitWords {
  const preset = presetOption(options, PRESETS, DEFAULT_PRESET);
  return {
    version: numberOption(options, "version", preset.version),
    cap: wordOption(options, "cap", preset.cap, 64),
    ecap: wordOption(options, "ecap", preset.ecap, 64),
    haw: numberOption(options, "haw", preset.haw),
  };
}

/** Option `rmrr`: `[{ "devices": ["00:03.0"], "start": "0x80000", "end": "0x90000" }]`, optionally `"relaxable": true`; `end` exclusive. */
export function reservedMemory({ rmrr }: Options): ReservedMemory[] {
  return describedList(rmrr, "rmrr", (entry, path) => {
    const row = describedObject(entry, path, ["devices", "start", "end", "relaxable"]);
    const [start, end] = ["start", "end"].map((name) => (row[name] === undefined ? wrongValue(`${path}.${name}`, "is not given") : Number(wordOption(row, name, 0n, 64))));
    if (end <= start || start % 4096 !== 0 || end % 4096 !== 0) wrongValue(path, "has no start below its end, both multiples of 4096");
    const devices = describedList(row.devices, `${path}.devices`, describedRid);
    if (devices.length === 0) wrongValue(`${path}.devices`, "names no device");
    return { devices, start, last: end - 1, relaxable: describedFlag(row.relaxable, `${path}.relaxable`) };
  });
}
