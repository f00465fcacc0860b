/** `iommu run`: a native program against a simulated machine. */
import { createWriteStream } from "node:fs";
import { buildMachine, type DeviceNodes, Tracer, traceNodes } from "@iommukit/core";
import { bareNodes } from "@iommukit/core/testing";
import { runProgram } from "@iommukit/door";
import { chooseMachine, compose, type Composition, type GlobalOptions } from "../composition.js";
import { eventLine } from "../events.js";

export async function run(
  program: string,
  args: readonly string[],
  options: { readonly machine?: string; readonly log?: true | string; readonly grant: readonly string[] },
  globals: GlobalOptions,
): Promise<void> {
  const composition = await compose(globals);
  const tracer = new Tracer();
  const nodes = nodesOf(composition, options.machine, tracer);
  if (options.log !== undefined) {
    const stream = options.log === true ? process.stderr : createWriteStream(options.log);
    tracer.listener = (event) => {
      const line = eventLine(event);
      if (line !== undefined && (event.kind === "call" || event.kind === "fault")) stream.write(`${line}\n`);
    };
  }
  process.exitCode = await runProgram({ nodes, command: program, args, grant: options.grant.map((name) => name.replace(/^CAP_/, "")) });
}

/** "none" and "mock" have no devices: /dev/iommu alone, the latter with the kernel's test command. */
function nodesOf(composition: Composition, machine: string | undefined, tracer: Tracer): DeviceNodes {
  if (machine === "none" || machine === "mock") return traceNodes(bareNodes(machine === "mock"), tracer);
  return buildMachine(chooseMachine(composition, machine), composition, tracer).nodes;
}
