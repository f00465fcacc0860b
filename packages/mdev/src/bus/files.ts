/** What /sys shows of parents and mdevs (Linux, Documentation/driver-api/vfio-mediated-device.rst). */
import { type MdevParentPlace, type MdevType, sysfsLink, type SysfsEntry } from "@iommukit/core";
import type { Instance } from "./instance.js";
import type { Parent } from "./parent.js";

const CLASS = "/sys/class/mdev_bus";
const BUS = "/sys/bus/mdev";

/** Folders that are there without any parent. */
export const BUS_FILES: readonly SysfsEntry[] = [CLASS, `${BUS}/devices`, `${BUS}/drivers`].map((path): SysfsEntry => ({ path, kind: "folder" }));

export function typeFolder({ home }: MdevParentPlace, type: string): string {
  return `${home}/mdev_supported_types/${type}`;
}

function file(path: string, content: string): SysfsEntry {
  return { path, kind: "file", content: `${content}\n` };
}

/** @param create takes what is written to the file of that name */
export function parentFiles({ place, parent, types }: Parent, create: (type: string, text: string) => void): SysfsEntry[] {
  return [
    sysfsLink(`${CLASS}/${place.name}`, place.home),
    { path: `${BUS}/drivers/${parent.driver}`, kind: "folder" },
    ...[...types].flatMap(([name, type]) => typeFiles(typeFolder(place, name), type, parent.deviceApi, (text) => create(name, text))),
  ];
}

function typeFiles(folder: string, { name, prettyName, description }: MdevType, deviceApi: string, store: (text: string) => void): SysfsEntry[] {
  return [
    { path: `${folder}/create`, kind: "attribute", store },
    file(`${folder}/device_api`, deviceApi),
    file(`${folder}/name`, prettyName ?? name),
    ...(description === undefined ? [] : [file(`${folder}/description`, description)]),
    { path: `${folder}/devices`, kind: "folder" },
  ];
}

/** Of all types: one mdev more or less may change each. */
export function availableFiles(parent: Parent): SysfsEntry[] {
  return [...parent.types].map(([name, type]) => file(`${typeFolder(parent.place, name)}/available_instances`, String(parent.available(type))));
}

/** What goes as soon as an mdev is to be removed. */
export function activeFiles({ uuid, home, parent: { place }, type }: Instance, remove: (text: string) => void): SysfsEntry[] {
  return [
    { path: `${home}/remove`, kind: "attribute", store: remove },
    sysfsLink(`${home}/mdev_type`, typeFolder(place, type)),
    sysfsLink(`${typeFolder(place, type)}/devices/${uuid}`, home),
  ];
}

/** What stays until an mdev is released. */
export function instanceFiles({ uuid, home, parent: { parent } }: Instance, attributes: Readonly<Record<string, string>>): SysfsEntry[] {
  return [
    sysfsLink(`${home}/subsystem`, BUS),
    sysfsLink(`${home}/driver`, `${BUS}/drivers/${parent.driver}`),
    file(`${home}/uevent`, `DRIVER=${parent.driver}`),
    ...Object.entries(attributes).map(([path, content]) => file(`${home}/${path}`, content)),
    sysfsLink(`${BUS}/devices/${uuid}`, home),
    sysfsLink(`${BUS}/drivers/${parent.driver}/${uuid}`, home),
  ];
}
