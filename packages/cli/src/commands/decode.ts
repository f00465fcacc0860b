/** `iommu decode`: any structure, register, descriptor or record from its bytes, and lines of a kernel's log. */
import { existsSync, readFileSync } from "node:fs";
import { type DecodedStructure, isText, type LogExplanation, parseStructures, splitStructures, type StructureDecoder, type StructureKind, type UnitRegisters } from "@iommukit/core/decode";
import { distance } from "fastest-levenshtein";
import { compose, type GlobalOptions } from "../composition.js";
import { parseRegister, parseRegisters } from "../source.js";
import { structureLines } from "../structure-lines.js";
import { print, printJson, style } from "../style.js";

interface DecodeOptions {
  readonly list?: boolean;
  readonly preset?: string;
  readonly reg: readonly string[];
  readonly all?: boolean;
  readonly json?: boolean;
}

export async function decode(what: readonly string[], options: DecodeOptions, globals: GlobalOptions): Promise<void> {
  const { structureDecoders } = await compose(globals);
  const { words, registers } = separate(what);
  const decoder = structureDecoders.find(({ iommu }) => iommu === words[0]);
  if (options.list) {
    list(decoder ? [decoder] : structureDecoders, options);
    return;
  }
  if (decoder === undefined) throw new Error(`${words.length === 0 ? "say whose structure it is" : `"${words[0]}" is no IOMMU that has a decoder`}; there are: ${structureDecoders.map(({ iommu }) => iommu).join(", ")}`);
  const [, name, ...values] = words;
  if (name === undefined) throw new Error(`say what it is: iommu decode ${decoder.iommu} --list shows every kind`);
  const unit = unitOf(decoder, options, registers);
  if (name === "log") explainLog(decoder, values, unit, options);
  else if (/\s/.test(name)) explainLines(decoder, [name, ...values], unit, options);
  else decodeValues(decoder, kindOf(decoder, name), values, unit, options);
}

/** `--cap 0x…` and `--cap=0x…` give a register, as --reg CAP=0x… does. */
function separate(what: readonly string[]): { words: string[]; registers: string[] } {
  const words: string[] = [];
  const registers: string[] = [];
  for (let i = 0; i < what.length; i++) {
    const match = /^--([a-z_]\w*)(?:=(.*))?$/i.exec(what[i]);
    if (match === null) words.push(what[i]);
    else registers.push(`${match[1].toUpperCase()}=${match[2] ?? what[++i] ?? ""}`);
  }
  return { words, registers };
}

function unitOf(decoder: StructureDecoder, options: DecodeOptions, registers: readonly string[]): UnitRegisters {
  const names = Object.keys(decoder.parameters);
  for (const text of registers) {
    const [name] = text.split("=");
    if (!names.includes(name)) throw new Error(`unknown option --${name.toLowerCase()}; a ${decoder.iommu} unit is described by ${names.map((known) => `--${known.toLowerCase()}`).join(", ")}`);
  }
  const given = { ...parseRegisters(options.reg), ...Object.fromEntries(registers.map((text) => parseRegister(text, `--${text.split("=")[0].toLowerCase()}`))) };
  const unknown = Object.keys(given).find((name) => !names.includes(name));
  if (unknown !== undefined) throw new Error(`--reg ${unknown}: a ${decoder.iommu} unit is described by ${names.join(", ")}`);
  if (options.preset === undefined) return given;
  const preset = decoder.presets[options.preset];
  if (preset === undefined) throw new Error(`preset "${options.preset}" is not known; there are: ${Object.keys(decoder.presets).join(", ")}`);
  return { ...preset, ...given };
}

const NEAREST = 5;

function kindOf(decoder: StructureDecoder, name: string): StructureKind {
  const wanted = name.toLowerCase();
  const kind = decoder.kinds.find((candidate) => candidate.name === wanted);
  if (kind !== undefined) return kind;
  const known = Object.entries(decoder.notModelled ?? {}).find(([candidate]) => candidate.toLowerCase() === wanted);
  if (known !== undefined) throw new Error(`${known[0]} is not modelled: ${known[1]}`);
  const score = (candidate: string): number => (candidate.includes(wanted) || wanted.includes(candidate) ? 0 : 1) + distance(candidate, wanted) / Math.max(candidate.length, wanted.length);
  const near = decoder.kinds.map((candidate) => candidate.name).sort((a, b) => score(a) - score(b)).slice(0, NEAREST);
  throw new Error(`${decoder.iommu} has no structure "${name}"; the nearest are: ${near.join(", ")} (iommu decode ${decoder.iommu} --list shows all)`);
}

