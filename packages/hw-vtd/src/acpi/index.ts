/** The ACPI table DMAR (VT-d 8): read, explained, and made for a machine. */
import { unitPlaces } from "@iommukit/core";
import type { AcpiTable } from "@iommukit/core/acpi";
import { decodeDmar } from "./decode.js";
import { dmarOf } from "./emit.js";
import { encodeDmar } from "./encode.js";

export { decodeDmar, dmarOf, encodeDmar };
export type { DecodedDmar } from "./decode.js";
export type { DeviceScope, DmarName, DmarStructure, DmarTable } from "./structures.js";

export const dmarTable: AcpiTable = {
  signature: "DMAR",
  about: "DMA remapping of Intel platforms (VT-d 8)",
  decode: (bytes) => decodeDmar(bytes).report,
  emit(description) {
    const units = unitPlaces(description).filter(({ type }) => type === "vtd");
    return units.length === 0 ? undefined : encodeDmar(dmarOf(units));
  },
};
