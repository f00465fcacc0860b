/** `iommu run`: a native program against a simulated machine. */
import { createWriteStream } from "node:fs";
import { buildMachine, Tracer } from "@iommukit/core";
import { runProgram } from "@iommukit/door";
import { chooseMachine, compose, type GlobalOptions } from "../composition.js";
import { eventLine } from "../events.js";

export async function run(
  program: string,
  args: readonly string[],
  options: { readonly machine?: string; readonly log?: true | string },
  globals: GlobalOptions,
): Promise<void> {
  const composition = await compose(globals);
  const tracer = new Tracer();
  const machine = buildMachine(chooseMachine(composition, options.machine), composition, tracer);
  if (options.log !== undefined) {
    const stream = options.log === true ? process.stderr : createWriteStream(options.log);
    tracer.listener = (event) => {
      const line = eventLine(event);
      if (line !== undefined && (event.kind === "call" || event.kind === "fault")) stream.write(`${line}\n`);
    };
  }
  process.exitCode = await runProgram({ nodes: machine.nodes, command: program, args });
}
