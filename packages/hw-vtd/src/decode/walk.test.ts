/** Walks whose outcome the manual's rules give, over tables made by hand: what a unit of this package can't be asked yet, and what a report says. */
import { encodeFields, PhysicalMemory, type TableSource, type WalkReport, type WalkRequest } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import { CAP, ECAP } from "../spec/capabilities.js";
import { PASID_DIRECTORY_ENTRY, PASID_TABLE_ENTRY, SCALABLE_CONTEXT_ENTRY, SCALABLE_ROOT_ENTRY } from "../spec/entries.js";
import { vtdTableDecoder } from "./decoder.js";

/** First stage of 4 levels at guest-physical 40000h and up, through a second stage of 4 levels that adds 100000h. */
const RID = 0x18;
const FS_GPA = 0x4_0000;
const HOST = 0x10_0000;
const SS_ROOT = 0x1_0000;
const SS_PAGES = SS_ROOT + 0x3000;
const PAGE_GPA = 0x8_0000;
const IOVA = 0x7f12_3456_7abcn;
const indexOf = (level: number): number => Number((IOVA >> BigInt(12 + 9 * level)) & 511n);

let memory: PhysicalMemory;
let pasidEntry: Record<string, bigint>;
let ecap: Record<string, bigint>;
let rtaddr: bigint;
const put = (pa: number, words: readonly bigint[]): void => words.forEach((word, i) => memory.writeU64(pa + i * 8, word));

/** Entry of the first-stage table at `level`, at its host address. */
const firstStage = (level: number): number => HOST + FS_GPA + (3 - level) * 0x1000 + indexOf(level) * 8;
/** Leaf of the second stage for a guest-physical address below 2 MiB. */
const secondStage = (gpa: number): number => SS_PAGES + (gpa >> 12) * 8;
const change = (pa: number, set: bigint, clear = 0n): void => put(pa, [((memory.readU64(pa) ?? 0n) | set) & ~clear]);

beforeEach(() => {
  memory = new PhysicalMemory();
  memory.addRam(0, 2 ** 21);
  rtaddr = 0x1000n | (1n << 10n);
  ecap = { C: 1n, QI: 1n, PT: 1n, SRS: 1n, EAFS: 1n, PSS: 19n, PASID: 1n, SMTS: 1n, SSADS: 1n, SSTS: 1n, FSTS: 1n, SMPWC: 1n, NEST: 1n, RPS: 1n, ADMS: 1n, SSIRWS: 1n };
  pasidEntry = { P: 1n, AW: 2n, PGTT: 3n, SSPTPTR: BigInt(SS_ROOT >> 12), DID: 9n, PWSNP: 1n, SRE: 1n, FSPTPTR: BigInt(FS_GPA >> 12) };
  put(0x1000, encodeFields(SCALABLE_ROOT_ENTRY, { LP: 1n, LCTP: 2n }));
  put(0x2000 + RID * 32, encodeFields(SCALABLE_CONTEXT_ENTRY, { P: 1n, PASIDE: 1n, PASIDDIRPTR: 3n, RID_PASID: 7n }));
  put(0x3000, encodeFields(PASID_DIRECTORY_ENTRY, { P: 1n, SMPTBLPTR: 4n }));
  for (let level = 3; level > 0; level--) put(firstStage(level), [BigInt(FS_GPA + (4 - level) * 0x1000) | 0x27n]);
  put(firstStage(0), [BigInt(PAGE_GPA) | 0x67n]);
  for (let level = 3; level > 0; level--) put(SS_ROOT + (3 - level) * 0x1000, [BigInt(SS_ROOT + (4 - level) * 0x1000) | 3n]);
  for (let gpa = 0; gpa < 2 ** 20; gpa += 4096) put(secondStage(gpa), [BigInt(HOST + gpa) | 3n]);
});

function source(registers: Record<string, bigint> = {}): TableSource {
  put(0x4000 + 7 * 64, encodeFields(PASID_TABLE_ENTRY, pasidEntry));
  put(0x4000 + 5 * 64, encodeFields(PASID_TABLE_ENTRY, pasidEntry));
  const cap = encodeFields(CAP, { ND: 6n, SAGAW: 14n, MGAW: 47n, SSLPS: 3n, FS5LP: 1n, FS1GP: 1n })[0];
  return {
    iommu: "vtd",
    registers: { RTADDR: rtaddr, CAP: cap, ECAP: encodeFields(ECAP, ecap)[0], HAW: 46n, STRICT: 1n, ...registers },
    read: (pa, target) => memory.read(pa, target),
  };
}

