/** ACPI tables: the header that all have (ACPI 6.5, 5.2.6), and what a vendor's package says of its own. */

/** One value in a table. */
export interface AcpiField {
  readonly name: string;
  /** Byte offset in the table. */
  readonly offset: number;
  readonly size: number;
  /** A number, or text where the table holds text. */
  readonly value: bigint | string;
  readonly meaning?: string;
}

/** A structure inside a table, with those inside it. */
export interface AcpiStructure {
  /** "DRHD". */
  readonly name: string;
  /** "VT-d 8.3". */
  readonly section: string;
  readonly offset: number;
  readonly length: number;
  /** What it says, in one line. */
  readonly text: string;
  readonly fields: readonly AcpiField[];
  readonly children: readonly AcpiStructure[];
  /** Rules that it breaks. */
  readonly problems: readonly string[];
}

export interface AcpiReport {
  readonly signature: string;
  readonly header: readonly AcpiField[];
  readonly text: string;
  readonly structures: readonly AcpiStructure[];
  /** Of the table as a whole: length, checksum, order. */
  readonly problems: readonly string[];
}

/** A table that a package can read and make. */
export interface AcpiTable {
  /** "DMAR". */
  readonly signature: string;
  readonly about: string;
  /** Never throws: what is wrong is among the problems. */
  decode(bytes: Uint8Array): AcpiReport;
  /**
   * The table that firmware of the machine would have; undefined when none of its units belongs in it.
   * @param description a `MachineSpec`, checked here
   * @throws IommuError EINVAL
   */
  emit(description: unknown): Uint8Array | undefined;
}

/** Who made a table. */
export interface AcpiIdentity {
  /** 6 bytes. */
  readonly oemId: string;
  /** 8 bytes. */
  readonly oemTableId: string;
  readonly oemRevision: number;
  /** 4 bytes. */
  readonly creatorId: string;
  readonly creatorRevision: number;
}

const OURS: AcpiIdentity = { oemId: "IOMKIT", oemTableId: "IOMMUKIT", oemRevision: 1, creatorId: "IOMK", creatorRevision: 1 };

/** What is wrong with a table, and with everything in it. */
export function acpiProblems({ problems, structures = [], children = [] }: Pick<AcpiReport, "problems"> & { readonly structures?: readonly AcpiStructure[]; readonly children?: readonly AcpiStructure[] }): string[] {
  return [...problems, ...[...structures, ...children].flatMap(acpiProblems)];
}

export const ACPI_HEADER_BYTES = 36;
const CHECKSUM_AT = 9;

/** All bytes of a table add up to 0, modulo 256. */
export function acpiSum(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) sum = (sum + byte) & 0xff;
  return sum;
}

const TEXT_FIELDS = [["OEM ID", 10, 6], ["OEM table ID", 16, 8]] as const;

const latin1 = (bytes: Uint8Array, at: number, size: number): string => String.fromCharCode(...bytes.subarray(at, at + size));
/** For people to read. */
const text = (bytes: Uint8Array, at: number, size: number): string => latin1(bytes, at, size).replace(/\0+$/, "").replace(/[^ -~]/g, "?");

/** Of a table with a header. */
export function acpiIdentity(bytes: Uint8Array): AcpiIdentity {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { oemId: latin1(bytes, 10, 6), oemTableId: latin1(bytes, 16, 8), oemRevision: view.getUint32(24, true), creatorId: latin1(bytes, 28, 4), creatorRevision: view.getUint32(32, true) };
}

/** Fields of the header, and what is wrong with it; no more than the bytes hold. */
export function readAcpiHeader(bytes: Uint8Array, signature: string): { readonly fields: AcpiField[]; readonly problems: string[]; readonly length: number } {
  if (bytes.length < ACPI_HEADER_BYTES) return { fields: [], problems: [`${bytes.length} bytes are given; an ACPI header takes ${ACPI_HEADER_BYTES}`], length: bytes.length };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const problems: string[] = [];
  const found = text(bytes, 0, 4);
  if (found !== signature) problems.push(`the signature is "${found}", not "${signature}"`);
  const length = view.getUint32(4, true);
  if (length > bytes.length) problems.push(`the header says ${length} bytes, but only ${bytes.length} are given`);
  if (length < bytes.length) problems.push(`the header says ${length} bytes, and ${bytes.length - length} more follow`);
  if (length < ACPI_HEADER_BYTES) problems.push(`the header says ${length} bytes, fewer than a header has`);
  const within = Math.min(Math.max(length, ACPI_HEADER_BYTES), bytes.length);
  const sum = acpiSum(bytes.subarray(0, within));
  if (sum !== 0 && length === within) problems.push(`the checksum is 0x${bytes[CHECKSUM_AT].toString(16)}; 0x${((bytes[CHECKSUM_AT] - sum) & 0xff).toString(16)} would be right`);
  const number = (name: string, offset: number, size: 1 | 4): AcpiField => ({ name, offset, size, value: BigInt(size === 1 ? bytes[offset] : view.getUint32(offset, true)) });
  const fields: AcpiField[] = [
    { name: "signature", offset: 0, size: 4, value: found }, number("length", 4, 4), number("revision", 8, 1), number("checksum", CHECKSUM_AT, 1),
    ...TEXT_FIELDS.map(([name, offset, size]) => ({ name, offset, size, value: text(bytes, offset, size) })),
    number("OEM revision", 24, 4), { name: "creator ID", offset: 28, size: 4, value: text(bytes, 28, 4) }, number("creator revision", 32, 4),
  ];
  return { fields, problems, length: within };
}

/** Puts a header with the right length and checksum in front of a body. */
export function sealAcpiTable(signature: string, revision: number, body: Uint8Array, { oemId, oemTableId, oemRevision, creatorId, creatorRevision }: AcpiIdentity = OURS): Uint8Array {
  const table = new Uint8Array(ACPI_HEADER_BYTES + body.length);
  const view = new DataView(table.buffer);
  const ascii = (at: number, value: string, size: number): void => {
    for (let i = 0; i < size; i++) table[at + i] = value.charCodeAt(i);
  };
  ascii(0, signature, 4);
  view.setUint32(4, table.length, true);
  table[8] = revision;
  ascii(10, oemId, 6);
  ascii(16, oemTableId, 8);
  view.setUint32(24, oemRevision, true);
  ascii(28, creatorId, 4);
  view.setUint32(32, creatorRevision, true);
  table.set(body, ACPI_HEADER_BYTES);
  table[CHECKSUM_AT] = -acpiSum(table) & 0xff;
  return table;
}
