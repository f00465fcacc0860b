/** An IORT table as bytes. */
import { ACPI_HEADER_BYTES, acpiRowBytes, sealAcpiTable, writeAcpiRows } from "@iommukit/core/acpi";
import { type ArrayName, IORT_HEADER_ROWS, type IortNode, type IortTable, layoutOf, NODE_HEADER_BYTES, NODE_HEADER_ROWS, NODE_PREFIX_BYTES, rowsOf } from "./structures.js";

/** @throws RangeError for a value that does not fit its bytes, or a node that is too long */
export function encodeIort({ revision, nodeOffset, nodes, identity }: IortTable): Uint8Array {
  const parts = nodes.map(encodeNode);
  const body = new Uint8Array(nodeOffset - ACPI_HEADER_BYTES + parts.reduce((sum, part) => sum + part.length, 0));
  writeAcpiRows(body, 0, IORT_HEADER_ROWS, { nodes: BigInt(nodes.length), "node offset": BigInt(nodeOffset) }, "IORT");
  let at = nodeOffset - ACPI_HEADER_BYTES;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return sealAcpiTable("IORT", revision, body, identity);
}

export function encodeNode(node: IortNode): Uint8Array {
  const layout = layoutOf(node.type);
  if (layout === undefined) return encodeRaw(node.type, node.raw ?? new Uint8Array(NODE_HEADER_BYTES - NODE_PREFIX_BYTES));
  const rows = rowsOf(layout, node.revision);
  const rowBytes = acpiRowBytes(rows);
  const name = layout.named ? [...(node.object ?? "")].map((letter) => letter.charCodeAt(0)).concat(0) : [];
  const values: Record<string, bigint> = { ...node.values, type: BigInt(node.type), revision: BigInt(node.revision), identifier: BigInt(node.identifier) };
  const places: Partial<Record<ArrayName, number>> = {};
  let end = NODE_HEADER_BYTES + rowBytes + name.length;
  for (const { name: array, rows: elementRows, count, offset } of layout.arrays) {
    const elements = node.arrays[array] ?? [];
    // Elements are aligned to 4 bytes; an array that is empty is nowhere.
    const place = (offset === undefined ? undefined : node.offsets?.[array]) ?? (elements.length === 0 ? 0 : Math.ceil(end / 4) * 4);
    places[array] = place;
    if (elements.length > 0) end = Math.max(end, place + elements.length * acpiRowBytes(elementRows));
    if (typeof count === "string") values[count] = BigInt(elements.length);
    if (offset !== undefined) values[offset] = BigInt(place);
  }
  const length = node.length ?? end;
  if (length < end || length > 0xffff) throw new RangeError(`${layout.name}: ${end} bytes do not fit a node of ${Math.min(length, 0xffff)}`);
  const bytes = new Uint8Array(length);
  writeAcpiRows(bytes, 0, NODE_HEADER_ROWS, { ...values, length: BigInt(length) }, layout.name);
  writeAcpiRows(bytes, NODE_HEADER_BYTES, rows, values, layout.name);
  bytes.set(name, NODE_HEADER_BYTES + rowBytes);
  for (const { name: array, rows: elementRows } of layout.arrays) {
    const size = acpiRowBytes(elementRows);
    for (const [i, element] of (node.arrays[array] ?? []).entries()) writeAcpiRows(bytes, (places[array] ?? 0) + i * size, elementRows, element, layout.name);
  }
  return bytes;
}

function encodeRaw(type: number, raw: Uint8Array): Uint8Array {
  const length = NODE_PREFIX_BYTES + raw.length;
  return Uint8Array.from([type, length & 0xff, length >> 8, ...raw]);
}
