/** Faults of translation at stage 1, stage 2 and between them (SMMU 7.3.12 to 7.3.15): F_WALK_EABT, F_TRANSLATION, F_ADDR_SIZE, F_ACCESS. */
import { NO_PASID } from "@iommukit/core";
import { Event, FaultClass } from "../spec/events.js";
import { S1dss } from "../spec/stream-table.js";
import type { Recipe, Setting, Values } from "./recipe.js";
import { from, guest, HOLE, IPA, STAGE1_TABLES, STAGE2_TABLES, TARGET } from "./scene.js";

/** Fields of the record: stage and CLASS, and for stage 2 the intermediate address. */
export const AT_STAGE1: Values = { S2: 0n, CLASS: BigInt(FaultClass.IN) };
export const ofInput: Values = { S2: 1n, CLASS: BigInt(FaultClass.IN), IPA: from(12, IPA) };
export const ofCd: Values = { S2: 1n, CLASS: BigInt(FaultClass.CD), IPA: from(12, guest(0x4000)) };
export const ofTable = (level: number): Values => ({ S2: 1n, CLASS: BigInt(FaultClass.TT), IPA: from(12, guest(STAGE1_TABLES[level])) });
export const STALLED: Values = { Stall: 1n };
/** Stalls need EATS=00 with stage 2, and devices that PCI does not have. */
export const STAGE2_STALLS: Setting = { set: { STE: { S2S: 1n, EATS: 0n } } };
export const STAGE1_STALLS: Setting = { set: { CD: { S: 1n } } };

const TOO_FAR = 1n << 44n;
const SMALL_OUTPUT = { set: { CD: { IPS: 4n } } };
const SMALL_STAGE2 = { set: { STE: { S2PS: 4n } } };
const ABORTED = "A page of tables was freed without an invalidation, or a descriptor is corrupt.";
const FREE_LATER = "Clear the descriptor, invalidate (TLBI with Leaf=0) and wait for CMD_SYNC before table pages are freed.";
const UNMAPPED = "The buffer was unmapped already, or never mapped.";
const KEEP_MAPPED = "Keep buffers mapped until the device is done.";
const GUEST_HOLE = "A guest's pointer leads outside its memory, or the hypervisor has not mapped that page.";
const MAP_GUEST = "Map guest memory before its devices run; a guest's own mistake is reported to the guest.";
const BEYOND = "Encryption or tag bits in an address, or tables that were made for a larger machine.";
const FIT = "Keep addresses below 2^min(IPS or S2PS, OAS).";
const AGED = "Software clears AF to see which pages are used, as a kernel does with a process's pages.";
const SET_AF = "Set AF in every descriptor, let the unit do it (HA, S2HA), or ignore it (AFFD, S2AFFD).";
const RESUME = "Map the page and answer with CMD_RESUME (Ac=1 to try again), its StreamID and STAG; or end it with Ac=0.";

const eabt = (record: Values, address: bigint): Recipe["expect"] => ({ event: Event.F_WALK_EABT, record: { ...record, FetchAddr: from(3, address) } });
/** S2=0 and CLASS=TT: the odd one (7.3.12). */
const EABT_STAGE1: Values = { S2: 0n, CLASS: BigInt(FaultClass.TT) };
const EABT_STAGE2 = (cause: number): Values => ({ S2: 1n, CLASS: BigInt(cause) });

