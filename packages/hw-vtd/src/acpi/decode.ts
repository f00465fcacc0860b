/** A DMAR table from bytes, every structure explained and every broken rule named. It reads whatever it can and never throws. */
import { formatRid } from "@iommukit/core";
import { acpiHex as hex, type AcpiReport, type AcpiStructure, readAcpiHeader, readAcpiPath, readAcpiRows } from "@iommukit/core/acpi";
import { checkScope, checkStructure, checkTable, type Found } from "./rules.js";
import {
  type DeviceScope,
  DMAR_FLAGS,
  DMAR_HEADER_BYTES,
  DMAR_LAYOUTS,
  type DmarLayout,
  type DmarTable,
  fixedBytes,
  SCOPE_HEADER_BYTES,
  SCOPE_NAMES,
  SIDP_FLAGS,
  STRUCTURE_HEADER_BYTES,
} from "./structures.js";

/** The table as values, and as a report. */
export interface DecodedDmar {
  readonly table: DmarTable;
  readonly report: AcpiReport;
}

export function decodeDmar(bytes: Uint8Array): DecodedDmar {
  const { fields, problems, length } = readAcpiHeader(bytes, "DMAR");
  const empty: DmarTable = { hostAddressWidth: 0, flags: 0, structures: [] };
  if (fields.length === 0 || fields[0].value !== "DMAR") return { table: empty, report: { signature: "DMAR", header: fields, text: "not a DMAR table", structures: [], problems } };
  if (length < DMAR_HEADER_BYTES) {
    problems.push(`the table has ${length} bytes; its header alone takes ${DMAR_HEADER_BYTES}`);
    return { table: empty, report: { signature: "DMAR", header: fields, text: "a DMAR table without its header", structures: [], problems } };
  }
  const hostAddressWidth = bytes[36] + 1;
  const flags = bytes[37];
  const set = Object.entries(DMAR_FLAGS).filter(([, bit]) => (flags & bit) !== 0).map(([name]) => name);
  fields.push({ name: "host address width", offset: 36, size: 1, value: BigInt(bytes[36]), meaning: `${hostAddressWidth} bits` });
  fields.push({ name: "flags", offset: 37, size: 1, value: BigInt(flags), ...(set.length === 0 ? {} : { meaning: set.join(", ") }) });
  if (bytes.subarray(38, DMAR_HEADER_BYTES).some((byte) => byte !== 0)) problems.push("reserved bytes 38 to 47 are not 0");
  const found = readStructures(bytes.subarray(0, length), problems);
  problems.push(...checkTable(hostAddressWidth, flags, found));
  const structures = found.map((one) => reportOf(one, checkStructure(one, found)));
  const units = found.filter(({ layout }) => layout.name === "DRHD").length;
  const text = `${units} remapping ${units === 1 ? "unit" : "units"}, ${hostAddressWidth}-bit physical addresses${set.length === 0 ? "" : `, ${set.join(", ")}`}`;
  const table = { hostAddressWidth, flags, structures: found.map(({ layout: { name }, values, scopes, object }) => ({ name, values, scopes: scopes.map(({ scope }) => scope), ...(object === undefined ? {} : { object }) })) };
  return { table, report: { signature: "DMAR", header: fields, text, structures, problems } };
}

function readStructures(bytes: Uint8Array, problems: string[]): Found[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: Found[] = [];
  for (let offset = DMAR_HEADER_BYTES; offset < bytes.length; ) {
    const left = bytes.length - offset;
    if (left < STRUCTURE_HEADER_BYTES) {
      problems.push(`${left} bytes are left at offset ${hex(offset)}: no structure is that short`);
      break;
    }
    const type = view.getUint16(offset, true);
    const length = view.getUint16(offset + 2, true);
    const layout = DMAR_LAYOUTS.find((candidate) => candidate.type === type);
    const name = layout?.name ?? `structure of type ${type}`;
    if (length < STRUCTURE_HEADER_BYTES) {
      problems.push(`the ${name} at offset ${hex(offset)} has length ${length}: nothing behind it can be read`);
      break;
    }
    if (length > left) {
      problems.push(`the ${name} at offset ${hex(offset)} has length ${length}, but ${left} bytes are left in the table`);
      break;
    }
    if (layout === undefined) problems.push(`the structure at offset ${hex(offset)} has the reserved type ${type}: software skips it`);
    else if (length < fixedBytes(layout)) problems.push(`the ${name} at offset ${hex(offset)} has length ${length}; ${fixedBytes(layout)} is the least`);
    else found.push(readStructure(layout, bytes.subarray(0, offset + length), offset));
    offset += length;
  }
  return found;
}