function walk(request: Partial<WalkRequest> = {}, registers: Record<string, bigint> = {}): WalkReport {
  return vtdTableDecoder.walk(source(registers), { rid: RID, iova: IOVA, access: "read", ...request });
}
const verdict = (request: Partial<WalkRequest> = {}): string => {
  const { verdict: end } = walk(request);
  return end.ok ? `0x${end.pa.toString(16)} ${end.permissions}` : end.code;
};
const PA = `0x${(HOST + PAGE_GPA + 0xabc).toString(16)}`;

describe("nested translation (VT-d 3.8)", () => {
  it("shows each first-stage access with its own second-stage walk: 24 reads", () => {
    const { steps, verdict: end } = walk();
    expect(end).toMatchObject({ ok: true, pa: HOST + PAGE_GPA + 0xabc, pageSize: 4096, permissions: "rw" });
    // Root, context, PASID directory, PASID entry; then four times four and one, then four.
    expect(steps.length).toBe(4 + 4 * 5 + 4);
    expect(steps.slice(4, 9).map(({ structure, depth }) => `${structure} ${depth ?? 0}`)).toEqual(["SS-PML4E 1", "SS-PDPE 1", "SS-PDE 1", "SS-PTE 1", "FS-PML4E 0"]);
    expect(steps[4].purpose).toBe(`for the FS-PML4E at guest-physical 0x${(FS_GPA + indexOf(3) * 8).toString(16)}`);
    expect(steps[8].pa).toBe(firstStage(3));
    expect(steps[8].purpose).toBe(`guest-physical 0x${(FS_GPA + indexOf(3) * 8).toString(16)}`);
    expect(steps.at(-1)?.purpose).toBe(`for the page at guest-physical 0x${(PAGE_GPA + 0xabc).toString(16)}`);
  });

  it.each<[string, () => void, Partial<WalkRequest>, string]>([
    ["FSPTPTR above min(MGAW, AW)", () => (pasidEntry.AW = 1n, pasidEntry.FSPTPTR = 1n << 27n), {}, "0x5b (SPT.4.4)"],
    ["an FS address above min(MGAW, AW)", () => (pasidEntry.AW = 1n, pasidEntry.SSPTPTR = BigInt((SS_ROOT >> 12) + 1), change(firstStage(2), 1n << 40n)), {}, "0x74 (SFS.5)"],
    ["no read of the top FS table", () => change(secondStage(FS_GPA), 0n, 1n), {}, "0x75 (SFS.6)"],
    ["no read of a lower FS table", () => change(secondStage(FS_GPA + 0x2000), 0n, 1n), {}, "0x76 (SFS.7)"],
    ["neither read nor write of an FS table", () => change(secondStage(FS_GPA + 0x2000), 0n, 3n), {}, "0x79 (SSS.2)"],
    ["SSADE: a read of an FS table needs W too", () => (pasidEntry.SSADE = 1n, flagsOfSecondStage(), change(secondStage(FS_GPA + 0x3000), 0n, 2n)), {}, "0x76 (SFS.7)"],
    ["an accessed flag to set in a table that may not be written", () => (change(firstStage(1), 0n, 0x20n), change(secondStage(FS_GPA + 0x2000), 0n, 2n)), {}, "0x77 (SFS.8)"],
    ["no flag to set in a table that may not be written", () => change(secondStage(FS_GPA + 0x2000), 0n, 2n), {}, `${PA} rw`],
    ["a dirty flag to set, walk not snooped", () => (pasidEntry.PWSNP = 0n, change(firstStage(0), 0n, 0x40n)), { access: "write" }, "0x90 (SFS.9)"],
    ["flags set already, walk not snooped", () => (pasidEntry.PWSNP = 0n), { access: "write" }, `${PA} rw`],
    ["an accessed flag of the second stage to set, walk not snooped", () => (pasidEntry.SSADE = 1n, pasidEntry.PWSNP = 0n), {}, "0x7c (SSS.5)"],
    ["a reserved bit in the second stage of an FS table", () => change(secondStage(FS_GPA + 0x1000), 1n << 62n), {}, "0x7a (SSS.3)"],
    ["no memory behind the top FS table", () => put(secondStage(FS_GPA), [0x3fff_f000n | 3n]), {}, "0x73 (SFS.4)"],
    ["no memory behind a lower FS table", () => put(secondStage(FS_GPA + 0x1000), [0x3fff_f000n | 3n]), {}, "0x70 (SFS.1)"],
    ["no memory behind a lower SS table", () => put(SS_ROOT + 0x2000, [0x3fff_f000n | 3n]), {}, "0x78 (SSS.1)"],
    ["a read-only page in the second stage", () => change(secondStage(PAGE_GPA), 0n, 2n), { access: "write" }, "0x85 (SGN.6)"],
    ["a write-only page in the second stage", () => change(secondStage(PAGE_GPA), 0n, 1n), {}, "0x86 (SGN.7)"],
    ["a read-only page in the first stage", () => change(firstStage(0), 0n, 2n), { access: "write" }, "0x85 (SGN.6)"],
    ["a read-only page in the first stage, atomic", () => change(firstStage(0), 0n, 2n), { access: "atomic" }, "0x85 (SGN.6)"],
    ["rights of both stages", () => change(secondStage(PAGE_GPA), 0n, 2n), {}, `${PA} r`],
    ["a page that ends in the interrupt range", () => put(secondStage(PAGE_GPA), [0xfee0_0003n]), {}, "0x87 (SGN.8.1)"],
    ["a unit without nesting", () => (ecap.NEST = 0n), {}, "0x5b (SPT.4.2)"],
    ["an address that is not canonical", () => {}, { iova: 0x8000_0000_0000n }, "0x80 (SGN.1)"],
  ])("%s: %s", (_what, prepare, request, expected) => {
    prepare();
    expect(verdict(request)).toBe(expected);
  });

  it("shows no entry twice when a flag must be set", () => {
    change(firstStage(1), 0n, 0x20n);
    expect(walk().steps.length).toBe(4 + 4 * 5 + 4);
  });

  it("has pages of the smaller size", () => {
    put(firstStage(1), [0xe7n]); // a 2 MiB page at guest-physical 0
    expect(walk({ iova: IOVA >> 21n << 21n }).verdict).toMatchObject({ ok: true, pa: HOST, pageSize: 4096 });
  });

  it("takes a first stage of 5 levels on a second stage of 4", () => {
    pasidEntry.FSPM = 1n;
    pasidEntry.FSPTPTR = BigInt((FS_GPA >> 12) + 5);
    put(HOST + FS_GPA + 0x5000, [BigInt(FS_GPA) | 0x27n]);
    expect(verdict()).toBe(`${PA} rw`);
    expect(walk().steps.length).toBe(4 + 5 * 5 + 4);
    expect(verdict({ iova: IOVA | (1n << 57n) })).toBe("0x80 (SGN.1)");
  });

  it("dumps first-stage leaves in the pieces that the second stage makes of them", () => {
    put(firstStage(1), [0xe7n]); // a 2 MiB page at guest-physical 0
    const [space] = vtdTableDecoder.dump(source());
    expect(space).toMatchObject({ type: "nested", ids: { domain: 9, RID_PASID: 7 } });
    const leaves = [...space.leaves()];
    expect(leaves.length).toBe(256);
    expect(leaves[3]).toMatchObject({ pa: HOST + 0x3000, size: 4096, permissions: "rw", iova: (IOVA >> 21n << 21n) + 0x3000n });
    expect(space.problem).toContain("page at guest-physical 0x100000 is not reached, reason 0x79 (SSS.2)");
  });
});

