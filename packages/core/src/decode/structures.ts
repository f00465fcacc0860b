/** Explaining single structures: what `iommu decode` asks of a vendor's package. */
import type { DecodedField } from "./types.js";

/** Something that a decoder can explain: a table entry, a register, a descriptor, a record. */
export interface StructureKind {
  /** What a person types: "pasid-entry". */
  readonly name: string;
  /** "table entry", "register", "descriptor", "record". */
  readonly group: string;
  /** The manual's name. */
  readonly structure: string;
  /** "VT-d 9.6". */
  readonly section: string;
  /** 32, or a multiple of 64. */
  readonly bits: number;
}

export interface DecodedStructure {
  readonly structure: string;
  readonly section: string;
  readonly bits: number;
  /** Little-endian 64-bit words; a 32-bit register is one word. */
  readonly words: readonly bigint[];
  readonly fields: readonly DecodedField[];
  /** What hardware does with it, what to look at. */
  readonly notes: readonly string[];
}

/** What a line of an operating system's log says. */
export interface LogExplanation {
  /** "dma-fault", "unit". */
  readonly event: string;
  readonly text: readonly string[];
  /** Structures that the line holds. */
  readonly structures: readonly DecodedStructure[];
}

/** Values of a unit by register name; what is not given is taken as "the unit can do it". */
export type UnitRegisters = Readonly<Record<string, bigint>>;

export interface StructureDecoder {
  readonly iommu: string;
  readonly kinds: readonly StructureKind[];
  /** What the manual has and this decoder knows by name only. */
  readonly notModelled?: Readonly<Record<string, string>>;
  /** Registers, and facts that are in no register, that decide what is reserved: `{ ECAP: "extended capabilities" }`. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Units by name. */
  readonly presets: Readonly<Record<string, UnitRegisters>>;
  /** @throws RangeError for a kind that is not among `kinds`, or words of another length */
  decode(kind: string, words: readonly bigint[], unit?: UnitRegisters): DecodedStructure;
  /** undefined when the line is none of this IOMMU's. */
  explainLine(line: string, unit?: UnitRegisters): LogExplanation | undefined;
}
