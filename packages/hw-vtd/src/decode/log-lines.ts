/**
 * What Linux's VT-d driver prints, explained: faults, queue errors, units, and
 * the table entries that it dumps when a fault comes. Prefixes such as time
 * stamps may be there or not.
 */
import type { DecodedStructure, LogExplanation, UnitRegisters } from "@iommukit/core/decode";
import { decodeFields, type FieldTable } from "@iommukit/core";
import { PASID_TABLE_ENTRY } from "../spec/entries.js";
import { REGISTER_LAYOUTS } from "../spec/register-fields.js";
import { decodeStructure, explainFault } from "./structures.js";

interface LineRule {
  readonly event: string;
  readonly pattern: RegExp;
  explain(match: RegExpExecArray, unit: UnitRegisters | undefined): { readonly text: readonly string[]; readonly structures?: readonly DecodedStructure[] };
}

const number = (text: string): number => Number.parseInt(text.replace(/^0x/i, ""), 16);
const word = (text: string): bigint => BigInt(`0x${text.replace(/^0x/i, "")}`);
const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** Meanings of the fields that are set in a register's value. */
function setFields(name: string, value: bigint): string[] {
  const layout = REGISTER_LAYOUTS.find(({ table }) => table.structure === name);
  if (layout === undefined) throw new RangeError(`no register ${name}`);
  return decodeFields(layout.table, [value])
    .filter((field) => field.value !== 0n)
    .map(({ name: field, value: own, meaning }) => `${field}${own === 1n ? "" : ` ${hex(own)}`}: ${meaning ?? "set"}`);
}

const entry = (kind: string) => ({ explain: (match: RegExpExecArray, unit: UnitRegisters | undefined) => ({ text: [], structures: [decodeStructure(kind, [word(match[1])], unit)] }) });
/** The fields of the one word that a line shows. */
function fieldsOfWord(table: FieldTable, index: number, value: bigint): string[] {
  const words = Array.from({ length: table.bits / 64 }, (_, i) => (i === index ? value : 0n));
  return decodeFields(table, words)
    .filter(({ bits, value: own }) => own !== 0n && Number(bits.split(":").at(-1)) >> 6 === index)
    .map(({ name, bits, value: own, meaning, violation }) => `${name} (bits ${bits}) ${hex(own)}${meaning ? `: ${meaning}` : ""}${violation ? `: ${violation}` : ""}`);
}

const LEVELS = ["pte", "pde", "pdpe", "pml4e", "pml5e"];

