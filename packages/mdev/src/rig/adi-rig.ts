/** Virtual DSAs of real parents behind a whole VT-d unit. */
import { buildMachine, type Machine } from "@iommukit/core";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { mdevBus } from "../bus/index.js";
import { dsaModel } from "../dsa/index.js";
import { type Adi, type AdiType, Guest as Driver } from "../guest/dsa.js";

export { type Adi, move, recordStatus } from "../guest/dsa.js";

export function adiMachine(parents = 1, options: Readonly<Record<string, unknown>> = {}): Machine {
  const devices = Array.from({ length: parents }, (_, i) => ({ model: "dsa", bdf: `00:0${5 + i}.0`, vfio: `vfio${i}`, options }));
  return buildMachine(
    { name: "adis", memory: { size: "128MiB" }, iommus: [{ type: "vtd", options: { preset: "full" } }], devices },
    { iommus: [vtdIommuFactory], devices: [dsaModel], mdevBus },
  );
}

let created = 0;

export class Guest extends Driver {
  /** A new one of a parent by its number. */
  newAdi(type: AdiType, parent = 0): Adi {
    return this.create(type, `0000:00:0${5 + parent}.0`, `00000000-0000-4000-8000-${(created++).toString(16).padStart(12, "0")}`);
  }
}
