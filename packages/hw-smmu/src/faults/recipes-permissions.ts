/** F_PERMISSION (SMMU 7.3.16; Arm DDI0487 D8.4): one row a reason. */
import { Event } from "../spec/events.js";
import type { Recipe, Setting, Values } from "./recipe.js";
import { AT_STAGE1, ofCd, ofInput, ofTable, STAGE1_STALLS, STALLED } from "./recipes-walks.js";

const permission = (record: Values): Recipe["expect"] => ({ event: Event.F_PERMISSION, record });
const WRITE: Setting = { request: { access: "write" } };
const FETCH: Setting = { request: { access: "execute" } };
const PRIVILEGED: Setting = { request: { privileged: true } };
const PRIVILEGED_FETCH: Setting = { request: { access: "execute", privileged: true } };
const BASE = { section: "7.3.16", kinds: ["untranslated"] } as const;
/** A translation request gets the rights that there are, which is no fault; none where the unit's own fetches lack theirs (3.9.1.2). */
const WITH_ATS = { kinds: ["untranslated", "translation"] } as const;
const STAGE1 = { ...BASE, scene: "stage 1", expect: permission(AT_STAGE1) } as const;
const STAGE2 = { ...BASE, scene: "stage 2", expect: permission(ofInput) } as const;
const NESTED = { ...BASE, scene: "nested" } as const;
const READ_ONLY = 3n;
const PRIVILEGED_ONLY = 0n;

const DIRECTION = "The buffer was mapped for the other direction, is copy-on-write, or the device writes where it should read.";
const MAP_WRITE = "Map with write permission, or find out why the device writes.";
const KERNEL_PAGE = "A kernel's page was given to a device whose requests are unprivileged, as those of most devices are.";
const MAP_USER = "Map with AP[1]=1, or make the stream privileged with PRIVCFG.";
const DATA_PAGE = "The device fetches code or commands as instructions from a buffer that was mapped for data.";
const MAP_CODE = "Clear UXN and PXN where the device may fetch, or make its reads data with INSTCFG=10.";
const PROTECTED = "The hypervisor write-protects or hides guest memory that holds the guest's tables.";
const KEEP_READABLE = "Keep guest tables readable in stage 2, and writable where stage 1 sets flags.";