const WALKS: readonly Recipe[] = [
  {
    name: "F_WALK_EABT", text: "a stage-1 table could not be read", section: "7.3.12", scene: "stage 1", change: { set: { "S1 level 1": { OA: from(12, HOLE) } } },
    expect: eabt(EABT_STAGE1, HOLE + 8n),
    why: "The table of level 2 lies where no memory answers. At stage 1 the record has S2=0 and CLASS=TT.",
    cause: ABORTED, mend: FREE_LATER,
  },
  {
    name: "F_WALK_EABT:TTB0", text: "the first stage-1 table could not be read", section: "7.3.12", scene: "stage 1", change: { set: { CD: { TTB0: from(4, HOLE) } } },
    expect: eabt(EABT_STAGE1, HOLE + 8n),
    why: "TTB0 leads where no memory answers. It is below the output address size, so the CD is good.",
    cause: "A process's tables were freed before its PASID was detached.",
    mend: "Clear V of the CD, CMD_CFGI_CD, TLBI by ASID, CMD_SYNC, and only then free the tables.",
  },
  {
    name: "F_WALK_EABT:stage2", text: "a stage-2 table could not be read", section: "7.3.12", scene: "stage 2", change: { set: { "S2 level 1": { OA: from(12, HOLE) } } },
    expect: eabt(EABT_STAGE2(FaultClass.IN), HOLE + 3n * 8n),
    why: "The stage-2 table of level 2 lies where no memory answers.",
    cause: ABORTED, mend: FREE_LATER,
  },
  {
    name: "F_WALK_EABT:CD", text: "a stage-2 table could not be read on the way to the context descriptor", section: "7.3.12", scene: "nested",
    change: { set: { "S2 level 2 of the CDs": { OA: from(12, HOLE) } } }, expect: eabt(EABT_STAGE2(FaultClass.CD), HOLE + 4n * 8n),
    why: "The pointer to the CD is an intermediate address, and stage 2's table for it lies where no memory answers.",
    cause: ABORTED, mend: FREE_LATER,
  },
  {
    name: "F_WALK_EABT:TT", text: "a stage-2 table could not be read on the way to a stage-1 table", section: "7.3.12", scene: "nested",
    change: { set: { "S2 level 2 of the tables": { OA: from(12, HOLE) } } }, expect: eabt(EABT_STAGE2(FaultClass.TT), HOLE + 6n * 8n),
    why: "TTB0 is an intermediate address, and stage 2's table for it lies where no memory answers.",
    cause: ABORTED, mend: FREE_LATER,
  },
  {
    name: "F_WALK_EABT:nested", text: "a stage-2 table could not be read for what stage 1 came to", section: "7.3.12", scene: "nested",
    change: { set: { "S2 level 2 of the page": { OA: from(12, HOLE) } } }, expect: eabt(EABT_STAGE2(FaultClass.IN), HOLE + 15n * 8n),
    why: "Stage 1 succeeded, and stage 2's table for its output lies where no memory answers.",
    cause: ABORTED, mend: FREE_LATER,
  },
  {
    name: "F_WALK_EABT:guest-table", text: "stage 2 maps a stage-1 table to where no memory answers", section: "7.3.12", scene: "nested",
    change: { set: { "S2 of the S1 level 2": { OA: from(12, HOLE) } } }, expect: eabt(EABT_STAGE1, HOLE + 8n),
    why: "Stage 2 succeeded, so that this is stage 1's fault: S2=0, CLASS=TT, and FetchAddr is the physical address.",
    cause: "A hypervisor maps a guest page to memory that is gone.", mend: "It is the hypervisor's own mistake, not to be told to the guest.",
  },
];

