/** A DMAR table as bytes. */
import { ACPI_HEADER_BYTES, sealAcpiTable, writeAcpiRows } from "@iommukit/core/acpi";
import { DMAR_HEADER_BYTES, DMAR_REVISION, type DeviceScope, type DmarStructure, type DmarTable, fixedBytes, layoutOf, SCOPE_HEADER_BYTES, STRUCTURE_HEADER_BYTES } from "./structures.js";

/** @throws RangeError for a value that does not fit its bytes */
export function encodeDmar({ hostAddressWidth, flags, structures }: DmarTable): Uint8Array {
  const parts = structures.map(encodeStructure);
  const body = new Uint8Array(DMAR_HEADER_BYTES - ACPI_HEADER_BYTES + parts.reduce((sum, part) => sum + part.length, 0));
  body[0] = hostAddressWidth - 1;
  body[1] = flags;
  let at = DMAR_HEADER_BYTES - ACPI_HEADER_BYTES;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return sealAcpiTable("DMAR", DMAR_REVISION, body);
}

function encodeStructure({ name, values, scopes, object = "" }: DmarStructure): Uint8Array {
  const layout = layoutOf(name);
  const fixed = fixedBytes(layout);
  const tail = layout.tail === "name" ? encodeName(object) : layout.tail === "scopes" ? scopes.flatMap(encodeScope) : [];
  const bytes = new Uint8Array(fixed + tail.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, layout.type, true);
  view.setUint16(2, bytes.length, true);
  writeAcpiRows(bytes, STRUCTURE_HEADER_BYTES, layout.rows, values, name);
  bytes.set(tail, fixed);
  return bytes;
}

function encodeScope({ type, flags, id, bus, path }: DeviceScope): number[] {
  return [type, SCOPE_HEADER_BYTES + 2 * path.length, flags, 0, id, bus, ...path.flat()];
}

const encodeName = (object: string): number[] => [...[...object].map((letter) => letter.charCodeAt(0)), 0];
