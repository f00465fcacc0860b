/** Stream table: level-1 descriptors and Stream Table Entries. Arm IHI0070 G.b, sections 5.1 and 5.2. */
import { defineFields, type FieldTable } from "@iommukit/core";
import { addressFrom, oneOf } from "./words.js";

export const L1_STREAM_DESCRIPTOR: FieldTable = defineFields("Level 1 Stream Table Descriptor", "SMMU 5.1", 64, [
  [5, "Span", (span) => (span === 0n || span > 11n ? "invalid" : `${2n ** (span - 1n)} entries`)], [1, ""], [50, "L2Ptr", addressFrom(6)], [8, ""],
]);

const cacheability = oneOf("non-cacheable", "write-back", "write-through", "write-back, no read-allocate");
const shareability = oneOf("non-shareable", "reserved", "outer shareable", "inner shareable");
const granule = oneOf("4K", "64K", "16K");
const addressSize = oneOf("32 bits", "36 bits", "40 bits", "42 bits", "44 bits", "48 bits", "52 bits", "56 bits");

export const STE: FieldTable = defineFields("Stream Table Entry", "SMMU 5.2", 512, [
  [1, "V"], [3, "Config", oneOf("abort", "abort", "abort", "abort", "bypass", "stage 1", "stage 2", "stage 1 and stage 2")],
  [2, "S1Fmt", oneOf("linear", "two levels, 4K leaves", "two levels, 64K leaves")], [50, "S1ContextPtr", addressFrom(6)], [3, ""],
  [5, "S1CDMax", (bits) => `${2n ** bits} context descriptors`],
  [2, "S1DSS", oneOf("terminate", "bypass stage 1", "use SubstreamID 0")], [2, "S1CIR", cacheability], [2, "S1COR", cacheability],
  [2, "S1CSH", shareability], [4, "S2HWU"], [1, "DRE"], [4, "CONT"], [1, "DCP"], [1, "PPAR"], [1, "MEV"], [4, "-"], [1, "S1PIE"], [1, "S2FWB"],
  [1, "S1MPAM"], [1, "S1STALLD"], [2, "EATS", oneOf("no ATS", "full ATS", "split-stage ATS", "full ATS with DPT")],
  [2, "STRW", oneOf("EL1", "reserved", "EL2")], [4, "MemAttr"], [1, "MTCFG"], [4, "ALLOCCFG"], [3, ""],
  [2, "SHCFG", oneOf("non-shareable", "incoming", "outer shareable", "inner shareable")], [2, "NSCFG"],
  [2, "PRIVCFG", oneOf("incoming", "incoming", "unprivileged", "privileged")], [2, "INSTCFG", oneOf("incoming", "incoming", "data", "instruction")],
  [12, "-"],
  [16, "S2VMID"], [16, "-"], [6, "S2T0SZ"], [2, "S2SL0"], [2, "S2IR0"], [2, "S2OR0"], [2, "S2SH0", shareability], [2, "S2TG", granule],
  [3, "S2PS", addressSize], [1, "S2AA64"], [1, "S2ENDI"], [1, "S2AFFD"], [1, "S2PTW"], [1, "S2HD"], [1, "S2HA"], [1, "S2S"], [1, "S2R"],
  [1, "S2HAFT"], [1, "S2PIE"], [1, "S2POE"], [2, "DPT_VMATCH"],
  [1, "S2NSW"], [1, "S2NSA"], [1, "S2SL0_2"], [1, "S2DS"], [52, "S2TTB", addressFrom(4)], [5, ""], [2, "S2SKL"], [1, ""],
  [16, "-"], [16, "PARTID"], [6, "S_S2T0SZ"], [2, "S_S2SL0"], [6, ""], [2, "S_S2TG", granule], [16, "MECID"],
  [8, "PMG"], [1, "MPAM_NS"], [1, "AssuredOnly"], [1, "TL0"], [1, "TL1"], [44, "VMSPtr", addressFrom(12)], [8, ""],
  [1, "S2SW"], [1, "S2SA"], [1, "S_S2SL0_2"], [1, ""], [52, "S_S2TTB", addressFrom(4)], [5, ""], [2, "S_S2SKL"], [1, ""],
  [64, "S2POI"],
]);

/** STE.Config (5.2): values below 4 abort. */
export const SteConfig = { BYPASS: 4, STAGE1: 5, STAGE2: 6, NESTED: 7 } as const;
/** STE.S1DSS (5.2); 3 behaves as 0. */
export const S1dss = { TERMINATE: 0, BYPASS: 1, SUBSTREAM0: 2 } as const;
/** STE.EATS (5.2). */
export const Eats = { NONE: 0, FULL: 1, SPLIT: 2, DPT: 3 } as const;
