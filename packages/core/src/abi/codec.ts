/** Bytes of a struct to values and back. Little-endian; u64 are bigint, everything narrower is a number. */
import { EXTENSION_STRUCTS } from "./extension.js";
import { IOMMUFD_STRUCTS } from "./iommufd.js";
import { isPrimitive, isSigned, type StructField, type StructLayout } from "./layout.js";
import { VFIO_STRUCTS } from "./vfio.js";

/** A struct's single fields by name; arrays and nested structs are not values. */
export type StructValues = Record<string, number | bigint>;

const BY_NAME: ReadonlyMap<string, StructLayout> = new Map([...IOMMUFD_STRUCTS, ...VFIO_STRUCTS, ...EXTENSION_STRUCTS].map((layout) => [layout.name, layout]));
const FIELDS: ReadonlyMap<StructLayout, ReadonlyMap<string, StructField>> = new Map(
  [...BY_NAME.values()].map((layout) => [layout, new Map(layout.fields.map((field) => [field.name, field]))]),
);

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
  const field = FIELDS.get(structLayout(struct))?.get(name);
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
    if (!store(view, field, given)) throw new RangeError(`${struct}.${name} = ${given} does not fit ${field.size * 8} bits`);
  }
}

/** False, with nothing stored, for a value that does not fit. */
function store(view: DataView, field: StructField, given: number | bigint): boolean {
  const bits = field.size * 8;
  if (bits === 64) {
    const value = BigInt(given);
    const fits = isSigned(field.type) ? BigInt.asIntN(64, value) === value : BigInt.asUintN(64, value) === value;
    if (fits) view.setBigUint64(field.offset, BigInt.asUintN(64, value), true);
    return fits;
  }
  const value = Number(given);
  const low = isSigned(field.type) ? -(2 ** (bits - 1)) : 0;
  if (!Number.isInteger(value) || value < low || value >= 2 ** bits) return false;
  if (bits === 8) view.setUint8(field.offset, value);
  else if (bits === 16) view.setUint16(field.offset, value, true);
  else view.setUint32(field.offset, value, true);
  return true;
}

/** A whole struct with the given fields, everything else 0. */
export function encodeStruct(struct: string, values: Readonly<Record<string, number | bigint>>): Uint8Array {
  const bytes = new Uint8Array(structLayout(struct).size);
  storeFields(struct, bytes, values);
  return bytes;
}
