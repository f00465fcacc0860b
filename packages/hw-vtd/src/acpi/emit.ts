/** The DMAR table that firmware of a simulated machine would have. */
import { refuse, type UnitPlace } from "@iommukit/core";
import { reservedMemory, unitWords } from "../options.js";
import { readCapabilities } from "../spec/capabilities.js";
import { type DmarOptions, type NumberedDevice, readDmarOptions } from "./options.js";
import { DMAR_FLAGS, type DeviceScope, type DmarName, type DmarStructure, type DmarTable, layoutOf, ScopeType } from "./structures.js";

/** Bytes of a unit's register set as log2 of 4 KiB pages: 32 KiB. */
const REGISTER_PAGES_LOG2 = 3n;

/** Every bus of the machine begins at a root of its own. */
function scope(type: number, rid: number, id = 0, flags = 0): DeviceScope {
  return { type, flags, id, bus: rid >> 8, path: [[(rid >> 3) & 31, rid & 7]] };
}

const endpoints = (rids: readonly number[], flags = 0): DeviceScope[] => rids.map((rid) => scope(ScopeType.ENDPOINT, rid, 0, flags));
const numbered = (type: number, devices: readonly NumberedDevice[]): DeviceScope[] => devices.map(({ id, rid }) => scope(type, rid, id));

function structure(name: DmarName, values: Readonly<Record<string, bigint>>, scopes: readonly DeviceScope[] = [], object?: string): DmarStructure {
  return { name, values, scopes, ...(object === undefined ? {} : { object }) };
}

/** @throws IommuError EINVAL */
export function dmarOf(units: readonly UnitPlace[]): DmarTable {
  const described = units.map((place, i) => ({ place, last: i === units.length - 1, words: unitWords(place.options), dmar: readDmarOptions(place.options.dmar) }));
  const caps = described.map(({ words: { version, cap, ecap, haw } }) => readCapabilities(version, cap, ecap, haw));
  const remapping = caps.every(({ interruptRemapping }) => interruptRemapping);
  const flags =
    (remapping ? DMAR_FLAGS.INTR_REMAP : 0) |
    (remapping && !caps.every(({ extendedInterrupts }) => extendedInterrupts) ? DMAR_FLAGS.X2APIC_OPT_OUT : 0) |
    (described.some(({ dmar }) => dmar.optIn) ? DMAR_FLAGS.DMA_CTRL_PLATFORM_OPT_IN : 0);
  const structures = described.flatMap(({ place, last, dmar }) => unitStructures(place, last, dmar));
  return {
    hostAddressWidth: Math.max(...caps.map(({ haw }) => haw)),
    flags,
    // Ascending types (8.2); within one, the order of the units.
    structures: structures.sort((a, b) => layoutOf(a.name).type - layoutOf(b.name).type),
  };
}

/** The last unit has every PCI device that no other names. */
function unitStructures({ registerBase, rids, options }: UnitPlace, last: boolean, dmar: DmarOptions): DmarStructure[] {
  const base = BigInt(registerBase);
  const others = [...numbered(ScopeType.IOAPIC, dmar.ioapics), ...numbered(ScopeType.HPET, dmar.hpets), ...numbered(ScopeType.NAMESPACE, dmar.acpi)];
  const own = last ? others : [...endpoints(rids), ...others];
  if (!last && own.length === 0) refuse("EINVAL", `no device is behind the unit at 0x${registerBase.toString(16)}: a DRHD that is not the last names one`, { argument: "devices", rule: "VT-d 8.3" });
  return [
    structure("DRHD", { flags: last ? 1n : 0n, size: REGISTER_PAGES_LOG2, base }, own),
    ...reservedMemory(options).map(({ start, last: end, devices }) => structure("RMRR", { base: BigInt(start), limit: BigInt(end) }, endpoints(devices))),
    ...(dmar.atsr === undefined ? [] : [dmar.atsr === "all" ? structure("ATSR", { flags: 1n }) : structure("ATSR", {}, dmar.atsr.map((rid) => scope(ScopeType.BRIDGE, rid)))]),
    ...(dmar.proximity === undefined ? [] : [structure("RHSA", { base, proximity: BigInt(dmar.proximity) })]),
    ...dmar.acpi.map(({ id, object }) => structure("ANDD", { number: BigInt(id) }, [], object)),
    ...(dmar.satc === undefined ? [] : [structure("SATC", { flags: dmar.satc.required ? 1n : 0n }, endpoints(dmar.satc.devices))]),
    ...dmar.sidp.map(({ devices, flags }) => structure("SIDP", {}, endpoints(devices, flags))),
  ];
}
