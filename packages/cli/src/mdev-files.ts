/** The mdev bus as its files in /sys show it: of this machine's kernel, or of the simulated machine when a door is in between. */
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { getSystemErrorName } from "node:util";

const PARENTS = "/sys/class/mdev_bus";
const DEVICES = "/sys/bus/mdev/devices";

export interface TypeEntry {
  readonly parent: string;
  readonly type: string;
  readonly name: string;
  readonly description: string | undefined;
  readonly api: string;
  readonly available: number;
  readonly devices: readonly string[];
}

export interface DeviceEntry {
  readonly uuid: string;
  readonly parent: string;
  /** Absent while it is being removed. */
  readonly type: string | undefined;
  /** "vfio3"; the same. */
  readonly node: string | undefined;
  readonly group: number | undefined;
}

/** What the bus refused, in words. */
export class MdevRefusal extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const CREATE_REASONS: Readonly<Record<string, string>> = {
  EINVAL: "the UUID is none: it has 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12",
  EEXIST: "an mdev has this UUID already, on whatever parent",
  EUSERS: "every instance of the parent is in use",
  ENOSPC: "the parent has no room for this type any more",
  ENODEV: "the parent is being unregistered",
  EACCES: "you may not write there: are you root?",
  EPERM: "you may not write there: are you root?",
};
const REMOVE_REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such mdev, or it is being removed",
  ENODEV: "it is gone, or its parent is being unregistered",
  EAGAIN: "it is being removed already",
  EACCES: "you may not write there: are you root?",
  EPERM: "you may not write there: are you root?",
};

function text(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

function names(path: string): string[] | undefined {
  try {
    return readdirSync(path).sort();
  } catch {
    return undefined;
  }
}

/** Last part of where a link leads. */
function linked(path: string): string | undefined {
  try {
    return basename(readlinkSync(path));
  } catch {
    return undefined;
  }
}

/** @throws MdevRefusal when there is no mdev bus */
export function readTypes(): TypeEntry[] {
  const parents = names(PARENTS);
  if (parents === undefined) throw new MdevRefusal("ENOENT", `${PARENTS} is not there: this machine has no mdev bus (try it inside "iommu run --mdev serial -- sh")`);
  return parents.flatMap((parent) =>
    (names(`${PARENTS}/${parent}/mdev_supported_types`) ?? []).map((type) => {
      const folder = `${PARENTS}/${parent}/mdev_supported_types/${type}`;
      return {
        parent,
        type,
        name: text(`${folder}/name`) ?? type,
        description: text(`${folder}/description`),
        api: text(`${folder}/device_api`) ?? "",
        available: Number(text(`${folder}/available_instances`) ?? 0),
        devices: names(`${folder}/devices`) ?? [],
      };
    }),
  );
}

export function readDevices(): DeviceEntry[] {
  return (names(DEVICES) ?? []).map((uuid) => {
    const group = linked(`${DEVICES}/${uuid}/iommu_group`);
    return {
      uuid,
      parent: parentOf(uuid),
      type: linked(`${DEVICES}/${uuid}/mdev_type`),
      node: names(`${DEVICES}/${uuid}/vfio-dev`)?.[0],
      group: group === undefined ? undefined : Number(group),
    };
  });
}

/** The folder that an mdev's link leads to lies in its parent's. */
function parentOf(uuid: string): string {
  try {
    return readlinkSync(`${DEVICES}/${uuid}`).split("/").at(-2) ?? "";
  } catch {
    return "";
  }
}

/** @throws MdevRefusal */
export function createDevice({ parent, type }: TypeEntry, uuid: string): DeviceEntry {
  put(`${PARENTS}/${parent}/mdev_supported_types/${type}/create`, uuid, CREATE_REASONS);
  const made = readDevices().find((device) => device.uuid === uuid.toLowerCase());
  if (made === undefined) throw new MdevRefusal("ENODEV", `${uuid} was created, but is not in ${DEVICES}`);
  return made;
}

/** @returns false when it goes only with its last close @throws MdevRefusal */
export function removeDevice(uuid: string): boolean {
  put(`${DEVICES}/${uuid.toLowerCase()}/remove`, "1", REMOVE_REASONS);
  return !readDevices().some((device) => device.uuid === uuid.toLowerCase());
}

function put(path: string, value: string, reasons: Readonly<Record<string, string>>): void {
  try {
    writeFileSync(path, value);
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    const code = getSystemErrorName(errno);
    throw new MdevRefusal(code, `${path}: ${code}: ${reasons[code] ?? "the write was refused"}`);
  }
}
