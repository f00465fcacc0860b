/** What a DMAR table must obey beyond its lengths (VT-d 8.2 to 8.9). */
import { type AcpiField, acpiHex as hex, type AcpiValues } from "@iommukit/core/acpi";
import { type DeviceScope, type DmarLayout, type DmarName, ScopeType } from "./structures.js";

/** A structure as it was found. */
export interface Found {
  readonly layout: DmarLayout;
  readonly offset: number;
  readonly length: number;
  readonly values: AcpiValues;
  readonly fields: readonly AcpiField[];
  readonly scopes: readonly { readonly scope: DeviceScope; readonly offset: number; readonly length: number; readonly reserved: number }[];
  readonly object?: string;
  readonly problems: readonly string[];
}

const includesAll = ({ values }: Found): boolean => (values.flags & 1n) === 1n;

/** Of the table as a whole. */
export function* checkTable(hostAddressWidth: number, flags: number, found: readonly Found[]): Generator<string> {
  if (hostAddressWidth < 32 || hostAddressWidth > 64) yield `a host address width of ${hostAddressWidth} bits is none`;
  if ((flags & ~7) !== 0) yield `flags ${hex(flags)}: bits 7:3 are reserved`;
  if ((flags & 2) !== 0 && (flags & 1) === 0) yield "X2APIC_OPT_OUT says nothing without INTR_REMAP";
  if (!found.some(({ layout }) => layout.name === "DRHD")) yield "there is no DRHD: a platform with this table has at least one unit";
  for (const [i, { layout, offset }] of found.entries()) {
    const before = found[i - 1]?.layout;
    if (before !== undefined && before.type > layout.type) yield `the ${layout.name} at offset ${hex(offset)} follows a ${before.name}: structures come in the order of their types (VT-d 8.2)`;
  }
}

/** Of one structure among the others. */
export function checkStructure(one: Found, all: readonly Found[]): string[] {
  return [...(RULES[one.layout.name]?.(one, all) ?? [])];
}

const RULES: Readonly<Record<DmarName, ((one: Found, all: readonly Found[]) => Iterable<string>) | undefined>> = {
  *DRHD(one, all) {
    const { size, segment, base } = one.values;
    if (base % (4096n << (size & 15n)) !== 0n) yield `base ${hex(base)} is not aligned to the ${4096n << (size & 15n)} bytes of registers`;
    if (base === 0n) yield "base is 0: software takes the unit for absent";
    const units = all.filter(({ layout }) => layout.name === "DRHD");
    if (units.some((other) => other !== one && other.values.base === base)) yield `base ${hex(base)} is another unit's, too`;
    if (!includesAll(one) && one.scopes.length === 0) yield "it names no device and is not INCLUDE_PCI_ALL";
    if (!includesAll(one)) return;
    const own = units.filter((other) => other.values.segment === segment);
    if (own.some((other) => other !== one && includesAll(other))) yield `segment ${segment} has another unit with INCLUDE_PCI_ALL`;
    if (own.at(-1) !== one && own.slice(own.indexOf(one) + 1).some((other) => !includesAll(other))) yield "INCLUDE_PCI_ALL comes last among the units of its segment";
    if (one.scopes.some(({ scope }) => scope.type === ScopeType.ENDPOINT || scope.type === ScopeType.BRIDGE)) yield "INCLUDE_PCI_ALL names no PCI devices: it has all that others do not";
  },
  *RMRR({ values: { base, limit }, scopes }) {
    if (base % 4096n !== 0n) yield `base ${hex(base)} is not aligned to 4 KiB`;
    if ((limit + 1n) % 4096n !== 0n) yield `limit ${hex(limit)} is not the last byte of a page`;
    if (limit < base) yield `limit ${hex(limit)} lies below base ${hex(base)}`;
    if (scopes.length === 0) yield "it names no device";
  },
  *ATSR({ values: { flags }, scopes }) {
    if ((flags & 1n) === 1n && scopes.length > 0) yield "ALL_PORTS names no ports";
    if ((flags & 1n) === 0n && scopes.length === 0) yield "it names no port and is not ALL_PORTS";
    if (scopes.some(({ scope }) => scope.type !== ScopeType.BRIDGE)) yield "a root port is a PCI bridge (scope type 2)";
  },
  *RHSA({ values: { base } }, all) {
    if (!all.some(({ layout, values }) => layout.name === "DRHD" && values.base === base)) yield `no DRHD has registers at ${hex(base)}`;
  },
  *ANDD(one, all) {
    const { number } = one.values;
    if (number === 0n) yield "device number 0 is reserved";
    if (all.some((other) => other !== one && other.layout.name === "ANDD" && other.values.number === number)) yield `device number ${number} is another ANDD's, too`;
    const used = all.some(({ scopes }) => scopes.some(({ scope }) => scope.type === ScopeType.NAMESPACE && BigInt(scope.id) === number));
    if (!used) yield `no device scope refers to ACPI device ${number}`;
  },
  *SATC({ scopes }) {
    if (scopes.length === 0) yield "it names no device";
    if (scopes.some(({ scope }) => scope.type !== ScopeType.ENDPOINT)) yield "a device with a translation cache is a PCI endpoint (scope type 1)";
  },
  *SIDP({ scopes }) {
    if (scopes.length === 0) yield "it names no device";
  },
};

/** Of one device scope (8.3.1). */
export function checkScope({ type, flags, path }: DeviceScope, reserved: number, inside: DmarName): string[] {
  const problems: string[] = [];
  if (type < ScopeType.ENDPOINT || type > ScopeType.NAMESPACE) problems.push(`scope type ${type} is reserved`);
  if (path.length === 0) problems.push("the path is empty: it names no device");
  for (const [device, fn] of path) if (device > 31 || fn > 7) problems.push(`${device.toString(16)}.${fn} is no PCI device and function`);
  if (reserved !== 0 || (flags & ~(inside === "SIDP" ? 31 : 0)) !== 0) problems.push("reserved bits of the scope are not 0");
  return problems;
}
