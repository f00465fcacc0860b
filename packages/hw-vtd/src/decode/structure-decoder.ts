/** `StructureDecoder` for VT-d: `iommu decode vtd`. */
import type { StructureDecoder, UnitRegisters } from "@iommukit/core/decode";
import { PRESETS, type VtdPreset } from "../presets.js";
import { NOT_MODELLED } from "../spec/register-fields.js";
import { asKind, KINDS } from "./kinds.js";
import { explainLine } from "./log-lines.js";
import { decodeStructure } from "./structures.js";

function registersOf({ cap, ecap, version, haw }: VtdPreset): UnitRegisters {
  return { CAP: cap, ECAP: ecap, VER: BigInt(version), HAW: BigInt(haw) };
}

export const vtdStructureDecoder: StructureDecoder = {
  iommu: "vtd",
  kinds: KINDS.map(asKind),
  notModelled: NOT_MODELLED,
  parameters: {
    CAP: "capability register",
    ECAP: "extended capability register",
    VER: "version register",
    HAW: "host address width in bits",
    RTADDR: "root table address register, for SSIRWE",
    IRTA: "interrupt remapping table address register, for EIME",
  },
  presets: Object.fromEntries(Object.entries(PRESETS).map(([name, preset]) => [name, registersOf(preset)])),
  decode: decodeStructure,
  explainLine,
};