const NOT_WRITABLE = "Page tables in memory that takes no atomic writes: device memory, read-only memory, a poisoned line.";
const UPDATES: readonly Recipe[] = [
  {
    name: "F_WALK_EABT:update", text: "a flag could not be set in a stage-1 table", section: "7.3.12", scene: "stage 1", given: { set: { CD: { HA: 1n }, "S1 level 3": { AF: 0n } } },
    change: { readOnly: "S1 level 3" }, expect: eabt(EABT_STAGE1, BigInt(STAGE1_TABLES[3] + 15 * 8)),
    why: "CD.HA=1 makes the unit set AF, and memory refuses the write: the same event as for a read.", cause: NOT_WRITABLE, mend: "Keep page tables in ordinary memory.",
  },
  {
    name: "F_WALK_EABT:stage2-update", text: "a flag could not be set in a stage-2 table", section: "7.3.12", scene: "stage 2", given: { set: { STE: { S2HA: 1n }, "S2 of the page": { AF: 0n } } },
    change: { readOnly: "S2 of the page" }, expect: eabt(EABT_STAGE2(FaultClass.IN), BigInt(STAGE2_TABLES[3] + 0x2000 + 15 * 8)),
    why: "STE.S2HA=1 makes the unit set AF, and memory refuses the write.", cause: NOT_WRITABLE, mend: "Keep page tables in ordinary memory.",
  },
  {
    name: "F_WALK_EABT:CD-update", text: "a flag could not be set in a stage-2 table on the way to the context descriptor", section: "7.3.12", scene: "nested",
    given: { set: { STE: { S2HA: 1n }, "S2 of the CD": { AF: 0n } } }, change: { readOnly: "S2 of the CD" }, expect: eabt(EABT_STAGE2(FaultClass.CD), BigInt(STAGE2_TABLES[3] + 4 * 8)),
    why: "The fetch of the CD is an access of stage 2, which sets AF, and memory refuses the write: CLASS=CD.", cause: NOT_WRITABLE, mend: "Keep page tables in ordinary memory.",
  },
];

