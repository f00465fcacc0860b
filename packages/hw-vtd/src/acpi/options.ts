/**
 * What firmware says of a unit beyond its registers, devices and reserved memory:
 * option `dmar` of a unit in a machine file. Every problem names its path.
 */
import { describedFlag as flag, describedList as list, describedNumber as number, describedObject as object, describedRid as rid, wrongValue as wrong } from "@iommukit/core";
import { SIDP_FLAGS } from "./structures.js";

/** A device that is no PCI function of the machine: an I/O APIC, an HPET, an ACPI device. */
export interface NumberedDevice {
  readonly id: number;
  readonly rid: number;
  /** ACPI devices: the object's path. */
  readonly object: string;
}

export interface DmarOptions {
  readonly ioapics: readonly NumberedDevice[];
  readonly hpets: readonly NumberedDevice[];
  readonly acpi: readonly NumberedDevice[];
  /** Root ports that pass ATS, or all. */
  readonly atsr: readonly number[] | "all" | undefined;
  readonly satc: { readonly required: boolean; readonly devices: readonly number[] } | undefined;
  readonly sidp: readonly { readonly devices: readonly number[]; readonly flags: number }[];
  readonly proximity: number | undefined;
  readonly optIn: boolean;
}

const numbered = (key: "id" | "number", named: boolean) => (value: unknown, path: string): NumberedDevice => {
  const entry = object(value, path, [key, "bdf", ...(named ? ["object"] : [])]);
  if (named && (typeof entry.object !== "string" || !/^\\?[A-Z_][A-Z0-9_.]{0,100}$/.test(entry.object))) wrong(`${path}.object`, "is no path in the ACPI namespace such as \\_SB.PCI0.I2C0");
  return { id: number(entry[key], `${path}.${key}`, 255), rid: rid(entry.bdf, `${path}.bdf`), object: String(entry.object ?? "") };
};

function sidpFlags(value: unknown, path: string): number {
  const names = SIDP_FLAGS.map(([, name]) => name);
  return list(value, path, (entry, at) => SIDP_FLAGS.find(([, name]) => name === entry)?.[0] ?? wrong(at, `is ${JSON.stringify(entry)}; there are: ${names.join(", ")}`)).reduce((all, bit) => all | bit, 0);
}

/** @throws IommuError EINVAL */
export function readDmarOptions(value: unknown): DmarOptions {
  const o = object(value ?? {}, "dmar", ["ioapics", "hpets", "acpi", "atsr", "satc", "sidp", "proximity", "optIn"]);
  const satc = o.satc === undefined ? undefined : object(o.satc, "dmar.satc", ["required", "devices"]);
  return {
    ioapics: list(o.ioapics, "dmar.ioapics", numbered("id", false)),
    hpets: list(o.hpets, "dmar.hpets", numbered("id", false)),
    acpi: list(o.acpi, "dmar.acpi", numbered("number", true)),
    atsr: o.atsr === undefined || o.atsr === "all" ? o.atsr : list(o.atsr, "dmar.atsr", rid),
    satc: satc && { required: flag(satc.required, "dmar.satc.required"), devices: list(satc.devices, "dmar.satc.devices", rid) },
    sidp: list(o.sidp, "dmar.sidp", (entry, path) => {
      const { devices, flags } = object(entry, path, ["devices", "flags"]);
      return { devices: list(devices, `${path}.devices`, rid), flags: sidpFlags(flags, `${path}.flags`) };
    }),
    proximity: o.proximity === undefined ? undefined : number(o.proximity, "dmar.proximity", 0xffff),
    optIn: flag(o.optIn, "dmar.optIn"),
  };
}
