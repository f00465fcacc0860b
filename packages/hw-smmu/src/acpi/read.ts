/** The nodes of an IORT table from bytes: whatever can be read, each byte accounted for. Rules beyond the layout are `rules.ts`'s. */
import { type AcpiField, acpiHex, acpiRowBytes, type AcpiValues, readAcpiPath, readAcpiRows } from "@iommukit/core/acpi";
import {
  type ArrayName, IORT_REVISION, type IortArray, type IortLayout, type IortNode, layoutOf, NODE_HEADER_BYTES, NODE_HEADER_ROWS, NODE_PREFIX_BYTES, rowsOf,
} from "./structures.js";

export interface FoundElement {
  readonly array: IortArray;
  readonly offset: number;
  readonly length: number;
  readonly values: AcpiValues;
  readonly fields: readonly AcpiField[];
  readonly problems: readonly string[];
}

/** A node as it was found. */
export interface FoundNode {
  /** Undefined for a type that is not known. */
  readonly layout: IortLayout | undefined;
  /** In the table. */
  readonly offset: number;
  readonly length: number;
  readonly node: IortNode;
  readonly fields: readonly AcpiField[];
  readonly elements: readonly FoundElement[];
  readonly problems: readonly string[];
}

/** Bytes [start, end) of a node that mean something. */
type Part = readonly [start: number, end: number, what: string];

const isAre = (count: number, noun: string): string => (count === 1 ? `${count} ${noun} is` : `${count} ${noun}s are`);

/** @param bytes the table, to its end */
export function readNodes(bytes: Uint8Array, nodeOffset: number, count: number, revision: number, problems: string[]): FoundNode[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: FoundNode[] = [];
  let offset = nodeOffset;
  for (; found.length < count && offset < bytes.length; offset += found[found.length - 1].length) {
    const left = bytes.length - offset;
    if (left < NODE_HEADER_BYTES) {
      problems.push(`${left} bytes are left at offset ${acpiHex(offset)}: no node is that short`);
      return found;
    }
    const type = bytes[offset];
    const length = view.getUint16(offset + 1, true);
    const name = layoutOf(type)?.name ?? `node of type ${type}`;
    if (length < NODE_HEADER_BYTES || length > left) {
      const why = length < NODE_HEADER_BYTES ? `${NODE_HEADER_BYTES} is the least: nothing behind it can be read` : `but ${left} bytes are left in the table`;
      problems.push(`the ${name} at offset ${acpiHex(offset)} has length ${length}; ${why}`);
      return found;
    }
    found.push(readNode(bytes.subarray(0, offset + length), offset, revision));
  }
  if (found.length < count) problems.push(`the header says ${count} nodes; ${isAre(found.length, "node")} there`);
  if (offset < bytes.length) problems.push(`${bytes.length - offset} bytes follow the last node`);
  return found;
}

/** @param bytes the table, to the end of the node */
function readNode(bytes: Uint8Array, offset: number, tableRevision: number): FoundNode {
  const length = bytes.length - offset;
  const header = readAcpiRows(bytes, offset, NODE_HEADER_ROWS);
  const type = bytes[offset];
  const revision = Number(header.values.revision);
  const identifier = Number(header.values.identifier);
  const layout = layoutOf(type);
  const node = { type, revision, identifier, values: {}, arrays: {}, length };
  if (layout === undefined) {
    const problems = tableRevision <= IORT_REVISION ? [`type ${type} is reserved in a table of revision ${tableRevision}: software skips the node`] : [];
    return { layout, offset, length, node: { ...node, raw: bytes.slice(offset + NODE_PREFIX_BYTES) }, fields: header.fields, elements: [], problems };
  }
  const rows = rowsOf(layout, revision);
  const fixed = NODE_HEADER_BYTES + acpiRowBytes(rows);
  if (length < fixed) return { layout, offset, length, node, fields: header.fields, elements: [], problems: [`length ${length} is less than the ${fixed} bytes of a ${layout.name} node of revision ${revision}`] };
  const body = readAcpiRows(bytes, offset + NODE_HEADER_BYTES, rows);
  const problems = [...body.problems];
  const parts: Part[] = [[0, fixed, "its rows"]];
  const fields = [...header.fields, ...body.fields];
  const path = layout.named ? readAcpiPath(bytes, offset + fixed, bytes.length) : undefined;
  if (path !== undefined) {
    problems.push(...path.problems);
    fields.push(path.field);
    parts.push([fixed, fixed + path.length, "the object name"]);
  }
  const all: AcpiValues = { ...header.values, ...body.values };
  const arrays: Partial<Record<ArrayName, AcpiValues[]>> = {};
  const offsets: Partial<Record<ArrayName, number>> = {};
  const elements: FoundElement[] = [];
  const counts = new Set<string>();
  for (const array of layout.arrays) {
    if (typeof array.count === "string") counts.add(array.count);
    if (array.offset !== undefined) counts.add(array.offset);
    const place = array.offset === undefined ? fixed : Number(all[array.offset]);
    if (array.offset !== undefined) offsets[array.name] = place;
    const read = readArray(bytes, offset, array, place, typeof array.count === "number" ? array.count : Number(all[array.count]), parts, problems);
    arrays[array.name] = read.map(({ values }) => values);
    elements.push(...read);
  }
  problems.push(...checkParts(bytes.subarray(offset), parts));
  const values = Object.fromEntries(Object.entries(body.values).filter(([name]) => !counts.has(name)));
  return { layout, offset, length, node: { ...node, values, arrays, offsets, ...(path === undefined ? {} : { object: path.path }) }, fields, elements, problems };
}

function readArray(bytes: Uint8Array, node: number, array: IortArray, place: number, count: number, parts: Part[], problems: string[]): FoundElement[] {
  if (count === 0) return [];
  const length = acpiRowBytes(array.rows);
  const what = `${count} ${array.element}${count === 1 ? "" : "s"} at offset ${acpiHex(place)} of the node`;
  if (place + count * length > bytes.length - node) {
    problems.push(`${what} reach beyond its ${bytes.length - node} bytes`);
    return [];
  }
  parts.push([place, place + count * length, what]);
  return Array.from({ length: count }, (_, i) => {
    const offset = node + place + i * length;
    return { array, offset, length, ...readAcpiRows(bytes, offset, array.rows) };
  });
}

/** Parts do not overlap, and what is between them is padding. */
function checkParts(node: Uint8Array, parts: Part[]): string[] {
  const problems: string[] = [];
  let last: Part = [0, 0, ""];
  const end: Part = [node.length, node.length, ""];
  for (const part of [...parts.sort((a, b) => a[0] - b[0] || a[1] - b[1]), end]) {
    if (part[0] < last[1]) problems.push(`${part[2]} overlap ${last[2]}`);
    else if (node.subarray(last[1], part[0]).some((byte) => byte !== 0)) problems.push(`bytes ${acpiHex(last[1])} to ${acpiHex(part[0] - 1)} of the node belong to nothing and are not 0`);
    if (part[1] > last[1]) last = part;
  }
  return problems;
}