const translation = (record: Values): Recipe["expect"] => ({ event: Event.F_TRANSLATION, record });
const TRANSLATIONS: readonly Recipe[] = [
  {
    name: "F_TRANSLATION", text: "the page is not mapped at stage 1", section: "7.3.13", scene: "stage 1", change: { set: { "S1 level 3": { valid: 0n } } }, expect: translation(AT_STAGE1),
    why: "The last stage-1 descriptor has bit 0 clear.", cause: UNMAPPED, mend: KEEP_MAPPED,
  },
  {
    name: "F_TRANSLATION:table", text: "a table of stage 1 is missing", section: "7.3.13", scene: "stage 1", change: { set: { "S1 level 0": { valid: 0n } } }, expect: translation(AT_STAGE1),
    why: "A stage-1 descriptor of level 0 has bit 0 clear. The record does not tell the level.", cause: UNMAPPED, mend: KEEP_MAPPED,
  },
  {
    name: "F_TRANSLATION:block", text: "a block where none is allowed", section: "DDI0487 D8.3.1", scene: "stage 1", change: { set: { "S1 level 0": { type: 0n } } }, expect: translation(AT_STAGE1),
    why: "With 4K tables blocks are of levels 1 and 2, and at level 0 with 52-bit descriptors (CD.DS) only.",
    cause: "A block of 512 GiB on a unit or in a format without LPA2.", mend: "Use the block sizes that the format has.",
  },
  {
    name: "F_TRANSLATION:page", text: "a page descriptor 0b01", section: "DDI0487 D8.3.1", scene: "stage 1", change: { set: { "S1 level 3": { type: 0n } } }, expect: translation(AT_STAGE1),
    why: "At level 3 a page is 0b11; 0b01 is reserved and invalid.", cause: "A block descriptor that was written one level too low.", mend: "Pages have bits 1:0 set.",
  },
  {
    name: "F_TRANSLATION:range", text: "the address is beyond T0SZ", section: "3.4.1", scene: "stage 1", change: { request: { address: 1n << 48n } }, expect: translation(AT_STAGE1),
    why: "T0SZ=16 gives the lower half 48 bits: address bits 63:48 must equal bit 55.",
    cause: "A tag in the top byte without TBI0, or an IOVA allocator with a limit above the table's.", mend: "Allocate below 2^(64-T0SZ); set TBI for tagged pointers.",
  },
  {
    name: "F_TRANSLATION:EPD0", text: "the half of the address space is turned off", section: "5.4", scene: "stage 1", change: { set: { CD: { EPD0: 1n } } }, expect: translation(AT_STAGE1),
    why: "EPD0=1: no walk is made for addresses of the lower half.", cause: "A process's tables were taken away (its address space ended) with the device still running.",
    mend: "Drain the device before its PASID is detached.",
  },
  {
    name: "F_TRANSLATION:EPD1", text: "an address of the upper half where there is none", section: "5.4", scene: "stage 1", change: { request: { address: 0xffff_8000_0000_1000n } }, expect: translation(AT_STAGE1),
    why: "Bit 55 selects the upper half, and EPD1=1.", cause: "A kernel address, or one that the device sign-extended.", mend: "Give the device addresses of the lower half.",
  },
  {
    name: "F_TRANSLATION:E0PD", text: "an unprivileged access to a half for privileged ones", section: "5.4", scene: "stage 1", change: { set: { CD: { E0PD0: 1n } } }, expect: translation(AT_STAGE1),
    why: "E0PD0=1 makes every unprivileged access to the lower half fault as if nothing were mapped.", cause: "E0PD was copied from a processor's TCR.",
    mend: "Leave E0PD off for devices whose requests are unprivileged, or set PRIVCFG.",
  },
  {
    name: "F_TRANSLATION:stage2", text: "the page is not mapped at stage 2", section: "7.3.13", scene: "stage 2", change: { set: { "S2 of the page": { valid: 0n } } }, expect: translation(ofInput),
    why: "The last stage-2 descriptor has bit 0 clear. IPA repeats the input address.", cause: GUEST_HOLE, mend: MAP_GUEST,
  },
  {
    name: "F_TRANSLATION:S2T0SZ", text: "the address is beyond S2T0SZ", section: "3.4", scene: "stage 2",
    given: { set: { STE: { S2T0SZ: 25n, S2SL0: 1n, S2TTB: from(4, STAGE2_TABLES[1]) } } }, change: { request: { address: 1n << 40n } },
    expect: translation({ ...ofInput, IPA: from(12, 1n << 40n) }),
    why: "S2T0SZ=25 gives 39 bits of intermediate addresses. Only above the intermediate address size of the unit it would be F_ADDR_SIZE of stage 1.",
    cause: "A guest does DMA above its memory, or a device sign-extends addresses.", mend: MAP_GUEST,
  },
  {
    name: "F_TRANSLATION:CD", text: "stage 2 does not map the context descriptor", section: "7.3.13", scene: "nested", change: { set: { "S2 of the CD": { valid: 0n } } }, expect: translation(ofCd),
    why: "The pointer to the CD is an intermediate address: S2=1, CLASS=CD, and IPA is that of the CD.", cause: GUEST_HOLE, mend: MAP_GUEST,
  },
  {
    name: "F_TRANSLATION:L1CD", text: "stage 2 does not map the level-1 context descriptor", section: "7.3.13", scene: "nested two-level CDs", change: { set: { "S2 of the L1CD": { valid: 0n } } },
    expect: translation({ ...ofCd, IPA: from(12, guest(0x5000)) }),
    why: "The pointer to the level-1 table is an intermediate address too: S2=1, CLASS=CD.", cause: GUEST_HOLE, mend: MAP_GUEST,
  },
  {
    name: "F_TRANSLATION:TT", text: "stage 2 does not map a stage-1 table", section: "7.3.13", scene: "nested", change: { set: { "S2 of the S1 level 2": { valid: 0n } } }, expect: translation(ofTable(2)),
    why: "Each stage-1 descriptor is at an intermediate address: S2=1, CLASS=TT, IPA of the descriptor, InputAddr of the access.", cause: GUEST_HOLE, mend: MAP_GUEST,
  },
  {
    name: "F_TRANSLATION:nested", text: "stage 2 does not map what stage 1 came to", section: "7.3.13", scene: "nested", change: { set: { "S2 of the page": { valid: 0n } } }, expect: translation(ofInput),
    why: "Stage 1 succeeded; its output is not mapped at stage 2: S2=1, CLASS=IN.", cause: GUEST_HOLE, mend: MAP_GUEST,
  },
  {
    name: "F_TRANSLATION:stall", text: "the page is not mapped, and the transaction waits", section: "3.12", scene: "stage 1", kinds: ["untranslated"], given: STAGE1_STALLS,
    change: { set: { "S1 level 3": { valid: 0n } } }, expect: translation({ ...AT_STAGE1, ...STALLED }),
    why: "CD.S=1: the transaction is neither answered nor ended, and STAG names it.", cause: "Memory of a process that is not there yet: what stalls are for.", mend: RESUME,
  },
  {
    name: "F_TRANSLATION:stage2-stall", text: "the page is not mapped at stage 2, and the transaction waits", section: "3.12", scene: "stage 2", kinds: ["untranslated"], given: STAGE2_STALLS,
    change: { set: { "S2 of the page": { valid: 0n } } }, expect: translation({ ...ofInput, ...STALLED }),
    why: "STE.S2S=1: the stage of the fault decides.", cause: "Guest memory that the hypervisor has not brought in yet.", mend: RESUME,
  },
];

