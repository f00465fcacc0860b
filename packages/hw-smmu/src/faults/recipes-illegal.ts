/** Each rule of what makes an STE or a CD ILLEGAL (SMMU 5.2.2, 5.4.2), broken alone. */
import { Event } from "../spec/events.js";
import { Eats, SteConfig } from "../spec/stream-table.js";
import type { Recipe, Setting, Values } from "./recipe.js";
import { from, STAGE2_VALUES } from "./scene.js";

interface Illegal {
  /** What follows "C_BAD_STE:" or "C_BAD_CD:". */
  readonly name: string;
  readonly text: string;
  readonly rule: string;
  readonly scene: Recipe["scene"];
  readonly given?: Setting;
  readonly change: Values;
  readonly why: string;
  readonly cause: string;
  readonly mend: string;
}

const NO_STALLS: Setting = { unit: { idr0: { STALL_MODEL: 1n } } };
/** Stage-2 stalls exclude full ATS. */
const STAGE2_STALLS: Values = { S2S: 1n, EATS: 0n };
const ALWAYS_STALLS: Setting = { unit: { idr0: { STALL_MODEL: 2n } } };
const LITTLE: Setting = { unit: { idr0: { TTENDIAN: 2n } } };
const BIG = { idr0: { TTENDIAN: 3n } };
const ste = (values: Values): Setting => ({ set: { STE: values } });
const WIDE_UNIT = { idr5: { OAS: 6n } };

const COPIED = "The structure was built for another unit, or without a look at its identification registers.";
const LOOK = (register: string): string => `Build the structure for what ${register} announces.`;
const PE_HABIT = "On a processor the same is a translation or address size fault; here it is a configuration error.";

