/** C struct layouts from declarations such as "u32 size; u64 user_va; u8 __reserved[3]". */

const PRIMITIVES: Readonly<Record<string, { readonly size: number; readonly signed: boolean }>> = {
  u8: { size: 1, signed: false },
  u16: { size: 2, signed: false },
  u32: { size: 4, signed: false },
  s32: { size: 4, signed: true },
  u64: { size: 8, signed: false },
};

export interface StructField {
  readonly name: string;
  /** "u32", or the name of a struct. */
  readonly type: string;
  readonly offset: number;
  /** Bytes in all; 0 for a flexible array. */
  readonly size: number;
  /** Elements; undefined for a single value, 0 for a flexible array. */
  readonly count: number | undefined;
  /** Number of the union it is a member of. */
  readonly union: number | undefined;
}

export interface StructLayout {
  readonly name: string;
  readonly size: number;
  readonly align: number;
  readonly fields: readonly StructField[];
}

/** Lays out structs in order; a later one may hold an earlier one. Throws RangeError on a declaration it cannot read. */
export function structs(declarations: readonly (readonly [name: string, fields: string])[]): StructLayout[] {
  const known = new Map<string, StructLayout>();
  for (const [name, text] of declarations) known.set(name, layOut(name, text, known));
  return [...known.values()];
}

function layOut(name: string, text: string, known: ReadonlyMap<string, StructLayout>): StructLayout {
  const fields: StructField[] = [];
  let offset = 0;
  let align = 1;
  let unions = 0;
  const place = (declaration: string, at: number, union: number | undefined): number => {
    const match = /^(\w+) (\w+)(?:\[(\d*)\])?$/.exec(declaration.trim());
    const nested = match ? known.get(match[1]) : undefined;
    const inner = nested ?? (match ? PRIMITIVES[match[1]] : undefined);
    if (match === null || inner === undefined) throw new RangeError(`struct ${name}: cannot read "${declaration}"`);
    const own = nested ? nested.align : inner.size;
    align = Math.max(align, own);
    const start = Math.ceil(at / own) * own;
    const count = match[3] === undefined ? undefined : Number(match[3]);
    const size = inner.size * (count ?? 1);
    fields.push({ name: match[2], type: match[1], offset: start, size, count, union });
    return start + size;
  };
  for (const part of text.split(/;(?![^{]*\})/)) {
    const union = /^\s*union \{(.*)\}\s*$/.exec(part);
    if (union === null) {
      offset = place(part, offset, undefined);
    } else {
      const id = unions++;
      offset = Math.max(...union[1].split(";").map((member) => place(member, offset, id)));
    }
  }
  return { name, size: Math.ceil(offset / align) * align, align, fields };
}

export function isSigned(type: string): boolean {
  return PRIMITIVES[type]?.signed ?? false;
}

export function isPrimitive(type: string): boolean {
  return type in PRIMITIVES;
}