function flagsOfSecondStage(): void {
  for (let level = 3; level > 0; level--) change(SS_ROOT + (3 - level) * 0x1000, 0x100n);
  for (let gpa = 0; gpa < 2 ** 20; gpa += 4096) change(secondStage(gpa), 0x300n);
}

describe("requests and modes", () => {
  it.each<[string, () => void, Partial<WalkRequest>, string]>([
    ["a PASID that equals RID_PASID", () => {}, { pasid: 7 }, "0x48 (SCT.9)"],
    ["a PASID with an entry", () => {}, { pasid: 5 }, `${PA} rw`],
    ["a PASID without an entry", () => {}, { pasid: 6 }, "0x59 (SPT.2)"],
    ["an execute request with PASID", () => {}, { pasid: 5, execute: true }, "0x5c (SPT.5)"],
    ["an execute request without PASID is a read", () => {}, { execute: true }, `${PA} rw`],
    ["a privileged request, SRE=0", () => (pasidEntry.SRE = 0n), { pasid: 5, privileged: true }, "0x5d (SPT.6)"],
    ["privilege without PASID comes from RID_PRIV", () => (pasidEntry.SRE = 0n), { privileged: true }, `${PA} rw`],
    ["a user request to a privileged page", () => change(firstStage(0), 0n, 4n), { pasid: 5 }, "0x81 (SGN.2)"],
    ["a privileged request to a privileged page", () => change(firstStage(0), 0n, 4n), { pasid: 5, privileged: true }, `${PA} rw`],
    ["a privileged write of a read-only page, WPE=0", () => change(firstStage(0), 0n, 2n), { pasid: 5, privileged: true, access: "write" }, `${PA} rw`],
    ["a privileged write of a read-only page, WPE=1", () => (pasidEntry.WPE = 1n, change(firstStage(0), 0n, 2n)), { pasid: 5, privileged: true, access: "write" }, "0x85 (SGN.6)"],
    ["an extended accessed flag to set, walk not snooped", () => (pasidEntry.EAFE = 1n, pasidEntry.PWSNP = 0n), {}, "0x90 (SFS.9)"],
    ["an extended accessed flag to set, walk snooped", () => (pasidEntry.EAFE = 1n), {}, `${PA} rw`],
    ["SSIRWE: the rights are IR and IW", () => (rtaddr |= 0x80n), {}, "0x79 (SSS.2)"],
    ["abort-DMA mode", () => (rtaddr |= 0xc00n), {}, "0x33 (RTA.4)"],
    ["abort-DMA mode on a unit without it", () => (rtaddr |= 0xc00n, (ecap.ADMS = 0n)), {}, "0x30 (RTA.1.1)"],
    ["SSIRWE in legacy mode", () => (rtaddr = 0x1080n), {}, "0x30 (RTA.1.4)"],
    ["a read of the interrupt range", () => {}, { iova: 0xfee0_0000n }, "0x29 (IRR.29)"],
    ["a write of the interrupt range", () => {}, { iova: 0xfee0_0000n, access: "write" }, "0xfee00000 w"],
    ["a write of the interrupt range with PASID is DMA", () => {}, { iova: 0xfee0_0000n, access: "write", pasid: 5 }, "0x71 (SFS.2)"],
  ])("%s", (_what, prepare, request, expected) => {
    prepare();
    expect(verdict(request)).toBe(expected);
  });

  it("with SSIRWE bits 1:0 say nothing, and bit 62 is no longer reserved", () => {
    rtaddr |= 0x80n;
    pasidEntry.PGTT = 2n;
    const rights = 3n << 61n;
    for (let level = 3; level > 0; level--) change(SS_ROOT + (3 - level) * 0x1000, rights, 3n);
    change(secondStage(PAGE_GPA), rights, 3n);
    expect(verdict({ iova: BigInt(PAGE_GPA), access: "atomic" })).toBe(`0x${(HOST + PAGE_GPA).toString(16)} rw`);
    rtaddr &= ~0x80n;
    expect(verdict({ iova: BigInt(PAGE_GPA) })).toBe("0x79 (SSS.2)");
  });

  it("says when FPD keeps a fault out of the records, and only where it does", () => {
    put(0x2000 + RID * 32, encodeFields(SCALABLE_CONTEXT_ENTRY, { P: 1n, FPD: 1n, PASIDDIRPTR: 3n, RID_PASID: 7n }));
    pasidEntry.PGTT = 0n;
    expect(walk().verdict).toMatchObject({ ok: false, code: "0x5b (SPT.4.2)", note: expect.stringContaining("FPD is set in the scalable-mode context entry") as string });
    put(0x3000, encodeFields(PASID_DIRECTORY_ENTRY, { P: 1n, SMPTBLPTR: 0x3_0000n }));
    // The PASID entry can't be read: 58h is recorded whatever FPD says.
    expect(walk().verdict).toEqual({ ok: false, code: "0x58 (SPT.1)", section: "VT-d 7.1", reason: "the PASID table entry could not be read" });
  });

  it("notes what only a strict unit refuses", () => {
    Object.assign(ecap, { SSTS: 0n, SSADS: 0n, NEST: 0n, SMPWC: 0n, EAFS: 0n });
    pasidEntry = { P: 1n, AW: 2n, PGTT: 1n, DID: 9n, FSPTPTR: BigInt((HOST + FS_GPA) >> 12) };
    for (let level = 3; level > 0; level--) put(firstStage(level), [BigInt(HOST + FS_GPA + (4 - level) * 0x1000) | 7n]);
    expect(verdict()).toBe("0x5a (SPT.3)");
    const lenient = walk({}, { STRICT: 0n }).verdict;
    expect(lenient).toMatchObject({ ok: true, pa: PAGE_GPA + 0xabc });
    expect(lenient.note).toMatch(/AW is reserved while ECAP.SSTS=0.*an accessed or dirty flag must be set, but the walk is not snooped/);
  });

  it("names each bit that this unit calls reserved, with the reason", () => {
    Object.assign(ecap, { SRS: 0n });
    const { steps, verdict: end } = walk();
    expect(end).toMatchObject({ ok: false, code: "0x5a (SPT.3)" });
    expect(steps.at(-1)?.fields.find((field) => field.name === "SRE")?.violation).toBe("VT-d 9.6: bit 128 must be 0: ECAP.SRS=0");
  });

  it("says in a line what holds for every requester", () => {
    expect(vtdTableDecoder.summary?.(source())).toEqual(["scalable mode, root table at 0x1000"]);
    rtaddr |= 0xc00n;
    expect(vtdTableDecoder.summary?.(source())).toEqual(["abort-DMA mode: every request is blocked with reason 0x33 (RTA.4)"]);
    expect([...vtdTableDecoder.dump(source())]).toEqual([]);
  });
});
