/** Checks a machine description, which may come from a file: every problem names its path. */
import { parseRid } from "../bus/rid.js";
import { describedObject as object, wrongValue as wrong } from "./described.js";
import { LOW_RAM_LIMIT, PLATFORMS } from "./platforms.js";
import type { DeviceSpec, IommuSpec, MachineSpec, MdevDeviceSpec, MdevParentSpec, MdevSpec } from "./types.js";

type Checked = MachineSpec & { readonly memory: { readonly size: number } };

const UNITS: Readonly<Record<string, number>> = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };
const MIN_RAM = 2 ** 22;
const MAX_RAM = 2 ** 35;
const MAX_UNITS = 64;
const NAME = /^[\w.-]{1,64}$/;

function text(value: unknown, path: string, pattern: RegExp): string {
  if (typeof value !== "string" || !pattern.test(value)) return wrong(path, `is ${JSON.stringify(value)}, not a name that fits ${pattern.source}`);
  return value;
}

function list(value: unknown, path: string): readonly unknown[] {
  return Array.isArray(value) ? value : wrong(path, "is not a list");
}

function options(value: unknown, path: string): { options?: Readonly<Record<string, unknown>> } {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) return wrong(path, "is not an object");
  return { options: value as Readonly<Record<string, unknown>> };
}

/** 268435456, "256MiB", "1GiB". */
function memorySize(value: unknown, path: string): number {
  const match = typeof value === "string" ? /^(\d{1,12})(KiB|MiB|GiB)?$/.exec(value) : null;
  const size = typeof value === "number" ? value : match ? Number(match[1]) * (UNITS[match[2]] ?? 1) : Number.NaN;
  if (!Number.isInteger(size) || size % 4096 !== 0 || size < MIN_RAM || size > MAX_RAM) {
    return wrong(path, `is ${JSON.stringify(value)}: it takes whole pages from 4MiB to 32GiB, such as "256MiB"`);
  }
  return size;
}

/** @throws IommuError EINVAL */
export function readMachineSpec(value: unknown): Checked {
  const spec = object(value, "machine", ["name", "memory", "iommus", "devices", "platform", "mdev"]);
  const memory = object(spec.memory, "machine.memory", ["size"]);
  const iommus = list(spec.iommus, "machine.iommus").map((entry, i) => iommu(entry, `iommus[${i}]`));
  if (iommus.length === 0 || iommus.length > MAX_UNITS) wrong("machine.iommus", `has ${iommus.length} entries; there are 1 to ${MAX_UNITS}`);
  const devices = list(spec.devices, "machine.devices").map((entry, i) => device(entry, `devices[${i}]`));
  unique(devices, "bdf", (entry) => String(parseRid(entry.bdf)));
  unique(devices, "vfio", (entry) => entry.vfio);
  for (const [i, { iommu = 0, group }] of devices.entries()) {
    if (iommu >= iommus.length) wrong(`devices[${i}].iommu`, `is ${iommu}: there are ${iommus.length} units, from 0 on`);
    const other = devices.find((candidate) => group !== undefined && candidate.group === group);
    if (other && (other.iommu ?? 0) !== iommu) wrong(`devices[${i}].group`, `is ${group}, a group of devices behind unit ${other.iommu ?? 0}`);
  }
  const { platform } = spec;
  if (platform !== undefined && (typeof platform !== "string" || !Object.hasOwn(PLATFORMS, platform))) {
    wrong("machine.platform", `is ${JSON.stringify(platform)}, none of: ${Object.keys(PLATFORMS).join(", ")}`);
  }
  const size = memorySize(memory.size, "machine.memory.size");
  if (typeof platform === "string" && Math.min(size, LOW_RAM_LIMIT) > PLATFORMS[platform].barBase) wrong("machine.memory.size", `reaches into the BARs of platform ${platform}`);
  const name = text(spec.name, "machine.name", /^.{1,100}$/);
  const mdev = spec.mdev === undefined ? {} : { mdev: mdevs(spec.mdev) };
  return { name, memory: { size }, iommus, devices, ...(typeof platform === "string" ? { platform } : {}), ...mdev };
}

function iommu(value: unknown, path: string): IommuSpec {
  const spec = object(value, path, ["type", "options"]);
  return { type: text(spec.type, `${path}.type`, NAME), ...options(spec.options, `${path}.options`) };
}

function device(value: unknown, path: string): DeviceSpec {
  const spec = object(value, path, ["model", "bdf", "vfio", "iommu", "group", "options"]);
  const bdf = text(spec.bdf, `${path}.bdf`, /^(0000:)?[0-9a-f]{1,2}:[0-9a-f]{1,2}\.[0-7]$/i);
  try {
    parseRid(bdf);
  } catch {
    wrong(`${path}.bdf`, `is "${bdf}": a device number goes up to 1f`);
  }
  for (const key of ["iommu", "group"]) {
    const value = spec[key];
    if (value !== undefined && !(Number.isInteger(value) && Number(value) >= 0)) wrong(`${path}.${key}`, "is not a number from 0 on");
  }
  return {
    model: text(spec.model, `${path}.model`, NAME),
    bdf,
    vfio: text(spec.vfio, `${path}.vfio`, /^vfio\d{1,4}$/),
    ...(spec.iommu === undefined ? {} : { iommu: Number(spec.iommu) }),
    ...(spec.group === undefined ? {} : { group: Number(spec.group) }),
    ...options(spec.options, `${path}.options`),
  };
}

function mdevs(value: unknown): MdevSpec {
  const spec = object(value, "mdev", ["parents", "devices"]);
  const parents = list(spec.parents ?? [], "mdev.parents").map((entry, i) => mdevParent(entry, `mdev.parents[${i}]`));
  unique(parents, "name", ({ name }) => name, "mdev.parents");
  return { parents, devices: list(spec.devices ?? [], "mdev.devices").map((entry, i) => mdevDevice(entry, `mdev.devices[${i}]`)) };
}

function mdevParent(value: unknown, path: string): MdevParentSpec {
  const spec = object(value, path, ["driver", "name", "options"]);
  const driver = text(spec.driver, `${path}.driver`, NAME);
  return { driver, name: text(spec.name ?? driver, `${path}.name`, NAME), ...options(spec.options, `${path}.options`) };
}

function mdevDevice(value: unknown, path: string): MdevDeviceSpec {
  const spec = object(value, path, ["uuid", "type", "parent"]);
  return {
    uuid: text(spec.uuid, `${path}.uuid`, /^.{36}$/),
    type: text(spec.type, `${path}.type`, NAME),
    parent: text(spec.parent, `${path}.parent`, /^[\w.:-]{1,64}$/),
  };
}

function unique<T>(devices: readonly T[], key: string, of: (device: T) => string, where = "devices"): void {
  const seen = new Set<string>();
  for (const [i, entry] of devices.entries()) {
    if (seen.has(of(entry))) wrong(`${where}[${i}].${key}`, "is taken by another device");
    seen.add(of(entry));
  }
}
