/** Root, context and PASID structures of scalable mode (VT-d table 27). */
import type { Recipe } from "./recipe.js";
import { HOLE, PASID } from "./scene.js";

const FIRST = { base: "first stage" as const };

export const SCALABLE_RECIPES: readonly Recipe[] = [
  {
    ...FIRST, condition: "SRT.1", section: "9.2", registers: { RTA: HOLE },
    why: "The root table lies where no memory answers, so the entry of bus 0 cannot be read.",
    cause: "RTADDR was written with a virtual address, or the table was freed.",
    mend: "Write the physical address of a 4 KiB page to RTADDR, then set SRTP and wait for RTPS.",
  },
  {
    ...FIRST, condition: "SRT.2", section: "9.2", set: { root: { LP: 0n } },
    why: "The half of the root entry for this device (LP for devfn below 80h, UP for the others) is not present.",
    cause: "Only one of the two context tables of a bus was made; or a device that nobody enumerated.",
    mend: "Make the table for the device's half, too.",
  },
  {
    ...FIRST, condition: "SRT.3", section: "9.2", bits: { root: [3] },
    why: "Bits 11:1 and address bits above the host address width must be 0 in a half that is present.",
    cause: "A table that was not zeroed.",
    mend: "Zero the root table before use.",
  },
  {
    ...FIRST, condition: "SCT.1", section: "9.4", set: { root: { LCTP: HOLE } },
    why: "The root entry points to a context table where no memory answers.",
    cause: "The context table was freed while the root entry still pointed to it.",
    mend: "Clear LP or UP and invalidate the context cache before the table is freed.",
  },
  {
    ...FIRST, condition: "SCT.2", section: "9.4", set: { context: { P: 0n } },
    why: "The context entry of this device function has P=0.",
    cause: "The device does DMA before it is attached, after it is detached, or with another function's requester id.",
    mend: "Attach first; stop DMA (bus master enable) before detaching; give aliases entries too.",
  },
  {
    ...FIRST, condition: "SCT.3", section: "9.4", bits: { context: [7] },
    why: "A reserved bit is set: bits 8:7 and 255:85, and every field whose capability ECAP lacks.",
    cause: "DTE without ECAP.DT, PRE without ECAP.PRS, RID_PASID without ECAP.RPS; or legacy entries in a scalable-mode table.",
    mend: "Set a field only if ECAP has what it needs.",
  },
  {
    ...FIRST, condition: "SCT.4.1", section: "9.4", set: { context: { DTE: 0n } },
    why: "PRE=1 with DTE=0: page requests without a device-TLB make no sense.",
    cause: "ATS was switched off and PRI forgotten.",
    mend: "Clear PRE together with DTE.",
  },
  {
    ...FIRST, condition: "SCT.4.2", section: "9.4", set: { context: { RID_PASID: 0x2000n } },
    why: "RID_PASID is beyond the PASID directory: PDTS=0 gives 2^13 PASIDs.",
    cause: "The directory was made for the PASIDs of applications, and RID_PASID was put above them.",
    mend: "Choose RID_PASID within the directory; 0 is customary.",
  },
  {
    ...FIRST, condition: "SCT.4.3", section: "9.4", set: { context: { PASIDE: 0n } },
    why: "EPTR=1 with PASIDE=0: translated requests with PASID need PASIDs.",
    cause: "PASIDs were switched off and EPTR forgotten.",
    mend: "Clear EPTR together with PASIDE.",
  },
  {
    ...FIRST, condition: "SCT.5", section: "9.4", set: { context: { DTE: 0n, PRE: 0n } },
    why: "DTE=0 blocks translation requests and translated requests of this device.",
    cause: "ATS was enabled in the device, but not in its context entry; or the entry was reset while the device kept its TLB.",
    mend: "Set DTE for trusted devices with ATS, or clear the Enable bit of the ATS capability.",
  },
  {
    ...FIRST, condition: "SCT.6", section: "9.4", set: { context: { PASIDE: 0n, EPTR: 0n } },
    why: "The request carries a PASID, and PASIDE=0.",
    cause: "PASID is enabled in the device's configuration space, but not in its context entry.",
    mend: "Set PASIDE, or disable PASID in the device.",
  },
  {
    ...FIRST, condition: "SCT.7", section: "9.4", request: { pasid: 0x2000 + PASID },
    why: "The PASID is beyond the PASID directory: PDTS=0 gives 2^13 PASIDs.",
    cause: "The device uses a PASID that was never given to it, or one of another device.",
    mend: "Make the directory as large as the PASIDs that are handed out.",
  },
  {
    ...FIRST, condition: "SCT.8", section: "9.4", set: { context: { PRE: 0n } },
    why: "The device sent a page request, and PRE=0.",
    cause: "PRI is enabled in the device, but not in its context entry.",
    mend: "Set PRE (with ECAP.PRS), or disable PRI in the device.",
  },
  {
    ...FIRST, condition: "SCT.9", section: "7.1.3", set: { context: { RID_PASID: BigInt(PASID) } },
    why: "The request carries the PASID that RID_PASID names; only requests without PASID may use it.",
    cause: "PASIDs were handed out without a look at RID_PASID.",
    mend: "Keep RID_PASID (0 is customary) out of the PASIDs that are handed out.",
  },
  {
    ...FIRST, condition: "SCT.10", section: "9.4", set: { context: { EPTR: 0n } },
    why: "A translated request carries a PASID, and EPTR=0.",
    cause: "The device puts PASIDs on translated requests, and software does not expect it.",
    mend: "Set EPTR (with ECAP.PTRS), or turn the feature off in the device.",
  },
  {
    ...FIRST, condition: "SPD.1", section: "9.5", set: { context: { PASIDDIRPTR: HOLE } },
    why: "The PASID directory lies where no memory answers. This fault is recorded even with FPD=1.",
    cause: "The directory was freed while the context entry still pointed to it.",
    mend: "Clear P of the context entry and invalidate before the directory is freed.",
  },
  {
    ...FIRST, condition: "SPD.2", section: "9.5", set: { directory: { P: 0n } },
    why: "The directory entry of the PASID's 64-entry table has P=0.",
    cause: "The PASID was never attached, or its table was freed.",
    mend: "Attach the PASID before the device uses it.",
  },
  {
    ...FIRST, condition: "SPD.3", section: "9.5", bits: { directory: [4] },
    why: "Bits 11:2 and address bits above the host address width must be 0.",
    cause: "A directory that was not zeroed.",
    mend: "Zero the directory before use.",
  },
  {
    ...FIRST, condition: "SPT.1", section: "9.6", set: { directory: { SMPTBLPTR: HOLE } },
    why: "The PASID table lies where no memory answers. This fault is recorded even with FPD=1.",
    cause: "The table was freed while the directory still pointed to it.",
    mend: "Clear P of the directory entry and invalidate the PASID cache before the table is freed.",
  },
  {
    ...FIRST, condition: "SPT.2", section: "9.6", set: { "PASID entry": { P: 0n } },
    why: "The PASID table entry has P=0.",
    cause: "The PASID was detached while the device still used it, or never attached.",
    mend: "Let the device stop using a PASID (and drain its page requests) before it is detached.",
  },
  {
    ...FIRST, condition: "SPT.3", section: "9.6", bits: { "PASID entry": [5] },
    why: "A reserved bit is set in the PASID table entry: always reserved ones, or a field whose capability ECAP lacks.",
    cause: "Fields of older revisions (SLEE in bit 5, ERE in bit 129), AW on a unit without second stage, PGSNP without ECAP.SC.",
    mend: "Write only fields that ECAP announces; zero the entry first.",
  },
  {
    base: "second stage", condition: "SPT.4.1", section: "9.6", set: { "PASID entry": { AW: 3n } },
    why: "AW=3 asks for 5 second-stage levels, which CAP.SAGAW does not offer.",
    cause: "The number of levels was taken from another unit, or from the first stage.",
    mend: "Choose AW out of this unit's CAP.SAGAW.",
  },
  {
    ...FIRST, condition: "SPT.4.2", section: "9.6", set: { "PASID entry": { PGTT: 5n } },
    why: "PGTT is reserved, or ECAP lacks the kind (FSTS, SSTS, NEST, PT).",
    cause: "Nested or pass-through translation was asked of a unit without it.",
    mend: "Check ECAP before PGTT is chosen.",
  },
  {
    ...FIRST, condition: "SPT.4.3", section: "9.6", set: { "PASID entry": { FSPM: 2n } },
    why: "FSPM is reserved, or asks for 5 levels without CAP.FS5LP.",
    cause: "A process with 5-level paging is shared with a device whose unit has 4 levels.",
    mend: "Share only processes whose page tables fit the unit.",
  },
  {
    base: "nested", condition: "SPT.4.4", section: "9.6", cap: { MGAW: 39n }, set: { "PASID entry": { FSPTPTR: (1n << 40n) >> 12n } },
    why: "FSPTPTR of a nested entry is a guest-physical address, and does not fit min(MGAW, AW).",
    cause: "A guest programmed a pointer beyond its own memory; the hypervisor passed it on unchecked.",
    mend: "Check the guest's pointer against the second stage's width.",
  },
  {
    ...FIRST, condition: "SPT.5", section: "7.1.3", request: { execute: true },
    why: "The request asks for execute permission (ER=1), and the unit has no such requests (ECAP.ERS=0).",
    cause: "Execute Permission Enable is set in the device's PASID capability.",
    mend: "Clear it.",
  },
  {
    ...FIRST, condition: "SPT.6", section: "9.6", set: { "PASID entry": { SRE: 0n } }, request: { privileged: true }, ridPrivilege: true,
    why: "A privileged request (PR=1, or RID_PRIV=1 without PASID) meets SRE=0.",
    cause: "The device's Privileged Mode Enable is set for an application's PASID.",
    mend: "Set SRE (with ECAP.SRS) for kernel address spaces; clear Privileged Mode Enable for others.",
  },
  {
    ...FIRST, condition: "SPT.9", section: "9.6", haw: 52, request: { hostAddress: 1n << 50n },
    why: "The translated address is beyond what the host permission table covers: HPTSZ=0 ends at 2^49.",
    cause: "HPTSZ was chosen for less memory than the machine has.",
    mend: "Choose HPTSZ by the highest host address.",
  },
  {
    ...FIRST, condition: "SGN.10", section: "7.1.3", set: { context: { PDTS: 7n } }, request: { pasid: 0x1_0000 + PASID },
    why: "The PASID has more bits than ECAP.PSS says the unit supports.",
    cause: "The device's PASID width was enabled without a look at ECAP.PSS.",
    mend: "Hand out PASIDs below 2^(PSS+1).",
  },
];