export const PERMISSION_RECIPES: readonly Recipe[] = [
  {
    ...STAGE1, ...WITH_ATS, name: "F_PERMISSION", text: "a write to a page that is read-only at stage 1", given: WRITE, change: { set: { "S1 level 3": { AP: READ_ONLY } } }, expect: { ...permission(AT_STAGE1), reads: true },
    why: "AP[2]=1 takes the right to write, and no dirty-state update (DBM with CD.HD) gives it.", cause: DIRECTION, mend: MAP_WRITE,
  },
  {
    ...STAGE1, ...WITH_ATS, name: "F_PERMISSION:AP1", text: "an unprivileged access to a page for privileged ones", change: { set: { "S1 level 3": { AP: PRIVILEGED_ONLY } } },
    why: "AP[1]=0: unprivileged requests may neither read nor write.", cause: KERNEL_PAGE, mend: MAP_USER,
  },
  {
    ...STAGE1, name: "F_PERMISSION:UXN", text: "an instruction fetch from a page without unprivileged execution", given: FETCH, change: { set: { "S1 level 3": { UXN: 1n } } },
    why: "UXN=1, and the request is an unprivileged fetch: InD=1.", cause: DATA_PAGE, mend: MAP_CODE,
  },
  {
    ...STAGE1, name: "F_PERMISSION:PXN", text: "a privileged instruction fetch from a page without privileged execution",
    given: { ...PRIVILEGED_FETCH, set: { "S1 level 3": { AP: READ_ONLY } } }, change: { set: { "S1 level 3": { PXN: 1n } } },
    why: "PXN=1, and the request is a privileged fetch: PnU=1, InD=1.", cause: DATA_PAGE, mend: MAP_CODE,
  },
  {
    ...STAGE1, name: "F_PERMISSION:user-writable", text: "a privileged instruction fetch from a page that the unprivileged may write",
    given: { ...PRIVILEGED_FETCH, set: { "S1 level 3": { AP: READ_ONLY } } }, change: { set: { "S1 level 3": { AP: 1n } } },
    why: "What is writable without privilege is never executable with it, whatever PXN says.", cause: DATA_PAGE, mend: "Map code read-only.",
  },
  {
    ...STAGE1, name: "F_PERMISSION:WXN", text: "an instruction fetch from a writable page with WXN", given: FETCH, change: { set: { CD: { WXN: 1n } } },
    why: "CD.WXN=1: what is writable is not executable.", cause: "WXN was copied from a processor's SCTLR.", mend: "Map code read-only, or clear WXN.",
  },
  {
    ...STAGE1, name: "F_PERMISSION:PAN", text: "a privileged access to a page of the unprivileged with PAN", given: PRIVILEGED, change: { set: { CD: { PAN: 1n } } },
    why: "CD.PAN=1: privileged data accesses to pages that the unprivileged may use are refused.", cause: "PAN was set for a stream that does DMA to a process's memory with privilege.",
    mend: "Clear PAN, or make the stream unprivileged.",
  },
  {
    ...STAGE1, name: "F_PERMISSION:EPAN", text: "a privileged access to a page that the unprivileged may only execute, with EPAN",
    given: { ...PRIVILEGED, unit: { minor: 4, idr3: { EPAN: 1n, MTEPERM: 1n } }, set: { CD: { PAN: 1n }, "S1 level 3": { AP: PRIVILEGED_ONLY } } }, change: { set: { CD: { EPAN: 1n } } },
    why: "With CD.EPAN the right to execute is a right of the unprivileged too.", cause: "UXN was left clear in kernel mappings.", mend: "Set UXN where the unprivileged have no business.",
  },
  {
    ...STAGE1, ...WITH_ATS, name: "F_PERMISSION:APTable", text: "a write below a table that takes the right to write", given: WRITE, change: { set: { "S1 level 1": { APTable: 2n } } }, expect: { ...permission(AT_STAGE1), reads: true },
    why: "APTable[1]=1 holds for everything below. It is told at the leaf: a missing descriptor below would be F_TRANSLATION.", cause: "A table was made read-only for one mapping, and another one shares it.",
    mend: "Keep rights in leaves, or set HAD to ignore the tables'.",
  },
  {
    ...STAGE1, name: "F_PERMISSION:UXNTable", text: "an instruction fetch below a table without execution", given: FETCH, change: { set: { "S1 level 2": { UXNTable: 1n } } },
    why: "UXNTable=1 holds for everything below.", cause: DATA_PAGE, mend: MAP_CODE,
  },
  {
    ...STAGE1, name: "F_PERMISSION:PRIVCFG", text: "a privileged access that the STE makes unprivileged", given: { ...PRIVILEGED, set: { "S1 level 3": { AP: PRIVILEGED_ONLY } } },
    change: { set: { STE: { PRIVCFG: 2n } } }, expect: permission({ ...AT_STAGE1, PnU: 0n }),
    why: "PRIVCFG=10 takes the privilege away, and the record says what was checked: PnU=0.", cause: "A hypervisor does not trust the device's claim.", mend: MAP_USER,
  },
  {
    ...STAGE1, name: "F_PERMISSION:INSTCFG", text: "a read that the STE makes an instruction fetch", given: { set: { "S1 level 3": { UXN: 1n } } }, change: { set: { STE: { INSTCFG: 3n } } },
    expect: permission({ ...AT_STAGE1, InD: 1n }),
    why: "INSTCFG=11 makes every read a fetch, and the record says what was checked: InD=1. Writes stay data.", cause: "INSTCFG was set for a device that also reads data.", mend: MAP_CODE,
  },
  {
    ...STAGE1, name: "F_PERMISSION:atomic", text: "an atomic access to a page that is read-only at stage 1", given: { request: { access: "atomic" } }, change: { set: { "S1 level 3": { AP: READ_ONLY } } },
    why: "An atomic access needs both rights, and writing is looked at first: RnW=0.", cause: DIRECTION, mend: MAP_WRITE,
  },
  {
    ...STAGE2, name: "F_PERMISSION:atomic-read", text: "an atomic access to a page that is write-only at stage 2", section: "13.1.1", given: { request: { access: "atomic" } }, change: { set: { "S2 of the page": { S2AP: 2n } } },
    expect: permission({ ...ofInput, RnW: 1n }), why: "The right to read alone is missing: RnW=1, from SMMUv3.1 on.", cause: "Guest memory was mapped write-only.", mend: "Map with read permission.",
  },
  {
    ...STAGE2, ...WITH_ATS, name: "F_PERMISSION:stage2", text: "a write to a page that is read-only at stage 2", given: WRITE, change: { set: { "S2 of the page": { S2AP: 1n } } }, expect: { ...permission(ofInput), reads: true },
    why: "S2AP[1]=0 takes the right to write.", cause: "The hypervisor write-protects guest memory: migration, shared pages, ROM.", mend: "Track dirty pages with S2HD instead, or stop the device first.",
  },
  {
    ...STAGE2, ...WITH_ATS, name: "F_PERMISSION:stage2-read", text: "a read of a page that is write-only at stage 2", change: { set: { "S2 of the page": { S2AP: 2n } } },
    why: "S2AP[0]=0 takes the right to read.", cause: "The page is mapped write-only.", mend: "Map with read permission.",
  },
  {
    ...STAGE2, name: "F_PERMISSION:stage2-XN", text: "an instruction fetch from a page without execution at stage 2", given: FETCH, change: { set: { "S2 of the page": { XN: 2n } } },
    why: "XN=10: no execution. The right to read does not matter.", cause: DATA_PAGE, mend: "Clear XN where the device may fetch.",
  },
  {
    ...STAGE2, name: "F_PERMISSION:stage2-XNX", text: "a privileged instruction fetch from a page for unprivileged execution at stage 2", given: PRIVILEGED_FETCH, change: { set: { "S2 of the page": { XN: 1n } } },
    why: "XN=01 lets the unprivileged execute only (IDR3.XNX).", cause: DATA_PAGE, mend: "XN=00 where both may fetch, 11 for the privileged.",
  },
  {
    ...NESTED, ...WITH_ATS, name: "F_PERMISSION:CD", text: "stage 2 lets nobody read the context descriptor", change: { set: { "S2 of the CD": { S2AP: 2n } } }, expect: permission(ofCd),
    why: "The fetch of the CD is a read at stage 2, whatever the access is: CLASS=CD.", cause: PROTECTED, mend: KEEP_READABLE,
  },
  {
    ...NESTED, ...WITH_ATS, name: "F_PERMISSION:TT", text: "stage 2 lets nobody read a stage-1 table", given: WRITE, change: { set: { "S2 of the S1 level 2": { S2AP: 2n } } }, expect: permission({ ...ofTable(2), TTRnW: 1n }),
    why: "The fetch of a descriptor is a read at stage 2: CLASS=TT, TTRnW=1, though the access itself is a write (RnW=0).", cause: PROTECTED, mend: KEEP_READABLE,
  },
  {
    ...NESTED, ...WITH_ATS, name: "F_PERMISSION:TT-write", text: "a flag must be set in a stage-1 table that stage 2 protects", section: "3.13", given: { set: { CD: { HA: 1n }, "S1 level 3": { AF: 0n } } },
    change: { set: { "S2 of the S1 level 3": { S2AP: 1n } } }, expect: permission({ ...ofTable(3), TTRnW: 0n }),
    why: "CD.HA=1 sets AF of the page, which is a write to the table at stage 2: CLASS=TT, TTRnW=0, though the access is a read (RnW=1).", cause: PROTECTED, mend: KEEP_READABLE,
  },
  {
    ...NESTED, ...WITH_ATS, name: "F_PERMISSION:TT-dirty", text: "a page must be marked dirty in a stage-1 table that stage 2 protects", section: "3.13",
    given: { ...WRITE, set: { CD: { HA: 1n, HD: 1n }, "S1 level 3": { AP: READ_ONLY, DBM: 1n } } }, change: { set: { "S2 of the S1 level 3": { S2AP: 1n } } },
    expect: permission({ ...ofTable(3), TTRnW: 0n }),
    why: "The page is writable-clean (DBM with CD.HD), so that the write clears AP[2] in the table: a write at stage 2, CLASS=TT, TTRnW=0.", cause: PROTECTED, mend: KEEP_READABLE,
  },
  {
    ...NESTED, ...WITH_ATS, name: "F_PERMISSION:S2PTW", text: "a stage-1 table in Device memory with S2PTW", section: "5.2", given: { set: { STE: { S2PTW: 1n } } }, change: { set: { "S2 of the S1 level 0": { MemAttr: 1n } } },
    expect: permission({ ...ofTable(0), TTRnW: 1n }), why: "S2PTW=1 protects devices' registers from being read by table walks.", cause: "A guest's table pointer leads into a passed-through device's registers.",
    mend: "It is the guest's own mistake.",
  },
  {
    ...NESTED, ...WITH_ATS, name: "F_PERMISSION:S2PTW-CD", text: "a context descriptor in Device memory with S2PTW", section: "5.2", given: { set: { STE: { S2PTW: 1n } } }, change: { set: { "S2 of the CD": { MemAttr: 1n } } },
    expect: permission(ofCd), why: "S2PTW=1 holds for the fetch of CDs too.", cause: "A guest's table pointer leads into a passed-through device's registers.", mend: "It is the guest's own mistake.",
  },
  {
    ...NESTED, ...WITH_ATS, name: "F_PERMISSION:nested", text: "a write that stage 1 allows and stage 2 does not", given: WRITE, change: { set: { "S2 of the page": { S2AP: 1n } } }, expect: { ...permission(ofInput), reads: true },
    why: "Both stages must grant the access: S2=1, CLASS=IN.", cause: "The hypervisor write-protects guest memory: migration, shared pages, ROM.", mend: "Track dirty pages with S2HD instead, or stop the device first.",
  },
  {
    ...STAGE1, name: "F_PERMISSION:stall", text: "a write to a read-only page, and the transaction waits", section: "3.12", given: { ...WRITE, ...STAGE1_STALLS }, change: { set: { "S1 level 3": { AP: READ_ONLY } } },
    expect: permission({ ...AT_STAGE1, ...STALLED }), why: "CD.S=1: the transaction waits for software, as a write to a copy-on-write page does.", cause: DIRECTION,
    mend: "Make the page writable, TLBI, CMD_SYNC, then CMD_RESUME.",
  },
];
