/** `StructureDecoder` for SMMUv3: `iommu decode smmuv3`. */
import type { StructureDecoder } from "@iommukit/core/decode";
import { describePreset, PRESETS } from "../presets.js";
import { KINDS } from "./kinds.js";
import { explainLine } from "./log-lines.js";
import { decodeStructure } from "./structures.js";

export const smmuStructureDecoder: StructureDecoder = {
  iommu: "smmuv3",
  kinds: KINDS.map(({ name, group, structure, section, bits }) => ({ name, group, structure, section, bits })),
  parameters: {
    IDR0: "identification register 0", IDR1: "identification register 1", IDR3: "identification register 3", IDR5: "identification register 5",
    AIDR: "architecture version", CR2: "control register 2, for E2H",
  },
  presets: Object.fromEntries(Object.entries(PRESETS).map(([name, preset]) => [name, describePreset(name, preset).registers])),
  decode: decodeStructure,
  explainLine,
};
