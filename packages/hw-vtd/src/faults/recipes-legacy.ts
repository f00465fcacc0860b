/** Legacy mode and the translation table mode (VT-d tables 25, 26). */
import type { Recipe } from "./recipe.js";
import { HOLE } from "./scene.js";

const LEGACY = { base: "legacy" as const };

export const LEGACY_RECIPES: readonly Recipe[] = [
  {
    ...LEGACY, condition: "LRT.1", section: "9.1", registers: { RTA: HOLE },
    why: "The root table lies where no memory answers, so the entry of bus 0 cannot be read.",
    cause: "RTADDR was written with a virtual address, or the table was freed, or never was in DMA-able memory.",
    mend: "Write the physical address of a 4 KiB page to RTADDR, then set SRTP and wait for RTPS.",
  },
  {
    ...LEGACY, condition: "LRT.2", section: "9.1", set: { root: { P: 0n } },
    why: "The root entry of the requester's bus has P=0: no device of that bus is allowed to do DMA.",
    cause: "A device on a bus that the driver did not enumerate: hot-plugged, behind a bridge, or an alias of another one.",
    mend: "Give the bus a context table and set P; then invalidate the context cache if CAP.CM=1.",
  },
  {
    ...LEGACY, condition: "LRT.3", section: "9.1", bits: { root: [5] },
    why: "Bits 11:1, 127:64 and the address bits above the host address width must be 0 in a present root entry.",
    cause: "A scalable-mode root entry (its upper half in use) on a unit in legacy mode, or a table that was not zeroed.",
    mend: "Zero the table before use, and let RTADDR.TTM say what kind of table it is.",
  },
  {
    ...LEGACY, condition: "LCT.1", section: "9.3", set: { root: { CTP: HOLE } },
    why: "The root entry points to a context table where no memory answers.",
    cause: "The context table was freed while the root entry still pointed to it.",
    mend: "Clear P of the root entry and invalidate the context cache before the table is freed.",
  },
  {
    ...LEGACY, condition: "LCT.2", section: "9.3", set: { context: { P: 0n } },
    why: "The context entry of this device function has P=0.",
    cause: "The device does DMA before a driver has attached it, after it was detached, or with another function's requester id.",
    mend: "Attach the device first; stop its DMA (bus master enable) before it is detached; give aliases entries too.",
  },
  {
    ...LEGACY, condition: "LCT.3", section: "9.3", bits: { context: [6] },
    why: "Bits 11:4, 71, 127:88, DID bits that CAP.ND does not have and pointer bits above the host address width must be 0.",
    cause: "A domain id wider than CAP.ND, or a field of an older revision.",
    mend: "Take domain ids below 2^(4 + 2·CAP.ND), and leave reserved fields 0.",
  },
  {
    ...LEGACY, condition: "LCT.4.1", section: "9.3", set: { context: { AW: 3n } },
    why: "AW=3 asks for 5 levels (57 bits), which CAP.SAGAW does not offer.",
    cause: "The number of levels was taken from another unit of the machine.",
    mend: "Choose AW out of this unit's CAP.SAGAW.",
  },
  {
    ...LEGACY, condition: "LCT.4.2", section: "9.3", set: { context: { TT: 3n } },
    why: "TT=3 is reserved; TT=1 needs ECAP.DT and TT=2 needs ECAP.PT.",
    cause: "Pass-through or device-TLBs were switched on without a look at ECAP.",
    mend: "Use TT=0, or what ECAP allows.",
  },
  {
    ...LEGACY, condition: "LCT.4.3", section: "3.7", set: { context: { SSPTPTR: HOLE } },
    why: "The top second-stage table lies where no memory answers.",
    cause: "The page table was freed while the context entry still pointed to it.",
    mend: "Clear P, invalidate context cache and IOTLB, and only then free the tables.",
  },
  {
    ...LEGACY, condition: "LCT.5", section: "9.3", set: { context: { TT: 0n } },
    why: "TT=0 allows untranslated requests only; this device used Address Translation Services.",
    cause: "ATS was enabled in the device's configuration space, but not in its context entry.",
    mend: "Set TT=1 for devices with ATS, or clear the Enable bit of the ATS capability.",
  },
  {
    ...LEGACY, condition: "LSS.1", section: "3.7", set: { "SS-PML4E": { ADDR: HOLE } },
    why: "A second-stage entry below the top table could not be read: its table lies where no memory answers.",
    cause: "A table page was freed without an invalidation, or an entry is corrupt.",
    mend: "Invalidate (with IH=0) before table pages are freed.",
  },
  {
    ...LEGACY, condition: "LSS.2", section: "9.8", bits: { "SS-PDE": [11] },
    why: "A second-stage entry that grants something has a reserved bit: SNP in an entry that points to a table.",
    cause: "An unsupported page size (CAP.SSLPS), SNP without ECAP.SC, an address above the host address width, or junk in bit 62.",
    mend: "Write only what the unit's capabilities allow.",
  },
  {
    ...LEGACY, condition: "LGN.1.1", section: "3.7", request: { address: 1n << 48n },
    why: "The address needs more bits than min(CAP.MGAW, the width of AW).",
    cause: "An IOVA allocator with a limit of its own, or a device that sign-extends addresses.",
    mend: "Allocate IOVAs below 2^min(MGAW, AGAW).",
  },
  {
    ...LEGACY, condition: "LGN.1.2", section: "4.2.4", request: { hostAddress: 1n << 46n },
    why: "A translated request carries a host address; this one is above the host address width.",
    cause: "A device that makes up translated addresses, or keeps them over a reset.",
    mend: "Trust such a device less: TT=0 blocks its translated requests.",
  },
  {
    base: "legacy pass-through", condition: "LGN.1.3", section: "3.9", request: { address: 1n << 46n },
    why: "Pass-through uses the address as it is, and it is above the host address width.",
    cause: "The device was given an IOVA of another domain, or a guest address.",
    mend: "Give the device physical addresses, or a real domain.",
  },
  {
    ...LEGACY, condition: "LGN.2", section: "3.7.1", set: { "SS-PTE": { W: 0n } }, request: { write: true },
    why: "A write needs W=1 in every second-stage entry on the way.",
    cause: "The buffer was mapped for the other direction (DMA_TO_DEVICE), or the device writes where it should read.",
    mend: "Map with write permission, or find out why the device writes.",
  },
  {
    ...LEGACY, condition: "LGN.3", section: "3.7.1", set: { "SS-PTE": { R: 0n } },
    why: "A read needs R=1 in every second-stage entry on the way.",
    cause: "The address was unmapped already, was never mapped, or is mapped write-only.",
    mend: "Keep buffers mapped until the device is done with them.",
  },
  {
    ...LEGACY, condition: "LGN.4", section: "3.14", set: { "SS-PTE": { ADDR: 0xfee00n } }, request: { hostAddress: 0xfee0_0000n },
    why: "The translated address lies in the interrupt range FEE00000h to FEEFFFFFh: a device could forge interrupts through it.",
    cause: "An identity map or a guest's memory layout that covers the range.",
    mend: "Leave the range out of every map, and reserve it in IOVA space.",
  },
  {
    ...LEGACY, condition: "RTA.1.1", section: "11.4.5", ecap: { ADMS: 0n }, registers: { TTM: 3n },
    why: "RTADDR.TTM=11b is abort-DMA mode, and ECAP.ADMS=0.",
    cause: "Software of a newer generation on an older unit.",
    mend: "Check ECAP.ADMS; block devices by absent context entries where it is 0.",
  },
  {
    ...LEGACY, condition: "RTA.1.2", section: "11.4.5", registers: { TTM: 2n },
    why: "RTADDR.TTM=10b is reserved.",
    cause: "Extended mode of old revisions (ECAP.ECS), which no unit has any more.",
    mend: "Use 00b (legacy) or 01b (scalable).",
  },
  {
    base: "first stage", condition: "RTA.1.3", section: "11.4.5", ecap: { SMTS: 0n },
    why: "RTADDR.TTM=01b is scalable mode, and ECAP.SMTS=0.",
    cause: "The mode was chosen for the whole machine, and one of its units lacks it.",
    mend: "Check ECAP.SMTS of each unit.",
  },
  {
    ...LEGACY, condition: "RTA.1.4", section: "11.4.5", registers: { SSIRWE: 1n },
    why: "SSIRWE=1 has no meaning in legacy mode.",
    cause: "RTADDR kept the flag when the mode was changed.",
    mend: "Write RTADDR as a whole.",
  },
  {
    ...LEGACY, condition: "RTA.2", section: "7.1.3",
    why: "A request carries a PASID, and legacy mode has none.",
    cause: "PASID is enabled in the device, but the unit runs in legacy mode: a kernel booted with scalable mode off.",
    mend: "Turn on scalable mode, or clear the Enable bit of the device's PASID capability.",
  },
  {
    ...LEGACY, condition: "RTA.3", section: "7.1.3",
    why: "A page request came, and legacy mode has no page requests.",
    cause: "PRI is enabled in the device, but the unit runs in legacy mode.",
    mend: "Turn on scalable mode, or disable PRI in the device.",
  },
  {
    ...LEGACY, condition: "RTA.4", section: "11.4.5", registers: { TTM: 3n },
    why: "Abort-DMA mode blocks every request.",
    cause: "Firmware or an early kernel protects itself, and a device did not stop.",
    mend: "Quiesce devices before the hand-over; leave the mode when the tables are ready.",
  },
  {
    base: "first stage", condition: "RTA.5", section: "7.1.3", version: 0x80, request: { execute: true },
    why: "The request asks for execute permission (ER=1), and units of major version 8 know no such requests.",
    cause: "Execute Requested is enabled in the device's PASID capability.",
    mend: "Clear the Execute Permission Enable bit of the PASID capability.",
  },
];