const STES: readonly Illegal[] = [
  {
    name: "Config-stage1", text: "stage 1 is not implemented", rule: "Config: stage 1 is not implemented", scene: "stage 2", given: { unit: { idr0: { S1P: 0n, Hyp: 0n } } },
    change: { Config: BigInt(SteConfig.STAGE1) }, why: "Config=101 asks for stage 1, and IDR0.S1P is 0.", cause: COPIED, mend: LOOK("IDR0.S1P"),
  },
  {
    name: "Config-stage2", text: "stage 2 is not implemented", rule: "Config: stage 2 is not implemented", scene: "stage 1", given: { unit: { idr0: { S2P: 0n } }, ...ste({ ...STAGE2_VALUES, Config: 5n }) },
    change: { Config: BigInt(SteConfig.STAGE2) }, why: "Config=110 asks for stage 2, and IDR0.S2P is 0.", cause: COPIED, mend: LOOK("IDR0.S2P"),
  },
  {
    name: "EATS-split", text: "split-stage ATS without both stages", rule: "EATS: split-stage ATS is not for this stream", scene: "stage 2", change: { EATS: BigInt(Eats.SPLIT) },
    why: "EATS=10 answers devices with intermediate addresses, for which both stages are needed.", cause: "Nesting was taken away, and EATS was not.", mend: "EATS=01 for streams with one stage.",
  },
  {
    name: "EATS-split-stall", text: "split-stage ATS with stalls at stage 2", rule: "EATS: split-stage ATS is not for this stream", scene: "nested", given: ste(STAGE2_STALLS), change: { EATS: BigInt(Eats.SPLIT) },
    why: "S2S=1: translated traffic could stall at stage 2, which PCI Express does not allow.", cause: "A stream of a stalling device was given ATS.", mend: "S2S=0 for PCI devices.",
  },
  {
    name: "EATS-split-NS1ATS", text: "split-stage ATS is not implemented", rule: "EATS: split-stage ATS is not for this stream", scene: "nested", given: { unit: { idr0: { NS1ATS: 1n } } }, change: { EATS: BigInt(Eats.SPLIT) },
    why: "IDR0.NS1ATS=1 says that the unit has no split-stage ATS.", cause: COPIED, mend: LOOK("IDR0.NS1ATS"),
  },
  {
    name: "EATS-stall", text: "full ATS with stalls at stage 2", rule: "EATS: full ATS on a stream that stage 2 may stall", scene: "stage 2", given: ste(STAGE2_STALLS), change: { EATS: BigInt(Eats.FULL) },
    why: "EATS=01 and S2S=1 with stage 2 on.", cause: "A stream of a stalling device was given ATS.", mend: "S2S=0 for PCI devices.",
  },
  {
    name: "STRW-01", text: "a reserved regime", rule: "STRW: reserved", scene: "stage 1", change: { STRW: 1n }, why: "STRW=01 is EL3 on a Secure stream and reserved on this one.", cause: COPIED, mend: "STRW is 00 (EL1) or 10 (EL2).",
  },
  {
    name: "STRW-11", text: "a reserved regime", rule: "STRW: reserved", scene: "stage 1", change: { STRW: 3n }, why: "STRW=11 is reserved.", cause: COPIED, mend: "STRW is 00 (EL1) or 10 (EL2).",
  },
  {
    name: "S1STALLD", text: "stalls forbidden on a unit that has none", rule: "S1STALLD: the unit's stall model is not changed by streams", scene: "stage 1", given: NO_STALLS, change: { S1STALLD: 1n },
    why: "S1STALLD means something with STALL_MODEL=00 only, and is ILLEGAL otherwise.", cause: "A driver sets it for PCI devices without a look at STALL_MODEL.", mend: "Set it with STALL_MODEL=00 only.",
  },
  {
    name: "S1STALLD-forced", text: "stalls forbidden on a unit that always stalls", rule: "S1STALLD: the unit's stall model is not changed by streams", scene: "stage 1",
    given: { ...ALWAYS_STALLS, set: { CD: { S: 1n } } }, change: { S1STALLD: 1n },
    why: "STALL_MODEL=10: this unit stalls on every fault, and no stream may forbid it.", cause: COPIED, mend: LOOK("IDR0.STALL_MODEL"),
  },
  {
    name: "S1CDMax", text: "more SubstreamIDs than the unit has", rule: "S1CDMax: more SubstreamIDs than the unit has", scene: "substreams", change: { S1CDMax: 9n },
    why: "S1CDMax=9, and IDR1.SSIDSIZE is 8.", cause: "The device's PASID width was taken, not the smaller of the two.", mend: "S1CDMax is the smaller of the device's PASID width and SSIDSIZE at most.",
  },
  {
    name: "S1Fmt", text: "two-level context tables are not implemented", rule: "S1Fmt: two-level CD tables are not implemented", scene: "substreams", given: { unit: { idr0: { CD2L: 0n } } }, change: { S1Fmt: 1n },
    why: "S1Fmt=01 (leaves of 4K) with IDR0.CD2L=0.", cause: COPIED, mend: LOOK("IDR0.CD2L"),
  },
  {
    name: "S1Fmt-64K", text: "two-level context tables are not implemented", rule: "S1Fmt: two-level CD tables are not implemented", scene: "substreams", given: { unit: { idr0: { CD2L: 0n } } }, change: { S1Fmt: 2n },
    why: "S1Fmt=10 (leaves of 64K) with IDR0.CD2L=0.", cause: COPIED, mend: LOOK("IDR0.CD2L"),
  },
  {
    name: "S1ContextPtr", text: "the context table is beyond the address size", rule: "S1ContextPtr: beyond the address size", scene: "stage 1", change: { S1ContextPtr: from(6, 1n << 48n) },
    why: "S1ContextPtr is not below 2^OAS. A pointer below it with no memory behind is F_CD_FETCH.", cause: "Encryption or tag bits in an address.", mend: "Keep the table below 2^IDR5.OAS.",
  },
  {
    name: "S1ContextPtr-nested", text: "the context table is beyond the intermediate address size", rule: "S1ContextPtr: beyond the address size", scene: "nested", change: { S1ContextPtr: from(6, 1n << 48n) },
    why: "With stage 2 on the pointer is an intermediate address, and not below 2^IAS. The manual leaves the choice between this and a stage-2 F_TRANSLATION.", cause: "A guest's table pointer leads outside its memory.", mend: "It is the guest's own mistake.",
  },
  {
    name: "S2AA64", text: "stage-2 tables of AArch32", rule: "S2AA64: the table format is not implemented", scene: "stage 2", change: { S2AA64: 0n },
    why: "S2AA64=0 selects AArch32 tables, and IDR0.TTF has none.", cause: "The field was forgotten: 0 is the older format.", mend: "S2AA64=1.",
  },
  {
    name: "S2S", text: "stalls at stage 2 on a unit that has none", rule: "S2S: against the unit's stall model", scene: "stage 2", given: { ...NO_STALLS, ...ste({ EATS: 0n }) }, change: { S2S: 1n },
    why: "S2S=1 with STALL_MODEL=01.", cause: COPIED, mend: LOOK("IDR0.STALL_MODEL"),
  },
  {
    name: "S2S-forced", text: "no stalls at stage 2 on a unit that always stalls", rule: "S2S: against the unit's stall model", scene: "stage 2", given: { ...ALWAYS_STALLS, ...ste(STAGE2_STALLS) }, change: { S2S: 0n },
    why: "S2S=0 with STALL_MODEL=10.", cause: COPIED, mend: LOOK("IDR0.STALL_MODEL"),
  },
  {
    name: "S2HA", text: "stage-2 access flags on a unit that does not set them", rule: "S2HA: access flags are not updated by this unit", scene: "stage 2", given: { unit: { idr0: { HTTU: 0n } } }, change: { S2HA: 1n },
    why: "S2HA=1 with IDR0.HTTU=00.", cause: COPIED, mend: LOOK("IDR0.HTTU"),
  },
  {
    name: "S2HD", text: "stage-2 dirty state on a unit that does not set it", rule: "S2HD: dirty state is not updated by this unit", scene: "stage 2", given: { unit: { idr0: { HTTU: 1n } }, ...ste({ S2HA: 1n }) }, change: { S2HD: 1n },
    why: "S2HD=1 with IDR0.HTTU=01: access flags only.", cause: COPIED, mend: LOOK("IDR0.HTTU"),
  },
  {
    name: "S2HAFT", text: "stage-2 table access flags without access flags", rule: "S2HAFT: table access flags without access flags", scene: "stage 2", given: { unit: { idr0: { HTTU: 3n } } }, change: { S2HAFT: 1n },
    why: "S2HAFT=1 with S2HA=0.", cause: "One of two fields that belong together was set.", mend: "Set S2HA with S2HAFT.",
  },
  {
    name: "S2TG", text: "a reserved granule of stage 2", rule: "S2TG: reserved or not implemented", scene: "stage 2", change: { S2TG: 3n },
    why: "S2TG is 00 (4K), 01 (64K) or 10 (16K).", cause: "TG of a TLBI command or TG1 of a CD has another encoding.", mend: "Use this field's own encoding.",
  },
  {
    name: "S2TG-16K", text: "a granule of stage 2 that the unit has not", rule: "S2TG: reserved or not implemented", scene: "stage 2", given: { unit: { idr5: { GRAN16K: 0n } }, ...ste({ S2T0SZ: 17n }) }, change: { S2TG: 2n },
    why: "S2TG=10 with IDR5.GRAN16K=0.", cause: "The processor's page size was taken.", mend: LOOK("IDR5"),
  },
  {
    name: "S2TG-64K", text: "a granule of stage 2 that the unit has not", rule: "S2TG: reserved or not implemented", scene: "stage 2", given: { unit: { idr5: { GRAN64K: 0n } } }, change: { S2TG: 1n },
    why: "S2TG=01 with IDR5.GRAN64K=0.", cause: "The processor's page size was taken.", mend: LOOK("IDR5"),
  },
  {
    name: "S2T0SZ", text: "more input bits at stage 2 than the unit has", rule: "S2T0SZ: out of range", scene: "stage 2", change: { S2T0SZ: 15n },
    why: "S2T0SZ=15 says 49 bits, and without S2DS there are 48 at most, and not more than the unit's intermediate size.", cause: `The guest's address size was taken, not the unit's. ${PE_HABIT}`, mend: "S2T0SZ is max(16, 64 - IAS) or more.",
  },
  {
    name: "S2T0SZ-large", text: "fewer input bits at stage 2 than the unit allows", rule: "S2T0SZ: out of range", scene: "stage 2", given: { unit: { idr3: { STT: 0n } } }, change: { S2T0SZ: 40n, S2SL0: 0n },
    why: "S2T0SZ=40 says 24 bits; without IDR3.STT it is 39 at most.", cause: `A window that is smaller than a stage may be. ${PE_HABIT}`, mend: "S2T0SZ is 39 at most, 48 with small tables (IDR3.STT).",
  },
  {
    name: "S2SL0", text: "a start level too deep for the input bits", rule: "S2SL0: does not fit S2T0SZ and S2TG", scene: "stage 2", change: { S2SL0: 1n },
    why: "S2SL0=01 starts at level 1, which 16 concatenated tables reach 43 bits with; S2T0SZ=16 says 48.", cause: PE_HABIT, mend: "Take the start level from S2T0SZ; concatenate up to 16 tables.",
  },
  {
    name: "S2SL0-high", text: "a start level too high for the input bits", rule: "S2SL0: does not fit S2T0SZ and S2TG", scene: "stage 2", change: { S2T0SZ: 25n },
    why: "S2SL0=10 starts at level 0, and S2T0SZ=25 leaves no index bits there.", cause: PE_HABIT, mend: "Take the start level from S2T0SZ.",
  },
  {
    name: "S2SL0-reserved", text: "a start level that the unit has not", rule: "S2SL0: does not fit S2T0SZ and S2TG", scene: "stage 2", given: { unit: { idr3: { STT: 0n } } }, change: { S2SL0: 3n },
    why: "S2SL0=11 starts at level 3, with small tables (IDR3.STT) only.", cause: COPIED, mend: LOOK("IDR3.STT"),
  },
  {
    name: "S2TTB", text: "the first stage-2 table is beyond the output address size", rule: "S2TTB: beyond the output address size", scene: "stage 2", given: ste({ S2PS: 4n }), change: { S2TTB: from(4, 1n << 44n) },
    why: "S2PS says 44 bits, and S2TTB is 2^44.", cause: `Encryption or tag bits in an address. ${PE_HABIT}`, mend: "Keep the table below 2^min(S2PS, OAS).",
  },
  {
    name: "S2TTB-48", text: "the first stage-2 table is beyond 48 bits", rule: "S2TTB: beyond the output address size", scene: "stage 2", given: { unit: WIDE_UNIT, ...ste({ S2PS: 6n }) }, change: { S2TTB: from(4, 1n << 48n) },
    why: "The unit has 52 bits, but tables of 4K without S2DS lie below 2^48.", cause: "Memory above 256 TiB was used for tables.", mend: "Keep tables of 4K and 16K below 2^48, or use LPA2 (S2DS).",
  },
  {
    name: "S2ENDI", text: "big-endian stage-2 tables on a little-endian unit", rule: "S2ENDI: the unit has no tables of this endianness", scene: "stage 2", given: LITTLE, change: { S2ENDI: 1n },
    why: "S2ENDI=1 with IDR0.TTENDIAN=10.", cause: COPIED, mend: LOOK("IDR0.TTENDIAN"),
  },
  {
    name: "S2ENDI-big", text: "little-endian stage-2 tables on a big-endian unit", rule: "S2ENDI: the unit has no tables of this endianness", scene: "stage 2", given: { unit: BIG, ...ste({ S2ENDI: 1n }) }, change: { S2ENDI: 0n },
    why: "S2ENDI=0 with IDR0.TTENDIAN=11.", cause: COPIED, mend: LOOK("IDR0.TTENDIAN"),
  },
  {
    name: "S2VMID", text: "a VMID of more than 8 bits", rule: "S2VMID: wider than 8 bits", scene: "stage 2", given: { unit: { idr0: { VMID16: 0n } } }, change: { S2VMID: 256n },
    why: "S2VMID=256 with IDR0.VMID16=0.", cause: "A VMID allocator of the processor's width.", mend: LOOK("IDR0.VMID16"),
  },
  {
    name: "S2VMID-stage1", text: "a VMID of more than 8 bits on a stream without stage 2", rule: "S2VMID: wider than 8 bits", scene: "stage 1", given: { unit: { idr0: { VMID16: 0n } } }, change: { S2VMID: 256n },
    why: "Stage-1 translations of EL1 are tagged with the VMID whenever the unit has stage 2, so that it counts here too.", cause: "Garbage in a field that seemed unused.", mend: "Give streams without stage 2 a VMID too.",
  },
];

