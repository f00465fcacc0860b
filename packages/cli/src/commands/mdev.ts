/** `iommu mdev`: the mdev bus of the machine around this process, by its files in /sys. */
import { randomUUID } from "node:crypto";
import { joinRun } from "../join-run.js";
import { createDevice, type DeviceEntry, MdevRefusal, readDevices, readTypes, removeDevice, type TypeEntry } from "../mdev-files.js";
import { print, printJson, style } from "../style.js";

interface MdevOptions {
  readonly run?: string;
  readonly json?: boolean;
}

/** In the run that is named, or here; what the bus refuses ends with 1. */
function within({ run }: MdevOptions, work: () => void): void {
  if (run !== undefined) {
    process.exitCode = joinRun(run);
    return;
  }
  try {
    work();
  } catch (error) {
    if (!(error instanceof MdevRefusal)) throw error;
    process.stderr.write(`iommu: ${error.message}\n`);
    process.exitCode = 1;
  }
}

export function mdevTypes(options: MdevOptions): void {
  within(options, () => {
    const types = readTypes();
    if (options.json) printJson(types);
    else for (const { parent, type, name, description, api, available, devices } of types) {
      print(`${style.name(type)}  on ${parent}: ${name}, ${api}, ${available} available, ${devices.length} in use`);
      if (description) print(style.dim(`  ${description}`));
    }
  });
}

export function mdevList(options: MdevOptions): void {
  within(options, () => {
    const devices = readDevices();
    if (options.json) printJson(devices);
    else for (const device of devices) print(line(device));
  });
}

function line({ uuid, parent, type, node, group }: DeviceEntry): string {
  const state = node === undefined ? style.dim("removed, still open") : `/dev/vfio/devices/${node}, group ${group}`;
  return `${style.name(uuid)}  ${type ?? "-"} on ${parent}  ${state}`;
}

export function mdevCreate(wanted: string, options: MdevOptions & { readonly uuid?: string; readonly parent?: string }): void {
  within(options, () => {
    const made = createDevice(choose(readTypes(), wanted, options.parent), options.uuid ?? randomUUID());
    if (options.json) printJson(made);
    else print(line(made));
  });
}

/** @throws Error unless there is exactly one */
function choose(types: readonly TypeEntry[], wanted: string, parent: string | undefined): TypeEntry {
  const [first, second] = types.filter((entry) => entry.type === wanted && (parent === undefined || entry.parent === parent));
  if (first === undefined) {
    const there = types.map((entry) => `${entry.type} on ${entry.parent}`).join(", ");
    throw new Error(`no type ${wanted}${parent === undefined ? "" : ` on ${parent}`}; there are: ${there || "none"}`);
  }
  if (second) throw new Error(`type ${wanted} is on several parents: choose with --parent ${first.parent} or --parent ${second.parent}`);
  return first;
}

export function mdevRemove(uuid: string, options: MdevOptions): void {
  within(options, () => {
    const gone = removeDevice(uuid);
    if (options.json) printJson({ uuid: uuid.toLowerCase(), gone });
    else print(gone ? `${uuid.toLowerCase()} is gone` : `${uuid.toLowerCase()} goes when nobody has it open any more`);
  });
}
