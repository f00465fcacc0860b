/** First stage, second stage, nested, pass-through and host permissions (VT-d tables 28, 29). */
import type { Recipe } from "./recipe.js";
import { HOLE, TARGET } from "./scene.js";

const FIRST = { base: "first stage" as const };
const SECOND = { base: "second stage" as const };
const NESTED = { base: "nested" as const };

export const STAGE_RECIPES: readonly Recipe[] = [
  {
    ...FIRST, condition: "SFS.1", section: "3.6", set: { "FS-PML4E": { ADDR: HOLE } },
    why: "A first-stage entry below the top table could not be read: its table lies where no memory answers.",
    cause: "A table page was freed without an invalidation, or an entry is corrupt.",
    mend: "Invalidate (P_IOTLB with IH=0) before table pages are freed.",
  },
  {
    ...FIRST, condition: "SFS.2", section: "9.7", set: { "FS-PTE": { P: 0n } },
    why: "A first-stage entry has P=0.",
    cause: "The buffer was unmapped already, or never mapped; or the process's page is swapped out and the device uses no ATS.",
    mend: "Keep buffers mapped, and pinned unless the device can do page requests.",
  },
  {
    ...FIRST, condition: "SFS.3", section: "9.7", bits: { "FS-PML4E": [7] },
    why: "A reserved bit is set in a present first-stage entry: PS in a PML4E, address bits above the host address width, low address bits of a large page.",
    cause: "A 1 GiB page on a unit without CAP.FS1GP; encryption bits in addresses; corruption.",
    mend: "Use page sizes that CAP has, and addresses below 2^HAW.",
  },
  {
    ...FIRST, condition: "SFS.4", section: "3.6", set: { "PASID entry": { FSPTPTR: HOLE } },
    why: "The top first-stage table lies where no memory answers.",
    cause: "The process's page table was freed before its PASID was detached.",
    mend: "Clear P of the PASID entry and invalidate before the tables go.",
  },
  {
    ...NESTED, condition: "SFS.5", section: "3.8", cap: { MGAW: 39n }, set: { "FS-PML4E": { ADDR: (1n << 40n) >> 12n } },
    why: "In nested translation every address of a first-stage entry is guest-physical, and this one does not fit min(MGAW, AW).",
    cause: "A guest's page table points beyond guest memory.",
    mend: "It is the guest's own mistake: report it to the guest.",
  },
  {
    ...NESTED, condition: "SFS.6", section: "3.8.1", set: { "SS-PTE of the FS-PML4E": { R: 0n } },
    why: "The second stage gives no read permission for the page of the top first-stage table.",
    cause: "The hypervisor maps the guest page write-only.",
    mend: "Map guest memory readable in the second stage.",
  },
  {
    ...NESTED, condition: "SFS.7", section: "3.8.1", set: { "SS-PTE of the FS-PDPE": { R: 0n } },
    why: "The second stage gives no read permission for the page of a lower first-stage table.",
    cause: "The hypervisor maps the guest page write-only.",
    mend: "Map guest memory readable in the second stage.",
  },
  {
    ...NESTED, condition: "SFS.8", section: "3.8.1", set: { "SS-PTE of the FS-PTE": { W: 0n }, "FS-PTE": { A: 0n } },
    why: "The accessed flag of a first-stage entry must be set, and the second stage gives no write permission for its page.",
    cause: "The hypervisor write-protects guest memory (migration, shared pages) that holds the guest's page tables.",
    mend: "Keep guest page tables writable in the second stage, or let the guest set A and D beforehand.",
  },
  {
    ...FIRST, condition: "SFS.9", section: "3.10.1", set: { "PASID entry": { PWSNP: 0n }, "FS-PTE": { A: 0n } },
    why: "A flag must be set atomically, and the walk is not snooped (PWSNP=0).",
    cause: "A process's page tables are shared with a device, and PWSNP was not set.",
    mend: "Set PWSNP (with ECAP.SMPWC) for first-stage tables.",
  },
  {
    ...FIRST, condition: "SFS.10", section: "3.10.1", set: { "FS-PTE": { A: 0n } }, readOnly: "FS-PTE",
    why: "A flag must be set, and memory refused the atomic update.",
    cause: "Page tables in memory that takes no atomic writes: device memory, read-only memory, a poisoned line.",
    mend: "Keep page tables in ordinary memory.",
  },
  {
    ...SECOND, condition: "SSS.1", section: "3.7", set: { "SS-PML4E": { ADDR: HOLE } },
    why: "A second-stage entry below the top table could not be read: its table lies where no memory answers.",
    cause: "A table page was freed without an invalidation, or an entry is corrupt.",
    mend: "Invalidate (with IH=0) before table pages are freed.",
  },
  {
    ...SECOND, condition: "SSS.2", section: "9.8", set: { "SS-PTE": { R: 0n, W: 0n } },
    why: "A second-stage entry grants neither read nor write: nothing is mapped there.",
    cause: "The buffer was unmapped already, or never mapped; a guest does DMA outside its memory.",
    mend: "Keep buffers mapped until the device is done; map guest memory before its devices run.",
  },
  {
    ...SECOND, condition: "SSS.3", section: "9.8", bits: { "SS-PDE": [11] },
    why: "A second-stage entry that grants something has a reserved bit: SNP in an entry that points to a table.",
    cause: "An unsupported page size (CAP.SSLPS), SNP without ECAP.SC, an address above the host address width, bit 62 without SSIRWE.",
    mend: "Write only what the unit's capabilities allow.",
  },
  {
    ...SECOND, condition: "SSS.4", section: "3.7", set: { "PASID entry": { SSPTPTR: HOLE } },
    why: "The top second-stage table lies where no memory answers.",
    cause: "The table was freed while the PASID entry still pointed to it.",
    mend: "Clear P of the PASID entry and invalidate before the tables go.",
  },
  {
    ...SECOND, condition: "SSS.5", section: "3.10.2", set: { "PASID entry": { SSADE: 1n, PWSNP: 0n }, "SS-PTE": { A: 0n } },
    why: "A second-stage flag must be set (SSADE=1), and the walk is not snooped (PWSNP=0).",
    cause: "Dirty tracking was switched on without PWSNP.",
    mend: "Set PWSNP together with SSADE.",
  },
  {
    ...SECOND, condition: "SSS.6", section: "3.10.2", set: { "PASID entry": { SSADE: 1n }, "SS-PTE": { A: 0n } }, readOnly: "SS-PTE",
    why: "A second-stage flag must be set, and memory refused the atomic update.",
    cause: "Page tables in memory that takes no atomic writes.",
    mend: "Keep page tables in ordinary memory.",
  },
  {
    ...FIRST, condition: "SGN.1", section: "3.6.1", request: { address: 1n << 47n },
    why: "Bits 63:47 of the address (63:56 with 5 levels) are not all equal.",
    cause: "A tagged pointer, a truncated address, or a kernel address that lost its upper bits.",
    mend: "Give the device plain addresses.",
  },
  {
    ...FIRST, condition: "SGN.2", section: "3.6.1", set: { "FS-PTE": { "U/S": 0n } },
    why: "A user request met an entry with U/S=0.",
    cause: "A kernel page was given to a device that works for a process, or a kernel PASID to a device without Privileged Mode.",
    mend: "Map with U/S=1, or let the device make privileged requests (PR, RID_PRIV) with SRE=1.",
  },
  {
    ...FIRST, condition: "SGN.4.1", section: "4.2.4", request: { hostAddress: 1n << 46n },
    why: "A translated request carries a host address; this one is above the host address width.",
    cause: "A device that makes up translated addresses, or keeps them over a reset.",
    mend: "Trust such a device less: DTE=0, or host permission tables.",
  },
  {
    base: "pass-through", condition: "SGN.4.2", section: "3.9", request: { address: 1n << 46n },
    why: "Pass-through uses the address as it is, and it is above the host address width.",
    cause: "The device was given an IOVA of another domain, or a guest address.",
    mend: "Give the device physical addresses, or a real domain.",
  },
  {
    ...SECOND, condition: "SGN.5", section: "3.7", request: { address: 1n << 48n },
    why: "The address needs more bits than min(CAP.MGAW, the width of AW).",
    cause: "An IOVA allocator with a limit of its own, or a device that sign-extends addresses.",
    mend: "Allocate IOVAs below 2^min(MGAW, AGAW).",
  },
  {
    ...FIRST, condition: "SGN.6", section: "3.6.1", set: { "FS-PTE": { "R/W": 0n } }, request: { write: true },
    why: "A write needs R/W=1 in every first-stage entry on the way (a privileged one only with WPE=1), and W=1 in the second stage.",
    cause: "The buffer was mapped for the other direction, is copy-on-write, or the device writes where it should read.",
    mend: "Map with write permission, or find out why the device writes.",
  },
  {
    ...SECOND, condition: "SGN.7", section: "3.7.1", set: { "SS-PTE": { R: 0n } },
    why: "A read needs R=1 in every second-stage entry on the way.",
    cause: "The page is mapped write-only.",
    mend: "Map with read permission.",
  },
  {
    ...SECOND, condition: "SGN.8.1", section: "3.14", set: { "SS-PTE": { ADDR: 0xfee00n } },
    why: "The translated address lies in the interrupt range FEE00000h to FEEFFFFFh: a device could forge interrupts through it.",
    cause: "An identity map or a guest's memory layout that covers the range.",
    mend: "Leave the range out of every map, and reserve it in IOVA space.",
  },
  {
    ...SECOND, condition: "SGN.8.2", section: "3.14", set: { "SS-PTE": { ADDR: 0xfee00n } },
    why: "The page that a translation request asks for reaches into the interrupt range.",
    cause: "A large page that covers FEE00000h.",
    mend: "Leave the range out of every map; split the large page around it.",
  },
  {
    ...FIRST, condition: "SGN.8.3", section: "3.14", request: { hostAddress: 0xfee0_0000n },
    why: "A translated request goes into the interrupt range: the device would forge an interrupt.",
    cause: "A device that makes up translated addresses.",
    mend: "Devices send messages untranslated; trust this one less.",
  },
  {
    ...FIRST, condition: "HPT.1", section: "3.11", set: { "HPT-L4": { ADDR: HOLE } },
    why: "A host permission table below the top one lies where no memory answers.",
    cause: "A table page was freed without an invalidation.",
    mend: "Invalidate (HPT descriptor, IH=3) before table pages are freed.",
  },
  {
    ...FIRST, condition: "HPT.2", section: "3.11", bits: { "HPT-L1": [2] },
    why: "A reserved bit is set in a host permission entry: the upper two of each permission's four bits.",
    cause: "Permissions written as four bits of their own.",
    mend: "Write R and W only.",
  },
  {
    ...FIRST, condition: "HPT.3", section: "3.11", set: { "PASID entry": { HPTPTR: HOLE } },
    why: "The top host permission table lies where no memory answers.",
    cause: "The table was freed while the PASID entry still pointed to it.",
    mend: "Clear HPTE and invalidate before the table is freed.",
  },
  {
    ...FIRST, condition: "HPT.4", section: "3.11", set: { "HPT-L1": { PP0_7: 0n } }, request: { hostAddress: BigInt(TARGET), zeroLength: true },
    why: "A zero-length read met a page without any host permission.",
    cause: "The device kept a translation over an unmap.",
    mend: "Invalidate device-TLBs on unmap; give a permission where the device may go.",
  },
  {
    ...FIRST, condition: "HPT.5", section: "3.11", set: { "HPT-L1": { PP0_7: 1n } }, request: { hostAddress: BigInt(TARGET), write: true },
    why: "The host permission of the page has no W.",
    cause: "The device kept a writable translation over a write protection, or forged one.",
    mend: "Invalidate device-TLBs when permissions shrink.",
  },
  {
    ...FIRST, condition: "HPT.6", section: "3.11", set: { "HPT-L1": { PP0_7: 2n } }, request: { hostAddress: BigInt(TARGET) },
    why: "The host permission of the page has no R.",
    cause: "The device kept a translation over an unmap, or forged one.",
    mend: "Invalidate device-TLBs on unmap.",
  },
];
