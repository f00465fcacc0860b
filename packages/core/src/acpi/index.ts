export { ACPI_HEADER_BYTES, acpiSum, readAcpiHeader, sealAcpiTable } from "./table.js";
export type { AcpiField, AcpiReport, AcpiStructure, AcpiTable } from "./table.js";
