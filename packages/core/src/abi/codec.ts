/** Bytes of a struct to values and back. Little-endian; u64 are bigint, everything narrower is a number. */
import { IOMMUFD_STRUCTS } from "./iommufd.js";
import { isPrimitive, isSigned, type StructField, type StructLayout } from "./layout.js";
import { VFIO_STRUCTS } from "./vfio.js";

/** A struct's single fields by name; arrays and nested structs are not values. */
export type StructValues = Record<string, number | bigint>;

const BY_NAME: ReadonlyMap<string, StructLayout> = new Map([...IOMMUFD_STRUCTS, ...VFIO_STRUCTS].map((layout) => [layout.name, layout]));

/** Layout by the header's name. Throws RangeError. */
export function structLayout(name: string): StructLayout {
  const layout = BY_NAME.get(name);
  if (layout === undefined) throw new RangeError(`no struct ${name}`);
  return layout;
}

/** Offset of a field. Throws RangeError. */
export function fieldOffset(struct: string, name: string): number {
  return structField(struct, name).offset;
}

export function structField(struct: string, name: string): StructField {
  const field = structLayout(struct).fields.find((row) => row.name === name);
  if (field === undefined) throw new RangeError(`struct ${struct} has no field ${name}`);
  return field;
}

/** Reads the fields that lie whole in `bytes`; those behind its end read as 0. */
export function decodeStruct(struct: string, bytes: Uint8Array): StructValues {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values: StructValues = {};
  for (const field of structLayout(struct).fields) {
    if (field.count !== undefined || !isPrimitive(field.type)) continue;
    const there = field.offset + field.size <= bytes.length;
    if (field.size === 8) values[field.name] = there ? view.getBigUint64(field.offset, true) : 0n;
    else values[field.name] = there ? readSmall(view, field) : 0;
  }
  return values;
}

function readSmall(view: DataView, field: StructField): number {
  if (field.size === 1) return view.getUint8(field.offset);
  if (field.size === 2) return view.getUint16(field.offset, true);
  return isSigned(field.type) ? view.getInt32(field.offset, true) : view.getUint32(field.offset, true);
}

/** Stores the given fields into `bytes`; those behind its end are left out. Throws RangeError for a value that does not fit. */
export function storeFields(struct: string, bytes: Uint8Array, values: Readonly<Record<string, number | bigint>>): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const [name, given] of Object.entries(values)) {
    const field = structField(struct, name);
    if (field.offset + field.size > bytes.length) continue;
    const value = BigInt(given);
    const bits = BigInt(field.size * 8);
    const low = isSigned(field.type) ? -(1n << (bits - 1n)) : 0n;
    if (value < low || value >= 1n << bits) throw new RangeError(`${struct}.${name} = ${value} does not fit ${bits} bits`);
    for (let i = 0; i < field.size; i++) view.setUint8(field.offset + i, Number((value >> BigInt(8 * i)) & 0xffn));
  }
}

/** A whole struct with the given fields, everything else 0. */
export function encodeStruct(struct: string, values: Readonly<Record<string, number | bigint>>): Uint8Array {
  const bytes = new Uint8Array(structLayout(struct).size);
  storeFields(struct, bytes, values);
  return bytes;
}