const CDS: readonly Illegal[] = [
  {
    name: "S-S1STALLD", text: "stalls that the STE forbids", rule: "S: the STE forbids stalls", scene: "stage 1", given: ste({ S1STALLD: 1n }), change: { S: 1n },
    why: "S=1 with STE.S1STALLD=1.", cause: "A guest asks for stalls on a PCI device, whose STE the hypervisor wrote.", mend: "S=0 for devices that may not stall.",
  },
  {
    name: "A", text: "faults that read as zero on a unit that always aborts", rule: "A: the unit aborts always", scene: "stage 1", given: { unit: { idr0: { TERM_MODEL: 1n } } }, change: { A: 0n },
    why: "A=0 with IDR0.TERM_MODEL=1.", cause: "The field was forgotten.", mend: "A=1 wherever faults abort.",
  },
  {
    name: "S", text: "stalls on a unit that has none", rule: "S: against the unit's stall model", scene: "stage 1", given: NO_STALLS, change: { S: 1n },
    why: "S=1 with STALL_MODEL=01.", cause: COPIED, mend: LOOK("IDR0.STALL_MODEL"),
  },
  {
    name: "S-forced", text: "no stalls on a unit that always stalls", rule: "S: against the unit's stall model", scene: "stage 1", given: { ...ALWAYS_STALLS, set: { CD: { S: 1n } } }, change: { S: 0n },
    why: "S=0 with STALL_MODEL=10.", cause: COPIED, mend: LOOK("IDR0.STALL_MODEL"),
  },
  {
    name: "ENDI", text: "big-endian tables on a little-endian unit", rule: "ENDI: the unit has no tables of this endianness", scene: "stage 1", given: LITTLE, change: { ENDI: 1n },
    why: "ENDI=1 with IDR0.TTENDIAN=10. Were both halves off (EPD0, EPD1), it would not count.", cause: COPIED, mend: LOOK("IDR0.TTENDIAN"),
  },
  {
    name: "ENDI-big", text: "little-endian tables on a big-endian unit", rule: "ENDI: the unit has no tables of this endianness", scene: "stage 1", given: { unit: BIG, set: { CD: { ENDI: 1n } } }, change: { ENDI: 0n },
    why: "ENDI=0 with IDR0.TTENDIAN=11.", cause: COPIED, mend: LOOK("IDR0.TTENDIAN"),
  },
  {
    name: "AA64", text: "tables of AArch32", rule: "AA64: the table format is not implemented", scene: "stage 1", change: { AA64: 0n },
    why: "AA64=0 selects AArch32 tables, and IDR0.TTF has none.", cause: "The field was forgotten: 0 is the older format.", mend: "AA64=1.",
  },
  {
    name: "HA", text: "access flags on a unit that does not set them", rule: "HA: access flags are not updated by this unit", scene: "stage 1", given: { unit: { idr0: { HTTU: 0n } } }, change: { HA: 1n },
    why: "HA=1 with IDR0.HTTU=00.", cause: "The processor's TCR was copied for a process's address space.", mend: LOOK("IDR0.HTTU"),
  },
  {
    name: "HD", text: "dirty state on a unit that does not set it", rule: "HD: dirty state is not updated by this unit", scene: "stage 1", given: { unit: { idr0: { HTTU: 1n } }, set: { CD: { HA: 1n } } }, change: { HD: 1n },
    why: "HD=1 with IDR0.HTTU=01: access flags only.", cause: "The processor's TCR was copied for a process's address space.", mend: LOOK("IDR0.HTTU"),
  },
  {
    name: "HAFT", text: "table access flags without access flags", rule: "HAFT: table access flags without access flags", scene: "stage 1", given: { unit: { idr0: { HTTU: 3n } } }, change: { HAFT: 1n },
    why: "HAFT=1 with HA=0.", cause: "One of two fields that belong together was set.", mend: "Set HA with HAFT.",
  },
  {
    name: "ASID", text: "an ASID of more than 8 bits", rule: "ASID: wider than 8 bits", scene: "stage 1", given: { unit: { idr0: { ASID16: 0n } } }, change: { ASID: 256n },
    why: "ASID=256 with IDR0.ASID16=0.", cause: "The processor's ASID was taken for a process's address space.", mend: LOOK("IDR0.ASID16"),
  },
  {
    name: "TxSZ", text: "more input bits than the unit has", rule: "TxSZ: out of range", scene: "stage 1", change: { T0SZ: 15n },
    why: "T0SZ=15 says 49 bits; without IDR5.VAX and LPA2 (or the 64K granule) there are 48.", cause: PE_HABIT, mend: LOOK("IDR5.VAX"),
  },
  {
    name: "TxSZ-large", text: "fewer input bits than the unit allows", rule: "TxSZ: out of range", scene: "stage 1", given: { unit: { idr3: { STT: 0n } } }, change: { T0SZ: 40n },
    why: "T0SZ=40 says 24 bits; without IDR3.STT it is 39 at most.", cause: PE_HABIT, mend: "T0SZ is 39 at most, 48 with small tables (IDR3.STT).",
  },
  {
    name: "TxSZ-upper", text: "the upper half is too small", rule: "TxSZ: out of range", scene: "stage 1", given: { unit: { idr3: { STT: 0n } } }, change: { EPD1: 0n, T1SZ: 40n, TG1: 2n },
    why: "EPD1=0 turns the upper half on, and then its fields are checked though no request goes there.", cause: "EPD1 was forgotten.", mend: "EPD1=1 where there is no upper half.",
  },
  {
    name: "TGx", text: "a reserved granule", rule: "TGx: reserved or not implemented", scene: "stage 1", change: { TG0: 3n },
    why: "TG0 is 00 (4K), 01 (64K) or 10 (16K).", cause: "The encoding of TG1 was used: there 11 is 64K.", mend: "TG0 and TG1 have an encoding each.",
  },
  {
    name: "TGx-64K", text: "a granule that the unit has not", rule: "TGx: reserved or not implemented", scene: "stage 1", given: { unit: { idr5: { GRAN64K: 0n } } }, change: { TG0: 1n },
    why: "TG0=01 with IDR5.GRAN64K=0.", cause: "The processor's page size was taken for a process's address space.", mend: LOOK("IDR5"),
  },
  {
    name: "TGx-upper", text: "a reserved granule of the upper half", rule: "TGx: reserved or not implemented", scene: "stage 1", change: { EPD1: 0n, T1SZ: 16n },
    why: "TG1=00 is reserved: 01 is 16K, 10 is 4K, 11 is 64K.", cause: "The encoding of TG0 was used: there 00 is 4K.", mend: "TG0 and TG1 have an encoding each.",
  },
  {
    name: "TTBx", text: "the first table is beyond the output address size", rule: "TTBx: beyond the output address size", scene: "stage 1", given: { set: { CD: { IPS: 4n } } }, change: { TTB0: from(4, 1n << 44n) },
    why: "IPS says 44 bits, and TTB0 is 2^44.", cause: `Encryption or tag bits in an address. ${PE_HABIT}`, mend: "Keep the table below 2^min(IPS, OAS).",
  },
  {
    name: "TTBx-48", text: "the first table is beyond 48 bits", rule: "TTBx: beyond the output address size", scene: "stage 1", given: { unit: WIDE_UNIT, set: { CD: { IPS: 6n } } }, change: { TTB0: from(4, 1n << 48n) },
    why: "The unit has 52 bits, but tables of 4K without CD.DS lie below 2^48.", cause: "Memory above 256 TiB was used for tables.", mend: "Keep tables of 4K and 16K below 2^48, or use LPA2 (CD.DS).",
  },
  {
    name: "TTBx-upper", text: "the first table of the upper half is beyond the output address size", rule: "TTBx: beyond the output address size", scene: "stage 1", given: { set: { CD: { IPS: 4n } } },
    change: { EPD1: 0n, T1SZ: 16n, TG1: 2n, TTB1: from(4, 1n << 44n) },
    why: "EPD1=0 turns the upper half on, and then its fields are checked though no request goes there.", cause: "EPD1 was forgotten.", mend: "EPD1=1 where there is no upper half.",
  },
];