const RULES: readonly LineRule[] = [
  {
    event: "dma-fault",
    pattern: /\[DMA (Read|Write)(?: (NO_PASID)| PASID (?:0x)?([0-9a-f]+))?\] Request device \[(?:0x)?([0-9a-f:.]+)\](?: PASID (?:0x)?([0-9a-f]+))? fault addr (?:0x)?([0-9a-f]+) \[fault reason (?:0x)?([0-9a-f]+)\]/i,
    explain([, type, , pasid, device, laterPasid, address, reason]) {
      const withPasid = pasid ?? laterPasid;
      const tagged = withPasid === undefined || withPasid === "ffffffff" ? "" : ` with PASID ${hex(number(withPasid))}`;
      return { text: [`the unit blocked a ${type.toLowerCase()} of ${hex(word(address))} by ${device}${tagged}`, ...explainFault(number(reason))] };
    },
  },
  {
    event: "interrupt-fault",
    pattern: /\[?INTR-REMAP\]?:? Request device \[(?:0x)?\[?([0-9a-f:.]+)\]? fault index (?:0x)?([0-9a-f]+) ?\]?(?:\n)?\[fault reason (?:0x)?([0-9a-f]+)\]/i,
    explain: ([, device, index, reason]) => ({ text: [`the unit blocked an interrupt of ${device} with index ${hex(number(index))}`, ...explainFault(number(reason))] }),
  },
  {
    event: "fault-status",
    pattern: /handling fault status reg (?:0x)?([0-9a-f]+)/i,
    explain: ([, status]) => ({ text: setFields("FSTS", word(status)) }),
  },
  {
    event: "queue-error",
    pattern: /VT-d detected Invalidation Queue Error: Reason (?:0x)?([0-9a-f]+)/i,
    explain: ([, reason]) => ({ text: ["the invalidation queue stopped at the descriptor at its head", ...setFields("IQERCD", word(reason))] }),
  },
  {
    event: "queue-descriptor",
    pattern: /QI (?:HEAD|PRIOR): .*?qw0 = (?:0x)?([0-9a-f]+), qw1 = (?:0x)?([0-9a-f]+)(?:, qw2 = (?:0x)?([0-9a-f]+), qw3 = (?:0x)?([0-9a-f]+))?/i,
    explain(match, unit) {
      const words = match.slice(1).filter((text) => text !== undefined).map(word);
      const whole = decodeStructure("descriptor", words.slice(0, 2), unit);
      return { text: [], structures: [words.length === 4 && whole.bits === 256 ? { ...whole, words } : whole] };
    },
  },
  {
    event: "invalidation-timeout",
    pattern: /VT-d detected Invalidation (Time-out|Completion) Error: SID (?:0x)?([0-9a-f]+)/i,
    explain: ([, what, sid]) => ({
      text: [
        what === "Time-out"
          ? `the device ${requesterOf(sid)} did not answer a device-TLB invalidation in time: it is gone, was reset, or ATS was left on`
          : `the device ${requesterOf(sid)} answered a device-TLB invalidation that was not its own`,
      ],
    }),
  },
  {
    event: "unit",
    pattern: /(dmar\d+): reg_base_addr (?:0x)?([0-9a-f]+) ver ([0-9a-f]+):([0-9a-f]+) cap (?:0x)?([0-9a-f]+) ecap (?:0x)?([0-9a-f]+)/i,
    explain: ([, name, base, major, minor, cap, ecap]) => ({
      text: [`${name} has its registers at ${hex(word(base))}, architecture version ${number(major)}.${number(minor)}`],
      structures: [decodeStructure("cap", [word(cap)]), decodeStructure("ecap", [word(ecap)])],
    }),
  },
  {
    event: "acpi-drhd",
    pattern: /DRHD base: (?:0x)?([0-9a-f]+) flags: (?:0x)?([0-9a-f]+)/i,
    explain: ([, base, flags]) => ({
      text: [`a unit with registers at ${hex(word(base))}${(number(flags) & 1) === 1 ? ", for every PCI device of its segment that no other unit names (INCLUDE_PCI_ALL)" : ", for the devices in its scope"}`],
    }),
  },
  {
    event: "acpi-rmrr",
    pattern: /RMRR base: (?:0x)?([0-9a-f]+) end: (?:0x)?([0-9a-f]+)/i,
    explain: ([, base, end]) => ({ text: [`firmware's devices use ${hex(word(base))}-${hex(word(end))}: it stays mapped one to one for them`] }),
  },
  { event: "acpi-atsr", pattern: /ATSR flags: (?:0x)?([0-9a-f]+)/i, explain: ([, flags]) => ({ text: [`root ports that pass ATS${(number(flags) & 1) === 1 ? ": all of the segment" : ""}`] }) },
  { event: "acpi-satc", pattern: /SATC flags: (?:0x)?([0-9a-f]+)/i, explain: ([, flags]) => ({ text: [`integrated devices with an address translation cache${(number(flags) & 1) === 1 ? ", which must be enabled" : ""}`] }) },
  { event: "acpi-width", pattern: /Host address width (\d+)/i, explain: ([, width]) => ({ text: [`physical addresses have ${width} bits`] }) },
  {
    event: "entry",
    pattern: /scalable mode root entry: hi (?:0x)?([0-9a-f]+), low (?:0x)?([0-9a-f]+)/i,
    explain: ([, high, low], unit) => ({ text: [], structures: [decodeStructure("sm-root-entry", [word(low), word(high)], unit)] }),
  },
  {
    event: "entry",
    pattern: /context entry: hi (?:0x)?([0-9a-f]+), low (?:0x)?([0-9a-f]+)/i,
    explain([, high, low], unit) {
      const words = [word(low), word(high)];
      return {
        text: ["the line does not say which mode: in scalable mode it is the lower half of an entry of 256 bits; both are shown"],
        structures: [decodeStructure("context-entry", words, unit), decodeStructure("sm-context-entry", [...words, 0n, 0n], unit)],
      };
    },
  },
  {
    event: "entry",
    pattern: /\broot entry: (?:0x)?([0-9a-f]+)/i,
    explain: ([, low], unit) => ({ text: [], structures: [decodeStructure("root-entry", [word(low), 0n], unit)] }),
  },
  { event: "entry", pattern: /pasid dir entry: (?:0x)?([0-9a-f]+)/i, ...entry("pasid-dir-entry") },
  {
    event: "entry",
    pattern: /pasid table entry\[([0-7])\]: (?:0x)?([0-9a-f]+)/i,
    explain: ([, index, value]) => ({ text: [`word ${index} of a PASID table entry`, ...fieldsOfWord(PASID_TABLE_ENTRY, Number(index), word(value))] }),
  },
  {
    event: "entry",
    pattern: /pte level: ([1-5]), pte value: (?:0x)?([0-9a-f]+)/i,
    explain([, level, value], unit) {
      const name = LEVELS[Number(level) - 1];
      return {
        text: ["the line does not say which stage: both are shown"],
        structures: [decodeStructure(`fs-${name}`, [word(value)], unit), decodeStructure(`ss-${name}`, [word(value)], unit)],
      };
    },
  },
];

function requesterOf(sid: string): string {
  const value = number(sid) & 0xffff;
  const two = (part: number): string => part.toString(16).padStart(2, "0");
  return `${two(value >> 8)}:${two((value >> 3) & 31)}.${value & 7}`;
}

/** Lines longer than this are none that the driver prints. */
const LONGEST = 2000;

/** undefined for a line that says nothing of VT-d. */
export function explainLine(line: string, unit?: UnitRegisters): LogExplanation | undefined {
  if (line.length > LONGEST) return undefined;
  for (const { event, pattern, explain } of RULES) {
    const match = pattern.exec(line);
    if (match === null) continue;
    try {
      const { text, structures = [] } = explain(match, unit);
      return { event, text, structures };
    } catch (error) {
      // Digits that fit no structure: a line that only looks like one.
      if (!(error instanceof RangeError)) throw error;
      return { event, text: [error.message], structures: [] };
    }
  }
  return undefined;
}
