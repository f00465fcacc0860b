/**
 * The corner cases of VT-d that a toy misses, numbered, with the tests that hold each: an index that is checked, and the tests
 * that fit nowhere else.
 */
import { readFileSync } from "node:fs";
import { Bus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { DescriptorType, P_IOTLB_DESCRIPTOR, PC_DESCRIPTOR } from "../spec/descriptors.js";
import { PAGE, TranslationBench } from "./translation.test-support.js";
import { AT, RID } from "./unit.test-support.js";

const CACHES = "corner-cases-caches";
const REQUESTS = "corner-cases-requests";
const STAGES = "corner-cases-stages";
const STRUCTURES = "corner-cases-structures";

type Row = readonly [number: number, what: string, section: string, file: string, ...tests: string[]];

const INDEX: readonly Row[] = [
  [1, "RTADDR is latent until SRTP", "6.6, 11.4.5", "registers", "corner 1: RTADDR"],
  [2, "one-shots of GCMD fire again when they are written back; WBFS", "11.4.4", "registers", "corner 2: one-shots"],
  [3, "SRTP without ESRTPS keeps stale entries; TE off flushes scalable-mode units", "6.6, 11.4.4.1", "registers", "corner 3: SRTP", "corner 3: turning"],
  [4, "a bad mode fails DMA and queue, not SRTP", "7.1.3, 6.5.2.10", "registers", "corner 4: mode"],
  [5, "CCMD and IOTLB fire on the top byte; refusals", "6.5.1", "registers", "corner 5: fires", "corner 5: is refused", "corner 5: does a page"],
  [6, "unqualified faults behind FPD=1, qualified ones of absent entries", "7.2.1", "fault-recorder", "corner 6: an FPD", "corner 6: faults"],
  [7, "FPD of the PASID entry", "9.6", STRUCTURES, "FPD of the PASID entry keeps"],
  [8, "half of a root entry present", "9.2", STRUCTURES, "one half of a root entry"],
  [9, "devfn 80h, 14 and 6 bits of PASID", "9.4, 9.5", STRUCTURES, "devfn 80h begins"],
  [10, "RID_PASID of requests without PASID", "9.4, 6.2.6", STRUCTURES, "requests without PASID use RID_PASID"],
  [11, "a PASID that equals RID_PASID", "7.1.3", STRUCTURES, "a PASID that equals RID_PASID"],
  [12, "three limits of a PASID, one of RID_PASID", "9.4, 11.4.3", STRUCTURES, "a PASID has three limits"],
  [13, "fields reserved by capability, or ignored by PGTT", "9.4, 9.6", STRUCTURES, "bits 5 and 129"],
  [14, "the width of domain ids", "9.6, 6.5.2", STRUCTURES, "domain-id bits beyond"],
  [15, "address bits above the host address width", "9", STRUCTURES, "address bits from the host address width"],
  [16, "PS and PAT of first-stage entries", "9.7", STAGES, "PS is reserved in a PML4E", "bit 12 of a large leaf"],
  [17, "SNP and PS of second-stage entries", "9.8", STAGES, "SNP is reserved in table entries", "PS is reserved for a size"],
  [18, "reserved bits where nothing is granted", "9.8", STAGES, "reserved bits do not count where"],
  [19, "bits 62 and 61 with and without SSIRWE", "9.8", STRUCTURES, "SSIRWE makes bits 62:61", "without SSIRWE bit 62"],
  [20, "MGAW below AGAW", "3.7", STAGES, "input addresses end at min(MGAW, AW)", "addresses are canonical"],
  [21, "levels that allow nothing together", "3.7.1", STAGES, "levels that allow nothing together"],
  [22, "zero-length reads", "3.7.2, 3.14", STAGES, "zero-length reads pass"],
  [23, "AtomicOps need both rights", "3.7.1", STAGES, "an atomic needs both rights"],
  [24, "one denial, four responses to a translation request", "4.2.3", REQUESTS, "by condition: without rights", "absent PASID structures are no fault"],
  [25, "No Write, and D without a write", "4.2.3", REQUESTS, "without it, D is set though nothing is written", "is ignored without NWFS"],
  [26, "privileged translation requests", "4.2.3", REQUESTS, "privileged requests without SRE"],
  [27, "sizes of completions; pages over the interrupt range", "4.2.3, 3.14", REQUESTS, "sizes: of the leaf", "a page that reaches into"],
  [28, "messages of devices with ATS", "4.2.3", REQUESTS, "messages of devices with translations"],
  [29, "nested: reads that write", "3.8.1", STAGES, "reading a first-stage table needs the right to write", "a first read sets A"],
  [30, "nested: A and D of the pages that hold first-stage tables", "3.8.1", STAGES, "sets second-stage A on the way"],
  [31, "flags on unsnooped walks", "3.10", STAGES, "need a snooped walk when one is missing"],
  [32, "EA", "3.6.2", STAGES, "EAFE sets EA together with A"],
  [33, "a write that hits a clean entry", "3.6.2", STAGES, "a write that hits a clean entry sets D"],
  [34, "A of walks that fault", "3.10.1", STAGES, "A of a walk that faults"],
  [35, "supervisor writes to read-only pages", "3.6.1", STAGES, "write to read-only pages unless WPE"],
  [36, "page-selective type 2", "6.5.2.3", CACHES, "type 2 by page: the range", "paging-structure caches: IH keeps"],
  [37, "type 6", "6.5.2.4", CACHES, "type 6 by PASID: of every kind"],
  [38, "context-cache granularities and FM", "6.5.2.1", CACHES, "scalable mode: by domain is global"],
  [39, "IH=1 after a table changed", "6.5.2.3", CACHES, "IH=1 after a table was replaced"],
  [40, "caching mode", "6.1", CACHES, "an absent legacy context entry", "absent second-stage entries are cached"],
  [41, "fractured entries, and ranges that cover large pages", "6.2.5.2", CACHES, "a range must cover a large page", "large pages may be cached in pieces"],
  [42, "the order of queue errors; the head stays", "6.5.2.10", "invalidation-queue", "corner 42: by mode", "corner 42: errors come in order", "corner 42: a tail write"],
  [43, "time-outs abort waits", "6.5.2.10", "invalidation-queue", "corner 43: a device that never answers", "corner 43: a time-out shows"],
  [44, "completions: counts and wrong tags", "6.5.2.9", "invalidation-queue", "corner 44: are complete after", "corner 44: a tag that is not out"],
  [45, "waits: fence, interrupt, address", "6.5.2.8", "invalidation-queue", "corner 45: a wait writes", "corner 45: a fence"],
  [46, "turning the queue off and on", "6.5.2", "registers", "corner 46: turning the queue off"],
  [47, "events: pending, masked, dropped", "7.3", "registers", "events (corner 47"],
  [48, "overflow of the fault records", "7.2.1", "fault-recorder", "corner 48: an overflow", "corner 48: clearing PFO first", "corner 48: a unit that compresses"],
  [49, "FRI and the index", "7.2.1", "fault-recorder", "corner 49: FRI", "corner 49: the index survives"],
  [50, "fields of a fault record", "11.4.7.6", "fault-recorder", "corner 50: RID_PASID", "corner 50: F is cleared"],
  [51, "page requests: fault, full, overflow", "7.4.1", "page-requests", "corner 51: a full queue", "corner 51: faults are recorded"],
  [52, "implicit invalidation of a page request", "7.4.1", "page-requests", "corner 52:"],
  [53, "stop markers", "7.4", "page-requests", "corner 53: a stop marker"],
  [54, "abort-DMA mode", "11.4.5", "fault-recorder", "corner 54: abort mode"],
  [55, "protected memory", "11.4.8", "registers", "protected memory (corner 55"],
  [56, "interrupt requests, entries and posting", "5.1, 5.2", "interrupt-remapper", "corner 56: the index is handle", "corner 56: x2APIC", "corner 56: compatibility", "posting (corner 56"],
  [57, "FPD of an absent interrupt entry", "9.10", "interrupt-remapper", "corner 57: FPD"],
  [58, "writes to the interrupt range without PASID", "3.14", "interrupt-remapper", "corner 58: a word"],
  [59, "five levels", "3.6, 3.7", STAGES, "five levels: AW=3", "five levels through four"],
  [60, "AW of first-stage entries", "9.6", STRUCTURES, "AW of a first-stage entry"],
  [61, "translated requests after DTE was cleared", "4.2.4", REQUESTS, "need DTE at the time they are made"],
  [62, "requests over the end of a page", "4.2, PCI Express 2.2.7", "corner-cases", "corner 62: each page"],
  [63, "a changed domain id", "6.5.3.3", CACHES, "a changed domain-id leaves entries"],
  [64, "one domain id for two second stages", "6.2.3.1", CACHES, "one domain-id for two second stages"],
  [65, "sizes of device-TLB invalidations", "6.5.2.5", "invalidation-queue", "corner 65: sizes"],
  [66, "CM=1: a PASID entry that appears, and what Linux invalidates", "6.1, 6.2.3.2", "corner-cases", "corner 66: with CM=1"],
];

describe("the corner cases", () => {
  it("are 1 to 66, each with a section", () => {
    expect(INDEX.map(([number]) => number)).toEqual(Array.from({ length: 66 }, (_, i) => i + 1));
    for (const [, , section] of INDEX) expect(section).toMatch(/^\d/);
  });

  it.each(INDEX)("%i, %s (VT-d %s): has its tests in %s", (_number, _what, _section, file, ...tests) => {
    const source = readFileSync(new URL(`${file}.test.ts`, import.meta.url), "utf8");
    // The name is the first argument of a call.
    for (const name of tests) expect(source.split(/\(\s*["`]/).filter((text) => text.startsWith(String(name))).length, `${name} in ${file}`).toBe(1);
  });
});

it("corner 62: each page of a request is judged for itself, and what was allowed before a refusal is done (VT-d 4.2)", () => {
  const bench = new TranslationBench().scalable();
  bench.second(6, PAGE + 9, 1);
  const port = new Bus(bench.memory).connect(RID, bench.unit);
  const bytes = new Uint8Array(64).fill(0x5a);
  const at = BigInt(6 * 4096 - 16);
  expect(port.write(at, bytes)).toEqual({ ok: false, moved: 16 });
  expect(bench.reason()).toBe(0x85);
  expect(bench.memory.readU64((PAGE + 1) * 4096 - 8)).toBe(0x5a5a_5a5a_5a5a_5a5an);
  expect(bench.memory.readU64((PAGE + 9) * 4096)).toBe(0n);
  expect(port.read(at, bytes)).toEqual({ ok: true, moved: 64 });
  expect(bytes[15]).toBe(0x5a);
  expect(bytes[16]).toBe(0);
});

it.each([
  ["wildcard", PAGE],
  ["did0", "fault 59h"],
  ["uncached", PAGE],
] as const)("corner 66: with CM=1 and absentPasids=%s, what Linux does after a PASID entry has appeared gives %s (VT-d 6.1, 6.2.3.2)", (absentPasids, expected) => {
  const bench = new TranslationBench({ fields: { CM: 1 }, policies: { absentPasids } }).scalable({ P: 0 });
  bench.startQueue();
  expect(bench.outcome()).toBe("fault 59h");
  bench.pasid(0, { PGTT: 2, AW: 2, SSPTPTR: AT.SECOND >> 12 });
  // PASID-selective with the new domain id, though the absent entry may stand under DID 0.
  expect(bench.submit(PC_DESCRIPTOR, DescriptorType.PC, { G: 1, DID: 1, PASID: 0 })).toBe(0);
  expect(bench.submit(P_IOTLB_DESCRIPTOR, DescriptorType.P_IOTLB, { G: 2, DID: 1, PASID: 0 })).toBe(0);
  expect(bench.outcome()).toBe(expected);
  // What the manual asks for reaches it in any case.
  expect(bench.submit(PC_DESCRIPTOR, DescriptorType.PC, { G: 1, DID: 0, PASID: 0 })).toBe(0);
  expect(bench.outcome()).toBe(PAGE);
});
