/** Opens a dump for walk and dump: a tables file, or an ELF core with its registers. */
import { existsSync, readFileSync } from "node:fs";
import type { TableDecoder, TableSource } from "@iommukit/core";
import { isElf, loadCore, loadTables, readRegisters } from "@iommukit/core/decode";
import { gunzipIfNeeded } from "@iommukit/core/testing";

export interface SourceOptions {
  readonly registers?: string;
  readonly reg: readonly string[];
  readonly iommu?: string;
}

export function readBytes(path: string): Uint8Array {
  try {
    return gunzipIfNeeded(readFileSync(path));
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function readObject(path: string, bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new Error(`${path} is neither an ELF core nor JSON: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`${path} does not hold a JSON object`);
  return value as Readonly<Record<string, unknown>>;
}

/** "linux.core.gz" -> "linux.tables.json", with or without .gz, when it is there. */
function sibling(path: string): string | undefined {
  const stem = path.replace(/\.core(\.gz)?$/, "");
  return [`${stem}.tables.json`, `${stem}.tables.json.gz`].find((candidate) => candidate !== path && existsSync(candidate));
}

export function openSource(path: string, options: SourceOptions, decoders: readonly TableDecoder[]): { source: TableSource; decoder: TableDecoder } {
  const bytes = readBytes(path);
  const given = parseRegisters(options.reg);
  let source: TableSource;
  if (isElf(bytes)) {
    const file = options.registers ?? sibling(path);
    const described = file === undefined ? undefined : readObject(file, readBytes(file));
    const iommu = options.iommu ?? (typeof described?.iommu === "string" ? described.iommu : undefined);
    if (iommu === undefined) throw new Error(`${path} is an ELF core: say whose tables it holds, with --registers FILE, or with --iommu NAME and --reg NAME=VALUE`);
    source = loadCore(bytes, iommu, { ...(described ? readRegisters(described) : {}), ...given });
  } else {
    const loaded = loadTables(readObject(path, bytes));
    source = { ...loaded, registers: { ...loaded.registers, ...given } };
  }
  const decoder = decoders.find((candidate) => candidate.iommu === source.iommu);
  if (decoder === undefined) throw new Error(`no decoder for tables of "${source.iommu}" is loaded; there are: ${decoders.map((d) => d.iommu).join(", ")}`);
  return { source, decoder };
}

export function parseRegisters(list: readonly string[]): Record<string, bigint> {
  return Object.fromEntries(list.map((text) => parseRegister(text, `--reg ${text}`)));
}

/** "RTADDR=0x769400" */
export function parseRegister(text: string, option: string): [name: string, value: bigint] {
  const match = /^(\w+)=(0x[0-9a-f]{1,16}|\d{1,20})$/i.exec(text);
  if (match === null) throw new Error(`${option}: expected NAME=VALUE, such as RTADDR=0x769400`);
  const value = BigInt(match[2]);
  if (value >= 1n << 64n) throw new Error(`${option}: a register has 64 bits at most`);
  return [match[1], value];
}

/** An address or number of an option, below 2^bits. */
export function parseNumber(text: string, option: string, bits: number): bigint {
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(text) || text.length > 24) throw new Error(`${option} ${text}: expected a number such as 0x1000`);
  const value = BigInt(text);
  if (value >= 1n << BigInt(bits)) throw new Error(`${option} ${text} does not fit ${bits} bits`);
  return value;
}
