/** The ACPI table IORT (DEN0049E.f): read, explained, and made for a machine. */
import { unitPlaces } from "@iommukit/core";
import type { AcpiTable } from "@iommukit/core/acpi";
import { decodeIort } from "./decode.js";
import { iortOf } from "./emit.js";
import { encodeIort } from "./encode.js";

export { decodeIort, encodeIort, iortOf };
export type { DecodedIort } from "./decode.js";
export type { ArrayName, IortNode, IortTable } from "./structures.js";

const SMMUV3 = "smmuv3";

export const iortTable: AcpiTable = {
  signature: "IORT",
  about: "who translates whose DMA, and where messages go, on Arm platforms (DEN0049E.f)",
  decode: (bytes) => decodeIort(bytes).report,
  emit(description) {
    const places = unitPlaces(description);
    return places.some(({ type }) => type === SMMUV3) ? encodeIort(iortOf(places, SMMUV3)) : undefined;
  },
};
