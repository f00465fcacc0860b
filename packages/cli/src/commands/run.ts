/** `iommu run`: a native program against a simulated machine. */
import { closeSync, createWriteStream, openSync, writeSync } from "node:fs";
import { buildMachine, type DeviceNodes, type Machine, Tracer, traceNodes } from "@iommukit/core";
import { bareNodes, recordNodes } from "@iommukit/core/testing";
import { type DoorKind, DOORS, runProgram } from "@iommukit/door";
import { chooseMachine, compose, type Composition, type GlobalOptions } from "../composition.js";
import { eventLine } from "../events.js";
import { sanitize } from "../sanitize.js";

export async function run(
  program: string,
  args: readonly string[],
  options: { readonly machine?: string; readonly door: string; readonly log?: true | string; readonly record?: string; readonly sanitize?: true; readonly grant: readonly string[]; readonly mdev: readonly string[] },
  globals: GlobalOptions,
): Promise<void> {
  const door = doorOf(options.door);
  const composition = await compose(globals);
  const tracer = new Tracer();
  const machine = withParents(machineOf(composition, options.machine), options.mdev);
  const { nodes: traced, built } = nodesOf(machine, composition, tracer);
  const sanitizer = options.sanitize && built && sanitize(built);
  const recording = options.record === undefined ? undefined : openSync(options.record, "w");
  const nodes = recording === undefined ? traced : recordNodes(traced, {
    machine: typeof machine === "string" ? { platform: machine, iommufd_test: machine === "mock", devices: [] } : { platform: "machine", machine, iommufd_test: false },
    about: [program, ...args].join(" "),
    write: (line) => writeSync(recording, `${line}\n`),
    warn: (text) => process.stderr.write(`iommu: ${text}\n`),
  });
  if (options.log !== undefined) {
    const stream = options.log === true ? process.stderr : createWriteStream(options.log);
    tracer.listen((event) => {
      const line = eventLine(event);
      if (line !== undefined && (event.kind === "call" || event.kind === "fault" || event.kind === "uevent")) stream.write(`${line}\n`);
    });
  }
  try {
    const exitCode = await runProgram({ nodes, door, command: program, args, grant: options.grant.map((name) => name.replace(/^CAP_/, "")) });
    process.exitCode = sanitizer ? sanitizer.exitCode(exitCode) : exitCode;
  } finally {
    if (recording !== undefined) closeSync(recording);
  }
}

function doorOf(name: string): DoorKind {
  const door = DOORS.find((known) => known === name);
  if (door === undefined) throw new Error(`no such door: ${name} (there are ${DOORS.join(" and ")})`);
  return door;
}

/** "none" and "mock" have no devices: /dev/iommu alone, the latter with the kernel's test command. */
function machineOf(composition: Composition, machine: string | undefined): unknown {
  return machine === "none" || machine === "mock" ? machine : chooseMachine(composition, machine);
}

/** The machine with more parents of mediated devices: "serial", or "serial=name". */
function withParents(machine: unknown, wanted: readonly string[]): unknown {
  if (wanted.length === 0) return machine;
  if (typeof machine !== "object" || machine === null) throw new Error(`--mdev: machine ${String(machine)} has no mediated devices`);
  const { mdev = {} } = machine as { readonly mdev?: { readonly parents?: readonly unknown[] } };
  const parents = wanted.map((text) => {
    const [driver, ...name] = text.split("=");
    return { driver, ...(name.length > 0 && { name: name.join("=") }) };
  });
  return { ...machine, mdev: { ...mdev, parents: [...(mdev.parents ?? []), ...parents] } };
}

function nodesOf(machine: unknown, composition: Composition, tracer: Tracer): { nodes: DeviceNodes; built?: Machine } {
  if (machine === "none" || machine === "mock") return { nodes: traceNodes(bareNodes(machine === "mock"), tracer) };
  const built = buildMachine(machine, composition, tracer);
  return { nodes: built.nodes, built };
}