const STALLS_AT_CD: Recipe = {
  name: "F_TRANSLATION:CD-stall", text: "stage 2 does not map the context descriptor, and the transaction waits", section: "3.12", scene: "nested", kinds: ["untranslated"], given: STAGE2_STALLS,
  change: { set: { "S2 of the CD": { valid: 0n } } }, expect: translation({ ...ofCd, ...STALLED }),
  why: "STE.S2S=1 holds for everything that stage 2 translates, the unit's own fetches too.", cause: "Guest memory that the hypervisor has not brought in yet.", mend: RESUME,
};

const size = (record: Values): Recipe["expect"] => ({ event: Event.F_ADDR_SIZE, record });
/** No stage translates: A, R and S have no say, and the record is always made. */
const BYPASSED: Values = { CLASS: BigInt(FaultClass.IN) };
const SIZES: readonly Recipe[] = [
  {
    name: "F_ADDR_SIZE", text: "the page is beyond the output address size", section: "7.3.14", scene: "stage 1", given: SMALL_OUTPUT, change: { set: { "S1 level 3": { OA: from(12, TOO_FAR) } } },
    expect: size(AT_STAGE1), why: "IPS says 44 bits, and the page lies at 2^44.", cause: BEYOND, mend: FIT,
  },
  {
    name: "F_ADDR_SIZE:table", text: "a stage-1 table is beyond the output address size", section: "7.3.14", scene: "stage 1", given: SMALL_OUTPUT,
    change: { set: { "S1 level 1": { OA: from(12, TOO_FAR) } } }, expect: size(AT_STAGE1),
    why: "The size is checked on tables' addresses as on pages'. Only of TTB0 itself it would be C_BAD_CD.", cause: BEYOND, mend: FIT,
  },
  {
    name: "F_ADDR_SIZE:bypass", text: "a stream that bypasses, and an address beyond the unit's", section: "3.4", scene: "bypass", kinds: ["untranslated"], change: { request: { address: 1n << 48n } },
    expect: size(BYPASSED), why: "With Config=100 the input is the output, and it is not below 2^OAS. With SMMUEN=0 the same is an abort without a record.",
    cause: "The device was given an IOVA of another domain.", mend: "Give it physical addresses, or a real domain.",
  },
  {
    name: "F_ADDR_SIZE:stage2-alone", text: "stage 1 is off, and the address is beyond the intermediate size", section: "3.4", scene: "stage 2", change: { request: { address: 1n << 48n } }, expect: size(BYPASSED),
    why: "It is a fault of stage 1, which is off: S2=0. STE.S2R does not silence it.", cause: "A device that sign-extends addresses, or a tagged pointer: there is no TBI without stage 1.",
    mend: "Give the device plain addresses.",
  },
  {
    name: "F_ADDR_SIZE:S1DSS", text: "S1DSS takes the request past stage 1, and the address is beyond the intermediate size", section: "5.2", scene: "substreams",
    given: { set: { STE: { S1DSS: BigInt(S1dss.BYPASS) } }, request: { substream: NO_PASID, address: BigInt(TARGET) } }, kinds: ["untranslated"], change: { request: { address: 1n << 48n } },
    expect: size(BYPASSED), why: "S1DSS=01 bypasses stage 1 for requests without SubstreamID, as Config=1x0 does, with the same limit.",
    cause: "The device was given an IOVA of another domain.", mend: "Give it physical addresses.",
  },
  {
    name: "F_ADDR_SIZE:stage2", text: "the page is beyond stage 2's output address size", section: "7.3.14", scene: "stage 2", given: SMALL_STAGE2, change: { set: { "S2 of the page": { OA: from(12, TOO_FAR) } } },
    expect: size(ofInput), why: "S2PS says 44 bits, and the page lies at 2^44.", cause: BEYOND, mend: FIT,
  },
  {
    name: "F_ADDR_SIZE:stage2-table", text: "a stage-2 table is beyond the output address size", section: "7.3.14", scene: "stage 2", given: SMALL_STAGE2, change: { set: { "S2 level 0": { OA: from(12, TOO_FAR) } } },
    expect: size(ofInput), why: "The size is checked on tables' addresses as on pages'.", cause: BEYOND, mend: FIT,
  },
  {
    name: "F_ADDR_SIZE:CD", text: "stage 2 maps the context descriptor beyond the output address size", section: "7.3.14", scene: "nested", given: SMALL_STAGE2,
    change: { set: { "S2 of the CD": { OA: from(12, TOO_FAR) } } }, expect: size(ofCd), why: "Stage 2's output for the CD is at 2^44: CLASS=CD.", cause: BEYOND, mend: FIT,
  },
  {
    name: "F_ADDR_SIZE:TT", text: "stage 2 maps a stage-1 table beyond the output address size", section: "7.3.14", scene: "nested", given: SMALL_STAGE2,
    change: { set: { "S2 of the S1 level 1": { OA: from(12, TOO_FAR) } } }, expect: size(ofTable(1)), why: "Stage 2's output for the table is at 2^44: CLASS=TT.", cause: BEYOND, mend: FIT,
  },
  {
    name: "F_ADDR_SIZE:nested", text: "stage 1's output is beyond its own output address size", section: "7.3.14", scene: "nested", given: SMALL_OUTPUT,
    change: { set: { "S1 level 3": { OA: from(12, TOO_FAR) } } }, expect: size(AT_STAGE1),
    why: "IPS is looked at before stage 2: S2=0. Below 2^IPS and beyond S2T0SZ it would be F_TRANSLATION of stage 2.", cause: BEYOND, mend: FIT,
  },
  {
    name: "F_ADDR_SIZE:stall", text: "the page is beyond the output address size, and the transaction waits", section: "3.12", scene: "stage 1", kinds: ["untranslated"],
    given: { set: { CD: { IPS: 4n, S: 1n } } }, change: { set: { "S1 level 3": { OA: from(12, TOO_FAR) } } }, expect: size({ ...AT_STAGE1, ...STALLED }),
    why: "CD.S=1 counts for every fault of translation but that of a bypassed stage.", cause: BEYOND, mend: "Mend the descriptor, TLBI, CMD_SYNC, then CMD_RESUME.",
  },
];