/** ATS cannot be tried where stalls exclude it from the start. */
function recipe(structure: "STE" | "CD", event: number, section: string, { change, ...row }: Illegal): Recipe {
  const withoutAts = row.given?.set?.STE?.EATS === 0n;
  return { ...row, name: `C_BAD_${structure}:${row.name}`, section, expect: { event }, change: { set: { [structure]: change } }, ...(withoutAts ? { kinds: ["untranslated"] } : {}) };
}

export const ILLEGAL_RECIPES: readonly Recipe[] = [
  {
    name: "C_BAD_STE", text: "the stream table entry has V=0", section: "5.2.2", scene: "stage 1", change: { set: { STE: { V: 0n } } }, expect: { event: Event.C_BAD_STE },
    why: "V is 0. An entry with V=1 and Config=000 would end the same request silently.",
    cause: "The device is not attached; or V was set and CMD_CFGI_STE is missing, since an entry with V=0 may be cached too.",
    mend: "Write the entry, CMD_CFGI_STE, CMD_SYNC, then let the device run.",
  },
  ...STES.map((row) => recipe("STE", Event.C_BAD_STE, "5.2.2", row)),
  {
    name: "C_BAD_CD", text: "the context descriptor has V=0", section: "5.4.2", scene: "stage 1", change: { set: { CD: { V: 0n } } }, expect: { event: Event.C_BAD_CD },
    why: "V is 0.",
    cause: "The PASID is not attached, or was detached with the device still using it; or CMD_CFGI_CD is missing.",
    mend: "Write the descriptor, CMD_CFGI_CD, CMD_SYNC, then let the device run.",
  },
  ...CDS.map((row) => recipe("CD", Event.C_BAD_CD, "5.4.2", row)),
];
