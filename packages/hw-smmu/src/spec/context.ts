/** Context descriptors: level-1 descriptors and CDs. Arm IHI0070 G.b, sections 5.3 and 5.4. */
import { defineFields, type FieldTable } from "@iommukit/core";
import { addressFrom, oneOf } from "./words.js";

export const L1_CONTEXT_DESCRIPTOR: FieldTable = defineFields("Level 1 Context Descriptor", "SMMU 5.3", 64, [
  [1, "V"], [11, ""], [44, "L2Ptr", addressFrom(12)], [8, ""],
]);

const shareability = oneOf("non-shareable", "reserved", "outer shareable", "inner shareable");

export const CD: FieldTable = defineFields("Context Descriptor", "SMMU 5.4", 512, [
  [6, "T0SZ"], [2, "TG0", oneOf("4K", "64K", "16K")], [2, "IR0"], [2, "OR0"], [2, "SH0", shareability], [1, "EPD0"], [1, "ENDI"],
  [6, "T1SZ"], [2, "TG1", oneOf("reserved", "16K", "4K", "64K")], [2, "IR1"], [2, "OR1"], [2, "SH1", shareability], [1, "EPD1"], [1, "V"],
  [3, "IPS", oneOf("32 bits", "36 bits", "40 bits", "42 bits", "44 bits", "48 bits", "52 bits", "56 bits")], [1, "AFFD"], [1, "WXN"], [1, "UWXN"],
  [1, "TBI0"], [1, "TBI1"], [1, "PAN"], [1, "AA64"], [1, "HD"], [1, "HA"], [1, "S"], [1, "R"], [1, "A"], [1, "ASET"], [16, "ASID"],
  [1, "NSCFG0"], [1, "HAD0"], [1, "E0PD0"], [1, "HAFT"], [52, "TTB0", addressFrom(4)], [2, ""], [1, "PnCH"], [1, "EPAN"], [4, "HWU0"],
  [1, "NSCFG1"], [1, "HAD1"], [1, "E0PD1"], [1, "AIE"], [52, "TTB1", addressFrom(4)], [2, ""], [1, "DS"], [1, "PIE"], [4, "HWU1"],
  [32, "MAIR0"], [32, "MAIR1"],
  [32, "AMAIR0"], [32, "AMAIR1"],
  [32, "-"], [16, "PARTID"], [8, "PMG"], [8, ""],
  [48, "PIIU"], [16, ""],
  [48, "PIIP"], [16, ""],
]);

/** CD.TG1 says the granules in another order than TG0 and S2TG (5.4): from TG1 to TG0, 3 for the reserved value. */
export const TG1_AS_TG0: readonly number[] = [3, 2, 0, 1];