const flag = (record: Values): Recipe["expect"] => ({ event: Event.F_ACCESS, record });
const FLAGS: readonly Recipe[] = [
  {
    name: "F_ACCESS", text: "the page has no access flag", section: "7.3.15", scene: "stage 1", change: { set: { "S1 level 3": { AF: 0n } } }, expect: flag(AT_STAGE1),
    why: "AF is 0, and the unit neither sets it (CD.HA=0) nor ignores it (AFFD=0).", cause: AGED, mend: SET_AF,
  },
  {
    name: "F_ACCESS:stage2", text: "the page has no access flag at stage 2", section: "7.3.15", scene: "stage 2", change: { set: { "S2 of the page": { AF: 0n } } }, expect: flag(ofInput),
    why: "AF is 0, and STE.S2HA and S2AFFD are too.", cause: AGED, mend: SET_AF,
  },
  {
    name: "F_ACCESS:CD", text: "stage 2 has no access flag for the context descriptor", section: "7.3.15", scene: "nested", change: { set: { "S2 of the CD": { AF: 0n } } }, expect: flag(ofCd),
    why: "The fetch of the CD is an access of stage 2: CLASS=CD.", cause: AGED, mend: SET_AF,
  },
  {
    name: "F_ACCESS:TT", text: "stage 2 has no access flag for a stage-1 table", section: "7.3.15", scene: "nested", change: { set: { "S2 of the S1 level 0": { AF: 0n } } }, expect: flag(ofTable(0)),
    why: "The fetch of a stage-1 descriptor is an access of stage 2: CLASS=TT.", cause: AGED, mend: SET_AF,
  },
  {
    name: "F_ACCESS:nested", text: "stage 2 has no access flag for what stage 1 came to", section: "7.3.15", scene: "nested", change: { set: { "S2 of the page": { AF: 0n } } }, expect: flag(ofInput),
    why: "Stage 1 succeeded; stage 2's descriptor of its output has AF=0.", cause: AGED, mend: SET_AF,
  },
  {
    name: "F_ACCESS:stall", text: "the page has no access flag, and the transaction waits", section: "3.12", scene: "stage 1", kinds: ["untranslated"], given: STAGE1_STALLS,
    change: { set: { "S1 level 3": { AF: 0n } } }, expect: flag({ ...AT_STAGE1, ...STALLED }),
    why: "CD.S=1: the transaction waits until software has set the flag.", cause: AGED, mend: "Set AF, then CMD_RESUME: an entry with AF=0 is never cached, so no TLBI is due.",
  },
];

