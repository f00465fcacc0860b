/** The DMAR table (VT-d 8.1 to 8.9): its structures as rows of bytes, and as values. */
import { defineFields } from "@iommukit/core";
import { acpiHex, type AcpiRow, acpiRowBytes, type AcpiValues } from "@iommukit/core/acpi";

export interface DmarLayout {
  readonly type: number;
  readonly name: DmarName;
  readonly section: string;
  /** What follows type and length. */
  readonly rows: readonly AcpiRow[];
  /** What follows the rows. */
  readonly tail: "scopes" | "name" | "none";
}

export type DmarName = "DRHD" | "RMRR" | "ATSR" | "RHSA" | "ANDD" | "SATC" | "SIDP";

/** A structure as values; 0 for what is not given. */
export interface DmarStructure {
  readonly name: DmarName;
  readonly values: AcpiValues;
  readonly scopes: readonly DeviceScope[];
  /** ANDD: the object's path in the ACPI namespace. */
  readonly object?: string;
}

export interface DeviceScope {
  readonly type: number;
  /** SIDP only. */
  readonly flags: number;
  /** Of an I/O APIC, HPET or ACPI device. */
  readonly id: number;
  readonly bus: number;
  /** From the start bus down: device and function. */
  readonly path: readonly (readonly [device: number, fn: number])[];
}

export interface DmarTable {
  readonly hostAddressWidth: number;
  readonly flags: number;
  readonly structures: readonly DmarStructure[];
}

export const DMAR_FLAGS = { INTR_REMAP: 1, X2APIC_OPT_OUT: 2, DMA_CTRL_PLATFORM_OPT_IN: 4 } as const;
export const ScopeType = { ENDPOINT: 1, BRIDGE: 2, IOAPIC: 3, HPET: 4, NAMESPACE: 5 } as const;
export const SCOPE_NAMES: readonly string[] = ["", "PCI endpoint", "PCI bridge and what is below", "I/O APIC", "HPET", "ACPI device"];
/** Flags of a scope in SIDP (8.9). */
export const SIDP_FLAGS: readonly (readonly [bit: number, name: string, text: string])[] = [
  [1, "no-nested", "no nested translation for requests without PASID"],
  [2, "no-pwsnp", "no snooped page walks (PWSNP) for requests without PASID"],
  [4, "no-pgsnp", "no snooped pages (PGSNP) for requests without PASID"],
  [8, "atc-hardened", "its translation cache is hardened"],
  [16, "atc-required", "its translation cache is required"],
];

/** Table header behind the ACPI header: width, flags, 10 reserved bytes. */
export const DMAR_HEADER_BYTES = 48;
export const DMAR_REVISION = 1;
/** Type and length of a structure. */
export const STRUCTURE_HEADER_BYTES = 4;
export const SCOPE_HEADER_BYTES = 6;

const reserved = (size: number): AcpiRow => ({ name: "", size });
/** One flag, and 7 reserved bits. */
const flag = (name: string, section: string): AcpiRow => ({ name: "flags", size: 1, bits: defineFields("flags", section, 8, [[1, name], [7, ""]]) });
const registerPages = defineFields("size", "VT-d 8.3", 8, [[4, "bytes of registers", (value) => String(4096n << value)], [4, ""]]);
const segment: AcpiRow = { name: "segment", size: 2 };

export const DMAR_LAYOUTS: readonly DmarLayout[] = [
  {
    type: 0, name: "DRHD", section: "VT-d 8.3", tail: "scopes",
    rows: [
      flag("INCLUDE_PCI_ALL", "VT-d 8.3"), { name: "size", size: 1, bits: registerPages },
      segment, { name: "base", size: 8, meaning: (value) => `registers at ${acpiHex(value)}` },
    ],
  },
  {
    type: 1, name: "RMRR", section: "VT-d 8.4", tail: "scopes",
    rows: [reserved(2), segment, { name: "base", size: 8 }, { name: "limit", size: 8, meaning: () => "the last byte" }],
  },
  {
    type: 2, name: "ATSR", section: "VT-d 8.5", tail: "scopes",
    rows: [flag("ALL_PORTS", "VT-d 8.5"), reserved(1), segment],
  },
  { type: 3, name: "RHSA", section: "VT-d 8.6", tail: "none", rows: [reserved(4), { name: "base", size: 8, meaning: (value) => `of the unit at ${acpiHex(value)}` }, { name: "proximity", size: 4 }] },
  { type: 4, name: "ANDD", section: "VT-d 8.7", tail: "name", rows: [reserved(3), { name: "number", size: 1 }] },
  {
    type: 5, name: "SATC", section: "VT-d 8.8", tail: "scopes",
    rows: [flag("ATC_REQUIRED", "VT-d 8.8"), reserved(1), segment],
  },
  { type: 6, name: "SIDP", section: "VT-d 8.9", tail: "scopes", rows: [reserved(2), segment] },
];

/** Bytes of a structure before its tail. */
export function fixedBytes(layout: DmarLayout): number {
  return STRUCTURE_HEADER_BYTES + acpiRowBytes(layout.rows);
}

export function layoutOf(name: DmarName): DmarLayout {
  const layout = DMAR_LAYOUTS.find((candidate) => candidate.name === name);
  if (layout === undefined) throw new RangeError(`no DMAR structure ${name}`);
  return layout;
}
