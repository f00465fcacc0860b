export { acpiHex, acpiRowBytes, readAcpiPath, readAcpiRows, writeAcpiRows } from "./rows.js";
export type { AcpiPathRead, AcpiRow, AcpiRowsRead, AcpiValues } from "./rows.js";
export { ACPI_HEADER_BYTES, acpiIdentity, acpiProblems, acpiSum, readAcpiHeader, sealAcpiTable } from "./table.js";
export type { AcpiField, AcpiIdentity, AcpiReport, AcpiStructure, AcpiTable } from "./table.js";