/** Choices of the unit: it is told to look for what it is permitted to find. */
const CONFLICT = { section: "3.21.1", change: { uninvalidated: true } } as const;
const CONFLICTS = { choices: { tlbConflicts: true } };
const MERGED = "Pages were merged into a block (or a block split) while the mapping was in use, without break-before-make.";
const BREAK_FIRST = "Clear the descriptor, TLBI, CMD_SYNC, then write the block; or use nT with BBML=1; a unit with BBML=2 never reports this.";
const TLB: readonly Recipe[] = [
  {
    ...CONFLICT, name: "F_TLB_CONFLICT", text: "a page and a block of one address are cached together", scene: "stage 1, two pages",
    given: { unit: CONFLICTS, merge: { part: "S1 level 2", values: { valid: 1n, AP: 1n, AF: 1n, nG: 1n, OA: from(12, TARGET - 0xf000) } } },
    expect: { event: Event.F_TLB_CONFLICT },
    why: "A page of the block is cached as a page: the walk that found the block would lay it over that entry. A unit may report this, or use either (here: the choice tlbConflicts).", cause: MERGED, mend: BREAK_FIRST,
  },
  {
    ...CONFLICT, name: "F_TLB_CONFLICT:stage2", text: "a page and a block of one intermediate address are cached together", scene: "stage 2, two pages",
    given: { unit: CONFLICTS, merge: { part: "S2 level 2 of the page", values: { valid: 1n, MemAttr: 15n, S2AP: 3n, AF: 1n, OA: from(12, TARGET - 0xf000) } } },
    expect: { event: Event.F_TLB_CONFLICT, record: { S2: 1n, IPA: from(12, IPA) } },
    why: "The same among translations of intermediate addresses: S2=1, and IPA is valid.", cause: MERGED, mend: BREAK_FIRST,
  },
];

export const WALK_RECIPES: readonly Recipe[] = [...WALKS, ...UPDATES, ...TRANSLATIONS, STALLS_AT_CD, ...SIZES, ...FLAGS, ...TLB];