function decodeValues(decoder: StructureDecoder, kind: StructureKind, values: readonly string[], unit: UnitRegisters, options: DecodeOptions): void {
  const decoded = readStructures(values, kind.bits).map((words) => decoder.decode(kind.name, words, unit));
  if (options.json) printJson(decoded);
  else show(decoded, options);
  process.exitCode = decoded.some(({ fields }) => fields.some(({ violation }) => violation !== undefined)) ? 1 : 0;
}

/** Words and bytes of the command line, or what a file or standard input holds. */
function readStructures(values: readonly string[], bits: number): bigint[][] {
  const [first] = values;
  if (values.length !== 1 || (first !== "-" && !existsSync(first))) return parseStructures(values.join(" "), bits);
  const bytes = readFileSync(first === "-" ? 0 : first);
  return isText(bytes) ? parseStructures(bytes.toString("latin1"), bits) : splitStructures(bytes, bits);
}

function show(decoded: readonly DecodedStructure[], options: DecodeOptions): void {
  const many = decoded.length > 1;
  let empty = 0;
  for (const [i, one] of decoded.entries()) {
    if (many && one.words.every((word) => word === 0n)) {
      empty++;
      continue;
    }
    for (const line of decodedLines(one, options, many ? `  index ${i}` : "")) print(line);
  }
  if (empty > 0) print(style.dim(`${empty} of ${decoded.length} are all zero`));
}

function* decodedLines({ structure, section, words, fields, notes }: DecodedStructure, { all = false }: DecodeOptions, index = ""): Generator<string> {
  yield `${style.title(structure)}${index}  ${style.dim(`[${section}]`)}`;
  yield* structureLines(words, fields, { all });
  for (const note of notes) yield `  ${note}`;
}

function explainLog(decoder: StructureDecoder, files: readonly string[], unit: UnitRegisters, options: DecodeOptions): void {
  const [file = "-"] = files;
  if (files.length > 1) throw new Error("one log at a time");
  explainLines(decoder, readFileSync(file === "-" ? 0 : file, "utf8").split("\n"), unit, options);
}

function explainLines(decoder: StructureDecoder, lines: readonly string[], unit: UnitRegisters, options: DecodeOptions): void {
  const found: (LogExplanation & { readonly line: string })[] = [];
  for (const line of lines) {
    const explained = decoder.explainLine(line, unit);
    if (explained !== undefined) found.push({ line: line.trim(), ...explained });
  }
  if (options.json) printJson(found);
  else for (const one of found) for (const line of logLines(one, options)) print(line);
  if (found.length > 0) return;
  if (!options.json) print(`no line is one that the ${decoder.iommu} decoder knows`);
  process.exitCode = 1;
}

function* logLines({ line, text, structures }: LogExplanation & { readonly line: string }, options: DecodeOptions): Generator<string> {
  yield style.title(line);
  for (const part of text) yield `  ${part}`;
  for (const structure of structures) yield* decodedLines(structure, options);
}

function list(decoders: readonly StructureDecoder[], options: DecodeOptions): void {
  if (options.json) {
    printJson(decoders.map(({ iommu, kinds, parameters, presets }) => ({ iommu, kinds, parameters, presets: Object.keys(presets) })));
    return;
  }
  for (const { iommu, kinds, parameters, presets, notModelled = {} } of decoders) {
    for (const group of new Set(kinds.map((kind) => kind.group))) {
      print(style.title(`${iommu}: ${group}`));
      for (const { name, structure, section, bits } of kinds.filter((kind) => kind.group === group)) {
        print(`  ${style.name(name.padEnd(28))} ${`${bits}`.padStart(3)} bits  ${structure}  ${style.dim(`[${section}]`)}`);
      }
    }
    if (Object.keys(notModelled).length > 0) print(style.title(`${iommu}: not modelled`));
    for (const [name, about] of Object.entries(notModelled)) print(`  ${style.name(name.padEnd(28))} ${about}`);
    print(style.title(`${iommu}: the unit, by --NAME VALUE`));
    for (const [name, about] of Object.entries(parameters)) print(`  ${style.name(name.toLowerCase().padEnd(28))} ${about}`);
    print(`  ${style.name("preset".padEnd(28))} ${Object.keys(presets).join(", ")}`);
  }
}