/** @param bytes the table, to the end of the structure */
function readStructure(layout: DmarLayout, bytes: Uint8Array, offset: number): Found {
  const { values, fields, problems } = readAcpiRows(bytes, offset + STRUCTURE_HEADER_BYTES, layout.rows);
  const at = offset + fixedBytes(layout);
  const base: Found = { layout, offset, length: bytes.length - offset, values, fields, scopes: [], problems };
  if (layout.tail === "name") {
    const name = readAcpiPath(bytes, at, bytes.length);
    const behind = bytes.subarray(at + name.length).some((byte) => byte !== 0) ? ["bytes follow the object name's end"] : [];
    return { ...base, object: name.path, fields: [...fields, name.field], problems: [...problems, ...name.problems, ...behind] };
  }
  if (layout.tail === "none") return bytes.length > at ? { ...base, problems: [...problems, `${bytes.length - at} bytes follow the structure's last field`] } : base;
  const broken = [...problems];
  return { ...base, scopes: readScopes(bytes.subarray(at), at, broken), problems: broken };
}

function readScopes(bytes: Uint8Array, base: number, problems: string[]): Found["scopes"] {
  const scopes: { scope: DeviceScope; offset: number; length: number; reserved: number }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const left = bytes.length - at;
    const length = bytes[at + 1] ?? 0;
    if (left < SCOPE_HEADER_BYTES || length < SCOPE_HEADER_BYTES || length > left) {
      problems.push(`the device scope at offset ${hex(base + at)} has length ${length}, of ${left} bytes that are left; ${SCOPE_HEADER_BYTES} is the least`);
      break;
    }
    const path: [number, number][] = [];
    for (let i = SCOPE_HEADER_BYTES; i + 1 < length; i += 2) path.push([bytes[at + i], bytes[at + i + 1]]);
    if (length % 2 !== 0) problems.push(`the device scope at offset ${hex(base + at)} has the odd length ${length}: half a path element`);
    scopes.push({ scope: { type: bytes[at], flags: bytes[at + 2], id: bytes[at + 4], bus: bytes[at + 5], path }, offset: base + at, length, reserved: bytes[at + 3] });
    at += length;
  }
  return scopes;
}

function reportOf(found: Found, problems: readonly string[]): AcpiStructure {
  const { layout, offset, length, fields, scopes } = found;
  const children = scopes.map(({ scope, offset: at, length: bytes, reserved }): AcpiStructure => ({
    name: "scope", section: "VT-d 8.3.1", offset: at, length: bytes, text: scopeText(scope, layout.name === "SIDP"), children: [],
    problems: checkScope(scope, reserved, layout.name),
    fields: [
      { name: "type", offset: at, size: 1, value: BigInt(scope.type), meaning: SCOPE_NAMES[scope.type] || "reserved" },
      ...(layout.name === "SIDP" ? [{ name: "flags", offset: at + 2, size: 1, value: BigInt(scope.flags) }] : []),
      { name: "enumeration id", offset: at + 4, size: 1, value: BigInt(scope.id) },
      { name: "start bus", offset: at + 5, size: 1, value: BigInt(scope.bus) },
      { name: "path", offset: at + SCOPE_HEADER_BYTES, size: bytes - SCOPE_HEADER_BYTES, value: pathText(scope) },
    ],
  }));
  return { name: layout.name, section: layout.section, offset, length, text: structureText(found), fields, children, problems: [...found.problems, ...problems] };
}

/** "00:1c.0", or "00:1c.0 / 00.0" through bridges. */
function pathText({ bus, path }: DeviceScope): string {
  return path.map(([device, fn], i) => (i === 0 && device < 32 && fn < 8 ? formatRid((bus << 8) | (device << 3) | fn) : `${device.toString(16).padStart(2, "0")}.${fn}`)).join(" / ");
}

function scopeText(scope: DeviceScope, withFlags: boolean): string {
  const id = scope.type >= 3 && scope.type <= 5 ? ` ${scope.id}` : "";
  const flags = withFlags ? SIDP_FLAGS.filter(([bit]) => (scope.flags & bit) !== 0).map(([, , text]) => text) : [];
  return `${SCOPE_NAMES[scope.type] || `scope of the reserved type ${scope.type}`}${id} at ${pathText(scope)}${flags.length === 0 ? "" : `: ${flags.join("; ")}`}`;
}

function structureText({ layout, values, object, scopes }: Found): string {
  const inSegment = (values.segment ?? 0n) === 0n ? "" : ` of segment ${values.segment}`;
  const count = `${scopes.length} ${scopes.length === 1 ? "device" : "devices"}`;
  switch (layout.name) {
    case "DRHD":
      return `unit with registers at ${hex(values.base)}, for ${(values.flags & 1n) === 1n ? `every PCI device${inSegment} that no other unit names` : `${count}${inSegment}`}`;
    case "RMRR":
      return `memory ${hex(values.base)}-${hex(values.limit)} that firmware uses with ${count}${inSegment}: software keeps it mapped one to one`;
    case "ATSR":
      return (values.flags & 1n) === 1n ? `every root port${inSegment} passes ATS` : `${scopes.length} root ports${inSegment} pass ATS`;
    case "RHSA":
      return `the unit at ${hex(values.base)} belongs to proximity domain ${values.proximity}`;
    case "ANDD":
      return `ACPI device ${values.number} is ${object ?? ""}`;
    case "SATC":
      return `${count}${inSegment} inside the chip with a translation cache${(values.flags & 1n) === 1n ? ", which software must enable" : ""}`;
    default:
      return `what software should leave out for ${count}${inSegment}`;
  }
}
