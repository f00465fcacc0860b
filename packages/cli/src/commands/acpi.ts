/** `iommu acpi`: the firmware tables that tell an operating system of its IOMMUs. */
import { readFileSync, writeFileSync } from "node:fs";
import { type AcpiField, acpiProblems, type AcpiReport, type AcpiStructure, type AcpiTable } from "@iommukit/core/acpi";
import { chooseMachine, compose, type GlobalOptions } from "../composition.js";
import { hex, print, printJson, style } from "../style.js";

interface DecodeOptions {
  readonly brief?: boolean;
  readonly json?: boolean;
}

export async function acpiDecode(file: string, options: DecodeOptions, globals: GlobalOptions): Promise<void> {
  const { acpiTables } = await compose(globals);
  const bytes = readFileSync(file === "-" ? 0 : file);
  const signature = bytes.subarray(0, 4).toString("latin1");
  const table = acpiTables.find((candidate) => candidate.signature === signature);
  if (table === undefined) throw new Error(`${file} begins with "${signature.replace(/[^ -~]/g, "?")}", which no loaded table has; there are: ${names(acpiTables)}`);
  const report = table.decode(bytes);
  if (options.json) printJson(report);
  else for (const line of reportLines(report, options.brief === true)) print(line);
  process.exitCode = acpiProblems(report).length === 0 ? 0 : 1;
}

const names = (tables: readonly AcpiTable[]): string => tables.map(({ signature }) => signature).join(", ");

function* reportLines({ signature, header, text, structures, problems }: AcpiReport, brief: boolean): Generator<string> {
  yield `${style.title(signature)}  ${text}`;
  if (!brief) yield* fieldLines(header, "  ");
  for (const problem of problems) yield `  ${style.bad(problem)}`;
  for (const structure of structures) yield* structureLines(structure, "", brief);
}

function* structureLines({ name, section, offset, length, text, fields, children, problems }: AcpiStructure, indent: string, brief: boolean): Generator<string> {
  yield `${indent}${style.title(name)}  ${text}  ${style.dim(`at ${hex(offset)}, ${length} bytes [${section}]`)}`;
  if (!brief) yield* fieldLines(fields, `${indent}  `);
  for (const problem of problems) yield `${indent}  ${style.bad(problem)}`;
  for (const child of children) yield* structureLines(child, `${indent}  `, brief);
}

function* fieldLines(fields: readonly AcpiField[], indent: string): Generator<string> {
  for (const { name, offset, value, meaning } of fields) {
    yield `${indent}${style.dim(hex(offset).padStart(6))}  ${style.name(name.padEnd(18))} ${typeof value === "string" ? value : hex(value)}${meaning ? `  ${meaning}` : ""}`;
  }
}

interface EmitOptions {
  readonly machine?: string;
  readonly table?: string;
  readonly output: string;
}

export async function acpiEmit(options: EmitOptions, globals: GlobalOptions): Promise<void> {
  const composition = await compose(globals);
  const { acpiTables } = composition;
  const machine = chooseMachine(composition, options.machine);
  const wanted = acpiTables.filter(({ signature }) => options.table === undefined || signature === options.table.toUpperCase());
  if (wanted.length === 0) throw new Error(`no table "${options.table ?? ""}" is loaded; there are: ${names(acpiTables)}`);
  const made = wanted.flatMap((table) => table.emit(machine) ?? []);
  if (made.length === 0) throw new Error(`no unit of the machine belongs in a table that is loaded (${names(wanted)})`);
  if (made.length > 1) throw new Error(`the machine has units of several tables: choose one with --table ${names(wanted)}`);
  if (options.output === "-") process.stdout.write(made[0]);
  else writeFileSync(options.output, made[0]);
}
